from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from npuvm.isa import yaml_strict
from npuvm.isa.errors import IsaError, NpuvmError
from npuvm.isa.yaml_strict import load_yaml, parse_yaml


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def both_parsers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every case holds for libyaml and for the parser written in Python, which serves where libyaml is missing."""
    loader = getattr(yaml, request.param, None)
    if loader is None:
        pytest.skip("this PyYAML was built without libyaml")
    monkeypatch.setattr(yaml_strict, "_LOADER", loader)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("-12", -12), ("+7", 7), ("0x1F", 31), ("-0x10", -16), ("0b101", 5),
        ("1.5", 1.5), ("-.5", -0.5), ("1e3", 1000.0), ("2.", 2.0), (".inf", math.inf), ("-.inf", -math.inf),
        ("true", True), ("false", False), ("null", None), ("~", None),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("True", "True"), ("y", "y"),
        ("12:30:00", "12:30:00"), ("2026-01-01", "2026-01-01"), ("1/8", "1/8"), ("1_000", "1_000"),
        ("'010'", "010"), ('"true"', "true"), ("''", ""),
    ],
)  # fmt: skip
def test_scalars(text: str, value: object) -> None:
    data = parse_yaml(f"a: {text}").data["a"]
    assert data == value
    assert type(data) is type(value)


def test_nan() -> None:
    assert math.isnan(parse_yaml("a: .nan").data["a"])


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ("a: 1\nb: 2\na: 3\n", "f:3:1", "duplicate key 'a'; it is already on line 1"),
        ("a: {1: x, 0x1: y}\n", "f:1:11", "duplicate key 1"),
        ("a:\n  - 010\n", "f:2:5", "octal"),
        ("a: 0o17\n", "f:1:4", "octal"),
        ("a: &x 1\n", "f:1:4", "anchor &x"),
        ("a: *x\n", "f:1:4", "alias *x"),
        ("a: !!int 3\n", "f:1:4", "tag"),
        ("a: !thing {}\n", "f:1:4", "tag"),
        ("true: 1\n", "f:1:1", "reads as bool; quote it"),
        ("? [1]\n: 2\n", "f:1:3", "not a list"),
        ("a: 1\n---\nb: 2\n", "f:2:1", "more than one document"),
        ("a: [1, 2\nb: 3\n", "f:2", "not valid YAML"),
        ("\ta: 1\n", "f:1", "not valid YAML"),
        ("", "f", "empty"),
        ("# only a comment\n", "f", "empty"),
        ("a: \x07\n", "f", "not valid YAML"),
        ("[" * 200 + "]" * 200, "f:1:66", "nested deeper than 64"),
    ],
)
def test_refused_with_place(text: str, place: str, part: str) -> None:
    with pytest.raises(IsaError) as caught:
        parse_yaml(text, "f")
    assert (caught.value.where or "").startswith(place)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_positions() -> None:
    doc = parse_yaml("a: 1\nb:\n  c: [10, 20]\n  d:\n    - e: 5\n", "file.yaml")
    assert doc.data == {"a": 1, "b": {"c": [10, 20], "d": [{"e": 5}]}}
    assert doc.position_of(("b", "c", 1)) == (3, 11)
    assert doc.line_of(("b", "d", 0, "e")) == 5
    assert doc.line_of(("b", "c", "missing", 4)) == 3
    assert doc.where(("b", "d")) == "file.yaml:4:3"
    assert doc.where(("z",)) == "file.yaml:1:1"


def test_load_names_the_file(tmp_path: Path) -> None:
    class OwnError(NpuvmError):
        pass

    missing = tmp_path / "none.yaml"
    with pytest.raises(OwnError, match="no such file") as caught:
        load_yaml(missing, OwnError)
    assert caught.value.where == str(missing)
    with pytest.raises(OwnError, match="cannot be read"):
        load_yaml(tmp_path, OwnError)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: \xe9\n")
    with pytest.raises(OwnError, match="byte 3 is 0xe9"):
        load_yaml(latin, OwnError)
    latin.write_text("a: \u00e9\n", encoding="utf-8")
    assert load_yaml(latin).data == {"a": "\u00e9"}


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="ascii"), max_size=8)
)
TREES = st.recursive(
    LEAVES,
    lambda kids: (
        st.lists(kids, max_size=3) | st.dictionaries(st.text("abyn01", min_size=1, max_size=3), kids, max_size=3)
    ),
    max_leaves=12,
)


@given(tree=TREES)
def test_reads_back_what_json_writes(tree: object) -> None:
    """JSON is the common subset: quoted text stays text and numbers keep value and type."""
    assert parse_yaml(json.dumps({"root": tree})).data == {"root": tree}

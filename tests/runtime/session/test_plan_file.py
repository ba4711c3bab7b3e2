"""Plan files: what was compiled is there at the next start, and is refused for anything else than it was made for."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.session.models import check, floats, opened, parsed

from npuvm.compiler.frontends.onnx import import_model
from npuvm.runtime.session import Session
from npuvm.runtime.session.errors import SessionError
from npuvm.runtime.session.plan_file import compiler_hash, model_hash

TEXT = """m (float[B, 4] x) => (float[B, 3] y, int64[2, n] found) {
  w = Constant <value = float[4, 3] {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> ()
  p = MatMul(x, w)
  y = Softmax(p)
  found = NonZero(y)
}"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "model.plan"
    _, session = opened(TEXT)
    for batch in (2, 5):
        session.run({"x": floats(batch, 4)})
    assert session.save(path) == 2
    assert [each.name for each in path.parent.iterdir()] == ["model.plan"]
    return path


def test_programs_are_there_at_the_next_start(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = parsed(TEXT)
    session = Session.load(plan, proto, "edge", engine="functional")
    with monkeypatch.context() as patched:
        patched.setattr("npuvm.runtime.device.compile_kernel", _never)
        for batch in (2, 5):
            check(session, proto, {"x": floats(batch, 4, seed=1)})
        assert session._runner.stored is not None
        assert session._runner.stored.used == 2
        with pytest.raises(AssertionError, match="compiled"):
            session.run({"x": floats(3, 4)})
    check(session, proto, {"x": floats(3, 4)})
    assert session.save(plan) == 3


def test_time_is_the_same(plan: Path) -> None:
    loaded, compiled = Session.load(plan, parsed(TEXT), "edge"), Session(parsed(TEXT), "edge")
    feeds = {"x": floats(5, 4)}
    np.testing.assert_array_equal(loaded.run(feeds)["y"], compiled.run(feeds)["y"])
    assert loaded.last.cycles == compiled.last.cycles
    assert [use.operators for use in loaded.profile()] == [use.operators for use in compiled.profile()]


def _never(*_: Any) -> None:
    raise AssertionError("compiled")


@pytest.mark.parametrize(
    ("text", "chip", "options", "message"),
    [
        (TEXT.replace("12}", "13}"), "edge", {}, "another model"),
        (TEXT, "ascend_910b1", {}, "another chip: 'edge "),
        (TEXT, "edge", {"fusion": "none"}, "another fusion: 'pattern', not 'none'"),
    ],
)
def test_what_it_was_not_made_for(plan: Path, text: str, chip: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SessionError, match=message):
        Session.load(plan, parsed(text), chip, **options)


def test_another_compiler(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npuvm.runtime.session.session.compiler_hash", lambda: "0" * 64)
    with pytest.raises(SessionError, match="another compiler"):
        Session.load(plan, parsed(TEXT), "edge")
    assert len(compiler_hash()) == 64


def test_damaged_files(plan: Path, tmp_path: Path) -> None:
    whole = plan.read_bytes()
    broken = tmp_path / "broken.plan"
    for data in (b"", b"text", whole[: len(whole) // 2]):
        broken.write_bytes(data)
        with pytest.raises(SessionError, match="this is no whole plan file"):
            Session.load(broken, parsed(TEXT), "edge")
    with pytest.raises(SessionError, match="cannot be read"):
        Session.load(tmp_path / "nothing.plan", parsed(TEXT), "edge")
    with zipfile.ZipFile(plan) as file:
        stored = json.loads(file.read("plan.json"))
    for change, message in (
        ({"format": 2}, "format 2; allowed: 1"),
        ({"programs": [{}]}, "this is no whole plan file"),
    ):
        with zipfile.ZipFile(broken, "w") as file:
            file.writestr("plan.json", json.dumps(stored | change))
        with pytest.raises(SessionError, match=message):
            Session.load(broken, parsed(TEXT), "edge")


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    session = Session(import_model(parsed(TEXT)), "edge")
    with pytest.raises(SessionError, match="plan files are for ONNX models"):
        session.save(tmp_path / "model.plan")
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match="the plan file cannot be written"):
        opened(TEXT)[1].save(tmp_path / "file" / "model.plan")
    assert model_hash(parsed(TEXT)) == model_hash(parsed(TEXT))

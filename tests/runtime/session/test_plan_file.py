"""Plan files: what was compiled is there at the next start, and is refused for anything else than it was made for."""

from __future__ import annotations

import json
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.session.models import check, floats, opened, parsed

from npuvm.compiler.frontends.onnx import import_model
from npuvm.isa.errors import NpuvmError
from npuvm.runtime.session import Session
from npuvm.runtime.session.errors import SessionError
from npuvm.runtime.session.plan_file import compiler_hash, model_hash, read_plan

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
        patched.setattr("npuvm.runtime.device.device.compile_kernel", _never)
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
        (TEXT, "edge", {"buffering": "single"}, "another buffering: 'auto', not 'single'"),
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


def test_any_damaged_byte_is_told(plan: Path) -> None:
    whole, made_for = plan.read_bytes(), Session(parsed(TEXT), "edge")._made_for()
    rng = np.random.default_rng(0)
    refused = 0
    # What the file says of plan.json, its flags and the method of its compression among that, and bytes from everywhere.
    header = range(whole.rindex(b"plan.json") - 46, whole.rindex(b"plan.json"))
    places = [*header, *rng.integers(len(whole), size=300)]
    for at in places:
        data = bytearray(whole)
        data[at] ^= int(rng.integers(1, 256))
        plan.write_bytes(data)
        try:
            read_plan(plan, made_for)
        except SessionError:
            refused += 1
    assert refused > len(places) / 2


def rewritten(plan: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The plan file with its first program changed."""
    with zipfile.ZipFile(plan) as file:
        held = {name: file.read(name) for name in file.namelist()}
    stored = json.loads(held.pop("plan.json"))
    change(stored["programs"][0])
    with zipfile.ZipFile(plan, "w") as file:
        file.writestr("plan.json", json.dumps(stored))
        for name, data in held.items():
            file.writestr(name, data)


def placed(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(program: Any) -> None:
        for each in path[:-1]:
            program = program[each]
        program[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            placed("tensors", 0, 1, value="input"),
            "programs.0.tensors.0.1: Input should be 'param', 'output' or 'workspace'",
        ),
        (placed("tensors", 0, 2, value="fp7"), "its tensors have one name each, and dtypes that there are"),
        (placed("tensors", 0, 3, value=[-1]), "programs.0.tensors.0.3.0: Input should be greater than or equal to 0"),
        (placed("launches", 0, "args", 0, value="nothing"), "its arguments are tensors, as many as its image takes"),
        (placed("launches", 0, "args", value=[]), "its arguments are tensors, as many as its image takes"),
        (placed("launches", 0, "image", value=99), "this is no whole plan file: 'images/99'"),
        (placed("more", value=1), "programs.0.more: Extra inputs are not permitted"),
    ],
)
def test_what_programs_of_a_file_must_be(plan: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    rewritten(plan, change)
    with pytest.raises(SessionError, match=re.escape(message)):
        Session.load(plan, parsed(TEXT), "edge")


@pytest.mark.parametrize("change", [placed("outputs", value=[]), placed("tensors", 0, 3, value=[9, 9])])
def test_a_program_of_another_region(plan: Path, change: Callable[[dict[str, Any]], None]) -> None:
    rewritten(plan, change)
    session = Session.load(plan, parsed(TEXT), "edge", engine="functional")
    with pytest.raises(SessionError, match="has other tensors than its region"):
        session.run({"x": floats(2, 4)})


def test_damage_gives_an_error_or_the_right_numbers(plan: Path) -> None:
    """Whatever value of a program is another one: a file is never run into numbers that are wrong."""
    whole, rng, feeds = plan.read_bytes(), random.Random(3), {"x": floats(2, 4)}
    wanted = opened(TEXT)[1].run(feeds)["y"]
    outcomes = set()
    for _ in range(60):
        plan.write_bytes(whole)
        rewritten(plan, lambda program: _damage(program, rng))
        try:
            made = Session.load(plan, parsed(TEXT), "edge", engine="functional").run(feeds)["y"]
        except NpuvmError:
            outcomes.add("refused")
        else:
            outcomes.add("right")
            np.testing.assert_array_equal(made, wanted)
    assert outcomes == {"refused", "right"}


def _damage(program: Any, rng: random.Random) -> None:
    """Put something else somewhere into nested lists and dicts."""
    while True:
        keys = list(program) if isinstance(program, dict) else list(range(len(program)))
        key = rng.choice(keys)
        inside = program[key]
        if not isinstance(inside, list | dict) or not inside or rng.random() < 0.2:
            program[key] = rng.choice([None, -1, 0, 1 << 40, "zz", [], {}, 3.5, inside])
            return
        program = inside


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    session = Session(import_model(parsed(TEXT)), "edge")
    with pytest.raises(SessionError, match="plan files are for ONNX models"):
        session.save(tmp_path / "model.plan")
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match="the plan file cannot be written"):
        opened(TEXT)[1].save(tmp_path / "file" / "model.plan")
    assert model_hash(parsed(TEXT)) == model_hash(parsed(TEXT))

"""Evaluations name the code that made them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest

import npuvm.explore.space
from npuvm.explore.evaluation import Evaluation, Evaluator, code_name, keys
from npuvm.explore.space import load_space
from npuvm.isa.resources import data_root


def test_an_evaluation_has_its_code_for_good() -> None:
    space = load_space(data_root() / "configs" / "space" / "tutorial.yaml")
    evaluation = Evaluator(space).evaluate(next(iter(space.points())))
    assert evaluation.code == code_name()
    assert len(evaluation.code) == 12
    assert Evaluation.from_json(evaluation.to_json()).code == code_name()
    older = {name: value for name, value in asdict(evaluation).items() if name != "code"}
    assert Evaluation.from_json(older).code == ""


def test_the_code_is_the_text_of_what_makes_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert npuvm.explore.space in keys._ROOMS
    room = ModuleType("room")
    room.__file__ = str(tmp_path / "room" / "__init__.py")
    module = tmp_path / "room" / "deep" / "module.py"
    module.parent.mkdir(parents=True)
    (tmp_path / "room" / "__init__.py").touch()
    monkeypatch.setattr(keys, "_ROOMS", (room,))
    hashes: set[str] = set()
    for text in ("a = 1", "a = 2", "a = 1"):
        module.write_text(text, encoding="utf-8")
        (tmp_path / "room" / "notes.txt").write_text(f"{len(hashes)}", encoding="utf-8")
        hashes.add(keys.code_hash.__wrapped__())
    module.rename(module.with_name("other.py"))
    hashes.add(keys.code_hash.__wrapped__())
    assert len(hashes) == 3

"""Faults put into the model by hand, one at a time: the program cases must fail, and those that are not concerned must not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from npuvm.hw.conformance import functional_target
from npuvm.hw.expansion import bodies, contexts, expand
from npuvm.hw.functional import execute as functional
from npuvm.isa import functions, load_isa, numerics
from npuvm.isa.conformance import ProgramCase
from npuvm.isa.conformance.judge import judge
from npuvm.isa.conformance.semantics_cube import cube_cases
from npuvm.isa.conformance.semantics_fixpipe import fixpipe_cases
from npuvm.isa.conformance.semantics_memory import memory_cases
from npuvm.isa.conformance.sequence_programs import legal_programs

ISA = load_isa()


def failed(cases: Iterable[ProgramCase]) -> set[str]:
    """Cases that fail, by the second part of their id (the instruction), or the third of a sequence (the program)."""
    target = functional_target()
    wrong = [case.id.split("/") for case in cases if judge(case, target.run(ISA, case)) is not None]
    return {parts[2] if parts[0] == "sequences" else parts[1] for parts in wrong}


@pytest.mark.parametrize(
    ("kind", "taken_for", "programs"),
    [
        ("first", "last", {"matmul", "predicates"}),
        ("last", "first", {"registers", "predicates"}),
        ("not_first", "first", {"masks", "matmul", "predicates"}),
        ("not_last", "not_first", {"nest", "predicates"}),
        ("changed", "changes", {"masks", "reuse", "predicates"}),
        ("changes", "changed", {"masks", "reuse", "predicates"}),
    ],
)
def test_a_predicate_taken_for_another(
    monkeypatch: pytest.MonkeyPatch, kind: str, taken_for: str, programs: set[str]
) -> None:
    right = contexts.predicate_holds

    def wrong(given: str, mask: int, rows: Any) -> Any:
        return right(taken_for if given == kind else given, mask, rows)

    for module in (bodies, expand):
        monkeypatch.setattr(module, "predicate_holds", wrong)
    assert failed(legal_programs()) == programs


def test_a_window_that_ends_a_row_early(monkeypatch: pytest.MonkeyPatch) -> None:
    right = functional._inside

    def wrong(gm: Any, shape: Any, origin: Any) -> Any:
        row, col, rows, cols = right(gm, shape, origin)
        return (row, col, max(0, rows - 1), cols) if rows < shape[0] else (row, col, rows, cols)

    monkeypatch.setattr(functional, "_inside", wrong)
    assert failed(memory_cases(ISA, 1)) == {"ld", "st", "stadd"}


def test_a_pad_that_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functional, "immediate", lambda _bits, dtype: numerics.immediate(0, dtype))
    assert failed(memory_cases(ISA, 1)) == {"ld"}


@pytest.mark.parametrize(
    ("function", "wrong", "cases", "instructions"),
    [
        ("matmul_accumulate", functions.matmul, cube_cases, {"mmac"}),
        ("transpose_tile", lambda t, _, out: numerics.convert(np.resize(t["src"], t["src"].T.shape), out),
         cube_cases, {"mvl0at", "mvl0bt"}),
        ("fixpipe_tile", lambda tiles, _, out: functions.fixpipe_tile(tiles, {}, out), fixpipe_cases, {"fix"}),
        ("fixpipe_add_tile", lambda tiles, _, out: functions.fixpipe_add_tile(tiles, {}, out), fixpipe_cases, {"fixadd"}),
    ],
    ids=["accumulators are lost", "no transpose", "no relu", "no relu before the addition"],
)  # fmt: skip
def test_a_function_that_does_something_else(
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    wrong: functions.TileFunction,
    cases: Callable[..., Iterable[ProgramCase]],
    instructions: set[str],
) -> None:
    def tile_function(name: str, where: str | None = None) -> functions.TileFunction:
        return wrong if name == function else functions.tile_function(name, where)

    monkeypatch.setattr(functional, "tile_function", tile_function)
    assert failed(cases(ISA, 1)) == instructions

"""Formulas as operations on registers: the numbers of the functions that Python makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npuvm.compiler.native.code import AT_ONCE, CodeWriter, Op
from npuvm.compiler.tiles.formula_terms import Term, Value, compile_terms, largest, least, over, pick, same

run = pytest.importorskip("npuvm.compiler.native.run")


def formulas() -> list[Value]:
    """Everything that formulas are made of; what needs no inner variable, and plain numbers."""
    x, y, z = Term("x"), Term("y"), Term("z")
    ordered = Term("sorted(({0}, {1}, {2}, {3}, {4}))", (x, y * z, x + z, 7, z - y))
    odd = Term("{0} % {1} != 0", (x + z, 3))
    cut = -(-x // y) + 7 // largest(y, 3) * 2 - 3
    return [
        cut,
        least(cut, z / 3) + largest(x, z) % 5,
        pick(same(x % 2, 1), z * x, 1 / y),
        over(z, y) + pick(odd, x, 0.5),
        Term("{0}[3]", (ordered,)) + 2 * Term("{0}[4]", (ordered,)),
        x * y,
        z,
        11,
    ]


_SIZES = st.integers(1, 1 << 20)


@settings(max_examples=200, deadline=None)
@given(_SIZES, _SIZES, _SIZES)
def test_registers_have_what_functions_give(x: int, y: int, z: int) -> None:
    values = formulas()
    writer = CodeWriter()
    early, late, results = writer.add(["z"], values)
    places = [writer.variable(name) for name in ("x", "y", "z")]
    rows, registers = writer.code()
    for place, value in zip(places, (x, y, z), strict=True):
        registers[place] = value
    run.run_code(rows, registers, *early)
    run.run_code(rows, registers, *late)
    assert tuple(registers[results]) == compile_terms(["x", "y"], ["z"], values)(x, y)(z)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_SIZES, _SIZES, _SIZES), min_size=AT_ONCE, max_size=AT_ONCE))
def test_lanes_have_what_functions_give(inputs: list[tuple[int, int, int]]) -> None:
    values = [*formulas()[:4], *formulas()[5:]]
    writer = CodeWriter()
    early, late, results = writer.add(["z"], values)
    places = [writer.variable(name) for name in ("x", "y", "z")]
    rows, registers = writer.code()
    lanes = np.repeat(registers[:, np.newaxis], AT_ONCE, axis=1)
    lanes[places] = np.array(inputs, dtype=np.float64).T
    run.run_lanes(rows, lanes, *early)
    run.run_lanes(rows, lanes, *late)
    for lane, (x, y, z) in enumerate(inputs):
        assert tuple(lanes[results, lane]) == compile_terms(["x", "y"], ["z"], values)(x, y)(z)


def test_two_operations_are_one_where_nothing_else_takes_the_first() -> None:
    x, y, z = Term("x"), Term("y"), Term("z")
    product = y * z
    values = [x * y + z, x / y * z, -(-x // y), x + y + z, product + x, product]
    writer = CodeWriter()
    writer.add([], values)
    ops = [Op(op) for op in writer.code().rows[:, 0].tolist()]
    assert ops == [Op.MUL_ADD, Op.DIV_MUL, Op.NEG, Op.NEG_FLOOR_DIV, Op.ADD_ADD, Op.MUL, Op.ADD]


def test_what_needs_no_inner_variable_is_calculated_before() -> None:
    writer = CodeWriter()
    early, late, _ = writer.add(["z"], formulas())
    inner = writer.variable("z")
    rows, _ = writer.code()
    assert early.start < early.stop == late.start < late.stop == len(rows)
    assert inner not in rows[early.start : early.stop, 2:]


def test_formulas_share_variables_but_no_results() -> None:
    writer = CodeWriter()
    first = writer.add(["y"], [Term("x") + Term("y")])[2]
    second = writer.add(["y"], [Term("x") + Term("y"), Term("x") * 2])[2]
    assert set(first).isdisjoint(second)
    assert writer.variable("x") == writer.variable("x", 5.0)


def test_a_text_that_no_kernel_knows_is_refused() -> None:
    with pytest.raises(KeyError, match=r"\{0\} \*\* \{1\}"):
        CodeWriter().add([], [Term("{0} ** {1}", (Term("x"), 2))])

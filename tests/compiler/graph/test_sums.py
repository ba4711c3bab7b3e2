"""Arithmetic on dims: what a table of symbols says must be what Python says for every binding."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npuvm.compiler import CompileError
from npuvm.compiler.graph.sums import Computed, DimTable, Sum, parse_sum, sum_of
from npuvm.compiler.graph.symbols import Derived, Product, product

NAMES = ("A", "B", "C")


@st.composite
def sums(draw: st.DrawFn) -> Sum:
    total = Sum()
    for _ in range(draw(st.integers(0, 4))):
        symbols = draw(st.lists(st.sampled_from(NAMES), max_size=2))
        total += sum_of(1).times(product((draw(st.integers(0, 5)), *symbols)))
        if draw(st.booleans()):
            total -= sum_of(draw(st.integers(0, 9)))
    return total


BINDINGS = st.fixed_dictionaries({name: st.integers(0, 12) for name in NAMES})


@given(sums(), sums(), BINDINGS)
def test_sums_compute(a: Sum, b: Sum, binding: dict[str, int]) -> None:
    left, right = a.value(binding), b.value(binding)
    assert (a + b).value(binding) == left + right
    assert (a - b).value(binding) == left - right
    assert a.times(Product(3, ("B",))).value(binding) == left * 3 * binding["B"]
    assert (a - a).constant() == 0
    assert a + b == b + a
    assert not a.never_negative() or left >= 0


@given(sums())
def test_a_sum_is_read_back_as_it_prints(value: Sum) -> None:
    assert parse_sum(str(value)) == value


@settings(max_examples=200)
@given(sums(), sums(), st.integers(1, 6), BINDINGS)
def test_symbols_stand_for_what_defines_them(a: Sum, b: Sum, divisor: int, binding: dict[str, int]) -> None:
    derived: list[Derived | Computed] = []
    table = DimTable(derived, NAMES)
    results = [
        (table.least(a, b), min(a.value(binding), b.value(binding))),
        (table.most(a, b), max(a.value(binding), b.value(binding))),
        (table.floor_div(a, divisor), a.value(binding) // divisor),
    ]
    values = dict(binding)
    for each in derived:
        assert each.name not in values
        values[each.name] = each.value(values)
    for found, expected in results:
        assert found.value(values) == expected


def test_equal_sizes_have_equal_names() -> None:
    derived: list[Derived | Computed] = []
    table = DimTable(derived, NAMES)
    a, b, two = sum_of("A"), sum_of("B"), sum_of(2)
    assert table.dim(a + two - two) == "A"
    assert table.dim(table.of(table.dim(a + b)) - b) == "A"
    assert table.dim(a + b) == table.dim(b + a)
    assert a - table.most(a - two, Sum()) == table.least(two, a)
    assert table.floor_div((a + sum_of(1)).scaled(2), 2) == a + sum_of(1)
    assert table.floor_div(a + two, 2) - sum_of(1) == table.floor_div(a, 2)
    assert table.least(a, a + two) == a
    assert table.most(a, a + two) == a + two
    assert len(derived) == 3


def test_mistakes() -> None:
    table = DimTable([], NAMES)
    with pytest.raises(CompileError, match="-3 is no size"):
        table.dim(sum_of(-3))
    with pytest.raises(CompileError, match="_0 = sum\\(-3 \\+ A\\): -1 is no size"):
        Computed("_0", "sum", (sum_of("A") - sum_of(3),)).value({"A": 2})
    with pytest.raises(CompileError, match="unknown rule 'mod'"):
        Computed("_0", "mod", (Sum(), Sum()))
    with pytest.raises(CompileError, match="min takes 2 sums, not 1"):
        Computed("_0", "min", (Sum(),))
    for text in ("", "A +", "A * * B", "+", "A - "):
        with pytest.raises(CompileError, match="no sum of products"):
            parse_sum(text)
    assert parse_sum("2 * A - B * C - 3") == parse_sum("-3 + 2 * A + -1 * B * C")

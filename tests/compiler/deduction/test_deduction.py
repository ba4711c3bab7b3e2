"""Facts of symbols: what follows from equalities, and that a guard holds exactly where what it stands for does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from npuvm.compiler.deduction import ANY_SIZE, Contradiction, Deduced, Deduction, Undecided, whole_quotient
from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.sums import Sum, parse_sum, sum_of
from npuvm.compiler.graph.symbols import Product
from npuvm.compiler.graph.types import Dim

NAMES = ("A", "B", "C")


def deduction(*names: str, late: tuple[str, ...] = ()) -> Deduction:
    made = Deduction()
    for name in (*names, *late):
        made.symbol(name)
    made.late |= set(late)
    return made


def until_known(made: Deduction, read: Callable[[], object]) -> None:
    """Read again as long as something new is deduced."""
    for _ in range(20):
        try:
            read()
        except Deduced:
            continue
        except Contradiction:
            if not made.retract():
                raise
        else:
            return
    raise AssertionError("something new is deduced again and again")


def dim(made: Deduction, text: str) -> Dim:
    return made.sizes.dim(made.resolved(parse_sum(text)))


def values(made: Deduction, **sizes: int) -> dict[str, int]:
    for each in made.derived:
        sizes[each.name] = each.value(sizes)
    return sizes


def test_a_symbol_becomes_a_number() -> None:
    made = deduction("K")
    with pytest.raises(Deduced):
        made.equal("K", 768, "matmul")
    assert made.resolve("K") == 768
    assert [str(each) for each in made.required] == ["K == 768"]
    assert made.equal("K", 768, "matmul") == "K"
    with pytest.raises(Contradiction, match="matmul: sizes 768 and 5 must be equal"):
        made.equal("K", 5, "matmul")


def test_the_last_symbol_that_nothing_is_taken_from_is_replaced() -> None:
    made = deduction("P", "T", "S")
    until_known(made, lambda: made.equal(dim(made, "P + S"), "T", "add"))
    assert str(made.resolved(sum_of("T"))) == "P + S"
    made = deduction("A", "B")
    until_known(made, lambda: made.equal("A", "B", "add"))
    assert made.resolve("B") == "A"


def test_what_comes_late_is_replaced_by_what_is_known_before() -> None:
    made = deduction("A", late=("N",))
    until_known(made, lambda: made.equal("A", "N", "concat"))
    assert made.resolve("N") == "A" and not made.required
    made = deduction("A", late=("N",))
    with pytest.raises(Undecided):
        made.broadcast("A", "N", "add")


def test_sizes_that_are_known_in_turn() -> None:
    made = deduction("A", "B", "C")

    def read() -> None:
        made.equal("C", dim(made, "A + B"), "one")
        made.equal("B", dim(made, "2 * A"), "two")
        made.equal("A", 3, "three")

    until_known(made, read)
    assert [made.resolve(name) for name in "ABC"] == [3, 6, 9]


def test_common_factors_are_taken_out() -> None:
    made = deduction("A", "B")
    until_known(made, lambda: made.equal(dim(made, "2 * A + 2"), dim(made, "4 * B"), "op"))
    assert str(made.resolved(sum_of("A"))) == "-1 + 2 * B"
    made = deduction("A", "B")
    until_known(made, lambda: made.equal(dim(made, "3 * A"), 12, "op"))
    assert made.resolve("A") == 4
    made = deduction("A", "B")
    with pytest.raises(Undecided):
        made.equal(dim(made, "3 * A"), dim(made, "2 * B"), "op")


def test_what_no_size_fulfils_is_a_contradiction() -> None:
    made = deduction("A")
    with pytest.raises(Contradiction):
        made.equal(dim(made, "A + 3"), 2, "op")
    with pytest.raises(Contradiction):
        made.broadcast(2, 3, "op")


def test_products_of_dims_of_reshapes() -> None:
    made = deduction("B", "S", "D")
    until_known(made, lambda: made.same_product(("B", "S", "D"), ("B", "S", 12, 64), "reshape"))
    assert made.resolve("D") == 768
    assert [str(each) for each in made.guards] == ["D == 768"]  # of no rows anything holds: read for those sizes
    made = deduction("B", "S")
    made.same_product(("B", 3), ("S", 2), "reshape")
    made.same_product(("B", "S"), ("S", "B"), "reshape")
    assert not made.known


def test_a_multiple_has_a_symbol_for_its_part() -> None:
    made = deduction("D")
    until_known(made, lambda: made.divisible(made.resolved(sum_of("D")), sum_of(12), "split"))
    assert [str(each) for each in made.required] == ["D % 12 == 0"]
    (part,) = made.resolved(sum_of("D")).terms
    assert part.factor == 12 and values(made, D=36)[part.symbols[0]] == 3
    until_known(made, lambda: made.divisible(made.resolved(sum_of("D")), sum_of(24), "split"))
    assert [str(each) for each in made.required][1].endswith("% 2 == 0")


def test_an_assumption_is_taken_back_with_all_that_followed() -> None:
    made = deduction("A", "B")

    def read() -> None:
        made.broadcast("A", 3, "one")
        made.equal("B", "A", "two")
        made.broadcast("A", 5, "three")

    until_known(made, read)
    assert made.resolve("A") == made.resolve("B") == 1
    assert [str(each) for each in made.guards] == ["A == 1"]


def test_the_order_of_sizes() -> None:
    made = deduction("A", "B")
    assert made.order(parse_sum("A"), parse_sum("A + B"))
    assert not made.order(parse_sum("A"), parse_sum("B"))
    least = made.sizes.least(parse_sum("A"), parse_sum("64"))
    assert made.order(least, parse_sum("A")) and made.order(least, parse_sum("A + B"))
    assert made.order(least, parse_sum("64")) and not made.order(parse_sum("A"), least)
    assert made.order(parse_sum("A"), sum_of(ANY_SIZE))
    made.ordered.append(parse_sum("64 - A - B"))
    assert made.sizes.least(parse_sum("A + B"), parse_sum("64")) == parse_sum("A + B")
    assert made.sizes.least(parse_sum("A"), parse_sum("64")) == parse_sum("A")


def test_the_range_of_sums() -> None:
    made = deduction("A", "B")
    assert made.interval(parse_sum("2 * A + 3"), 10) == (3, 23)
    assert made.interval(parse_sum("A - B"), 10) == (-10, 10)
    assert made.interval(parse_sum("A * B"), 10) == (0, 100)
    assert made.interval(made.sizes.least(parse_sum("A"), parse_sum("7")), 10) == (0, 7)
    assert made.interval(made.sizes.floor_div(parse_sum("A + 1"), 2), 10) == (0, 5)


sums = st.lists(
    st.tuples(st.integers(-3, 3), st.lists(st.sampled_from(NAMES), max_size=2)), min_size=1, max_size=3
).map(lambda terms: sum((Sum((Product(f, tuple(sorted(s))),)) for f, s in terms if f), Sum()))


@settings(max_examples=200, deadline=None)
@given(sums, sums)
def test_a_guard_holds_exactly_where_two_dims_are_equal(left: Sum, right: Sum) -> None:
    """What is made of two sums that are to be equal: nothing, a guard, a contradiction, or nothing known."""
    left, right = Sum() + left, Sum() + right
    made = deduction(*NAMES)
    equal = {sizes for sizes in product(range(4), repeat=3) if 0 <= _value(left, sizes) == _value(right, sizes)}
    try:
        until_known(made, lambda: made._same(made.resolved(left), made.resolved(right), "op", made.required))
    except Contradiction:
        assert not equal
        return
    except Undecided:
        return
    for sizes in product(range(4), repeat=3):
        binding = dict(zip(NAMES, sizes, strict=True))
        holds = all(each.holds(binding) for each in (*made.required, *made.guards))
        if holds:
            assert _value(left, sizes) == _value(right, sizes)
        elif sizes in equal:  # only a factor that is 0 makes more of them equal than the guard says
            assert made.guards


def _value(value: Sum, sizes: tuple[int, ...]) -> int:
    return value.value(dict(zip(NAMES, sizes, strict=True)))


@settings(max_examples=200, deadline=None)
@given(sums, st.integers(1, 4), st.lists(st.sampled_from(NAMES), max_size=1))
def test_a_whole_quotient_times_the_divisor_is_the_sum(value: Sum, factor: int, symbols: list[str]) -> None:
    divisor = Product(factor, tuple(symbols))
    top = (Sum() + value).times(divisor)
    assume(top.terms)
    assert whole_quotient(top, Sum((divisor,))) == Sum() + value


@settings(max_examples=100, deadline=None)
@given(sums, st.tuples(*[st.integers(0, 6)] * 3))
def test_a_dim_is_worth_what_its_sum_is(value: Sum, sizes: tuple[int, ...]) -> None:
    """Common factors that are taken out, and put in again, change no value."""
    made = deduction(*NAMES)
    value = Sum() + value
    assume(_value(value, sizes) >= 0 and (value.constant() or 0) >= 0)
    name = made.sizes.dim(value)
    assert made.sizes.of(name) == value
    if isinstance(name, str):
        try:
            found = values(made, **dict(zip(NAMES, sizes, strict=True)))
        except CompileError as error:  # a part of the sum that is below zero
            assert "no size" in str(error)
            return
        assert found[name] == _value(value, sizes)

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuvm.explore.space.constraints import Constraint

NAMES = {"a": 3, "b.c": 0.1, "t": "text", "x": [1, 2]}


def holds(text: str) -> bool:
    return Constraint(text).holds(NAMES.__getitem__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a == 3", True),
        ("b.c == 0.1", True),  # decimals mean themselves
        ("0.1 + 0.2 == 0.3", True),
        ("b.c * 3 == 0.3", True),
        ("a / 2 == 1.5", True),
        ("a // 2 == 1 and a % 2 == 1", True),
        ("1 < a <= 3 < 4", True),
        ("1 < a < 3", False),
        ("a in x or a in [3, 4]", True),
        ("2 not in x", False),
        ("not a == 4", True),
        ("t == 'text' and t != 'other'", True),
        ("(a if t == 'text' else 0) == 3", True),
        ("min(a, 2) + max(a, 5) + abs(-a) == 10", True),
        ("False or a > 1", True),
    ],
)
def test_values(text: str, expected: bool) -> None:
    assert holds(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "().__class__",
        "a.b().c",
        "open('x')",
        "max(*x)",
        "max(x, key=abs)",
        "max()",
        "lambda: 1",
        "[y for y in x]",
        "{y: 1}",
        "x[0]",
        "a ** 99999",
        "a << 99999",
        "a & 1",
        "a := 1",
        "f'{a}'",
        "b'x'",
        "1j",
        "None",
        "...",
        "a is 3",
        "~a",
        "1e999",
        "yield a",
        "await a",
        "",
        "a\x00",
        "a; a",
        "(" * 400 + "1" + ")" * 400,
        "9" * 900 + " > " * 99,
        "a + " * 500 + "a",
    ],
)
def test_what_is_no_constraint(text: str) -> None:
    with pytest.raises(ValueError):
        Constraint(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a / (a - 3) > 1", "a division by 0"),
        ("a // 0 > 1", "a division by 0"),
        ("a % 0 > 1", "a division by 0"),
        ("t > 1", "not supported"),
        ("t * 1000000000 == t", "no arithmetic of numbers"),
        ("x * 1000000000 == x", "no arithmetic of numbers"),
        ("t % a == t", "no arithmetic of numbers"),
        ("a in a", "not iterable"),
        ("-t == t", "bad operand"),
    ],
)
def test_what_has_no_value(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"has no value: .*{reason}"):
        holds(text)


def test_names_are_what_is_read() -> None:
    assert Constraint("core.count * a.b.c > min(x, core.count)").names == ("core.count", "a.b.c", "x")


@given(st.text(max_size=60))
def test_any_text_is_a_constraint_or_is_refused(text: str) -> None:
    try:
        constraint = Constraint(text)
    except ValueError:
        return
    try:
        constraint.holds(lambda _name: 1)
    except ValueError as error:
        assert "has no value" in str(error)


Expression = tuple[str, Callable[[], Any]]

_NUMBERS = st.one_of(
    st.integers(-50, 50).map(lambda n: (f"({n})", lambda: n)),
    st.decimals(-9, 9, places=2).map(lambda d: (f"({d})", lambda: Fraction(str(d)))),
)
_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def _joined(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    def join(left: Expression, sign: str, right: Expression) -> Expression:
        return f"({left[0]} {sign} {right[0]})", lambda: _OPERATORS[sign](left[1](), right[1]())

    return st.builds(join, children, st.sampled_from(sorted(_OPERATORS)), children)


@given(st.recursive(_NUMBERS, _joined, max_leaves=12), st.recursive(_NUMBERS, _joined, max_leaves=12))
def test_arithmetic_is_exact(left: Expression, right: Expression) -> None:
    comparisons = {"<": operator.lt, "==": operator.eq, ">=": operator.ge}
    for sign, compare in comparisons.items():
        assert Constraint(f"{left[0]} {sign} {right[0]}").holds(NAMES.__getitem__) == compare(left[1](), right[1]())

"""Functions that a kernel names, and the instructions that compute them in whatever form."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache

from npuvm.compiler.errors import CompileError
from npuvm.compiler.selection.patterns import Pattern, pattern_table, read_semantics
from npuvm.compiler.selection.real_form import real_form
from npuvm.isa import Isa

__all__ = ["FUNCTIONS", "instructions_named"]

FUNCTIONS: Mapping[tuple[str, str], str] = {
    ("sigmoid", ""): "y = 1 / (1 + exp(-x))",
    ("silu", ""): "y = x / (1 + exp(-x))",
    ("tanh", ""): "y = tanh(x)",
    ("softplus", ""): "y = log(1 + exp(x))",
    ("erf", ""): "y = erf(x)",
    ("gelu", "tanh"): "y = 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x ** 3)))",
    ("gelu", "none"): "y = 0.5 * x * (1 + erf(x * 0.7071067811865476))",
}
"""What an operation of the graph, with its attribute `approximate`, is in real numbers, as a line of semantics."""

_FOUND: dict[str, Mapping[Hashable, tuple[Pattern, ...]]] = {}


def instructions_named(isa: Isa, op: str, approximate: str) -> tuple[Pattern, ...]:
    """Patterns of one tile that are the function in real numbers; how exact they are is another question."""
    found = _FOUND.get(isa.hash)
    if found is None:
        forms: dict[Hashable, list[Pattern]] = {}
        for patterns in pattern_table(isa).operations.values():
            for pattern in patterns:
                if len(pattern.tiles) == 1 and pattern.immediate is None and not pattern.columns:
                    forms.setdefault(real_form(pattern.term), []).append(pattern)
        found = _FOUND[isa.hash] = {form: tuple(each) for form, each in forms.items() if form is not None}
    return found.get(_form_of(op, approximate), ())


@cache
def _form_of(op: str, approximate: str) -> Hashable:
    term = read_semantics(FUNCTIONS[op, approximate], "x", "fp32")
    if term is None:
        raise CompileError(f"{op} {approximate}: no term says '{FUNCTIONS[op, approximate]}'")
    return real_form(term)

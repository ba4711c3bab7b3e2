"""Rules of operators: how one is put into the graph of a region, or computed from sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from npuvm.compiler.frontends.onnx.entries import Entry
    from npuvm.compiler.frontends.onnx.operator import Operator
    from npuvm.compiler.language.value import Value

    Result = Value | Entry | npt.NDArray[np.generic] | None
    Rule = Callable[[Operator], Result | Sequence[Result]]
    SizesRule = Callable[[Operator], npt.NDArray[np.object_] | list[npt.NDArray[np.object_]] | None]

__all__ = ["CONTROL_RULES", "RULES", "SIZE_RULES", "control_rule", "rule", "size_rule"]

T = TypeVar("T")

RULES: dict[tuple[str, str], Rule] = {}
"""By domain ("" for ONNX's own) and type: what puts the operator on the device, or raises Unsupported."""

SIZE_RULES: dict[tuple[str, str], SizesRule] = {}
"""By domain and type: what computes an array of sums that the operator makes of sizes; None where it makes something else."""


CONTROL_RULES: dict[tuple[str, str], Callable[[Operator], None]] = {}
"""By domain and type: what reads the bodies of an operator, and adds its step and its results."""


def rule(*types: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Decorator: the rule of operators, one result for each output or a sequence of them."""
    return _register(RULES, types, domain)


def size_rule(*types: str, domain: str = "") -> Callable[[SizesRule], SizesRule]:
    """Decorator: the rule by which operators compute sizes from sizes."""
    return _register(SIZE_RULES, types, domain)


def control_rule(*types: str, domain: str = "") -> Callable[[Callable[[Operator], None]], Callable[[Operator], None]]:
    """Decorator: the rule of operators that have bodies."""
    return _register(CONTROL_RULES, types, domain)


def _register(table: dict[tuple[str, str], T], types: Sequence[str], domain: str) -> Callable[[T], T]:
    def add(function: T) -> T:
        for each in types:
            if (domain, each) in table:
                raise ValueError(f"operator {domain}.{each} has two rules")
            table[domain, each] = function
        return function

    return add

"""What a kernel permits the compiler to change in its results."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from npuvm.compiler.errors import CompileError

__all__ = ["Allowance"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """Freedoms of rounding; none unless the kernel gives them.

    `contract`: a value between two operations need not be rounded to fp16 or bf16, so that one instruction that rounds once
    may do what several did. `approx_ulp`: tanh, sigmoid, silu, gelu, erf and softplus may be computed by an instruction of
    another form that is off by at most so many units in the last place of the result; 0 for none.
    """

    contract: bool = False
    approx_ulp: float = 0.0

    def __post_init__(self) -> None:
        contract: object = self.contract
        if not isinstance(contract, bool):
            raise CompileError(f"allow: contract must be True or False, not {contract!r}")
        ulp: object = self.approx_ulp
        if isinstance(ulp, bool) or not isinstance(ulp, int | float) or not 0 <= ulp < inf:
            raise CompileError(f"allow: approx_ulp must be a number of units, 0 or more, not {ulp!r}")

    def __str__(self) -> str:
        parts = ["contract"] if self.contract else []
        return ", ".join([*parts, f"approx_ulp = {float(self.approx_ulp)!r}"] if self.approx_ulp else parts)

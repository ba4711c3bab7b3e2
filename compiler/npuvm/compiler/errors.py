"""The error of the compiler's room."""

from __future__ import annotations

from npuvm.isa.errors import NpuvmError

__all__ = ["CompileError"]


class CompileError(NpuvmError):
    """A kernel, a shape or a pin that cannot be compiled; `where` is the source line or the printed operation."""

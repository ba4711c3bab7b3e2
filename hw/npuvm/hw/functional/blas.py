"""One thread for the matrix products of the functional model: tiles are too small to share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


def one_blas_thread() -> AbstractContextManager[Any]:
    """A context in which numpy's BLAS uses one thread.

    On two cores, OpenBLAS with two threads took seven times as long as with one for 128 x 64 x 256 in double precision.
    """
    context: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return context


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    """Found once: looking for the loaded libraries takes milliseconds, setting their threads microseconds."""
    return ThreadpoolController()

"""What the host's processor may be told."""

from __future__ import annotations

from npuvm.hw.compiled.layout import Store

__all__ = ["soon"]


def soon(store: Store, at: int) -> None:
    """A place of a store will be looked at soon: machine code has it fetched into the caches; means nothing in Python."""

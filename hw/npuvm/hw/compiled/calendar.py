"""The engine's calendars: trees in which every node holds the smaller of its children's keys, the root the smallest of all."""

from __future__ import annotations

from npuvm.hw.compiled.layout import (
    Store,
)

__all__ = ["set_key"]


def set_key(W: Store, base: int, leaves: int, leaf: int, key: int) -> None:
    """Give a leaf a new key; node 1 of the tree at `base` is the root, its leaves follow the inner nodes."""
    node = leaves + leaf
    W[base + node] = key
    while node > 1:
        other = W[base + (node ^ 1)]
        if other < key:
            key = other
        node >>= 1
        W[base + node] = key

"""What programs of several instructions ought to cover, listed apart from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from npuvm.isa.model import Isa

__all__ = ["sequence_bins"]

_EVENTS: Mapping[str, tuple[str, ...]] = {
    "ring": ("two-slots", "three-slots", "two-buffers-of-a-slot"),
    "size": ("tail",),
    "wait": ("two-units",),
    "order": ("read-after-write",),
    "usync": ("waits", "sets"),
    "barrier": ("core",),
    "sem": ("again-after-a-barrier",),
}


def sequence_bins(isa: Isa) -> Iterator[str]:
    """Kinds of events, sizes, loops, registers; every predicate."""
    yield from (f"sequences/{what}/{each}" for what, those in _EVENTS.items() for each in those)
    yield from (f"sequences/predicate/{kind}" for kind in isa.predicates if kind != "always")

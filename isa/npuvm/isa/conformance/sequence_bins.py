"""What programs of several instructions ought to cover, listed apart from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from npuvm.isa.model import Isa

__all__ = ["sequence_bins"]

_EVENTS: Mapping[str, tuple[str, ...]] = {
    "ring": ("two-slots", "three-slots", "two-buffers-of-a-slot", "slot-for-several-tiles", "begins-anew"),
    "size": ("tail", "register", "two-loops"),
    "window": ("read", "written"),
    "wait": ("two-units", "two"),
    "set": ("two",),
    "order": ("read-after-write", "accumulators"),
    "usync": ("waits", "sets"),
    "barrier": ("core",),
    "sem": ("again-after-a-barrier", "counts-above-one", "starts-above-zero"),
    "predicate": ("switches-off-signals", "over-no-loop"),
    "grid": ("part-of-the-tiles", "no-tiles", "trip-by-outer-counter"),
    "loop": (
        *("in-a-grid", "eight-deep", "constant", "none", "none-with-a-loop-inside", "tail"),
        *("affine-up", "affine-down", "register", "negative-register"),
    ),
    "desc": ("negative-stride", "register-stride"),
    "register": ("wraps", "predicate"),
}


def sequence_bins(isa: Isa) -> Iterator[str]:
    """Kinds of events, sizes, loops, addresses; every predicate; every register instruction."""
    yield from (f"sequences/{what}/{each}" for what, those in _EVENTS.items() for each in those)
    yield from (f"sequences/predicate/{kind}" for kind in isa.predicates if kind != "always")
    registers = (i for i in isa.instructions.values() if any(spec.name == "rd" for spec in i.operands))
    yield from (f"sequences/register/{instruction.name}" for instruction in registers)

"""The rings of a program image: where each lies, its two semaphores, and the units that give and take its slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npuvm.isa import Image, Insn, Isa, decode_program

__all__ = ["RingEvents", "ring_events"]


@dataclass(frozen=True, slots=True)
class RingEvents:
    """A ring as its program has it.

    `ready` and `free` are numbers of semaphores; `free` begins at `slots`. The `producers` set `ready`, the `consumers` set
    `free`; `waits` and `sets` count the instructions of the program text that wait for or set one of the two.
    """

    number: int
    space: str
    address: int
    slot_bytes: int
    slots: int
    ready: int
    free: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    waits: int
    sets: int


def ring_events(image: Image, isa: Isa) -> tuple[RingEvents, ...]:
    """The rings of an image by number; of one that is set anew in a later phase, as it is first."""
    insns = [insn for _, insn in decode_program(isa, image.words)]
    rings: dict[int, Insn] = {}
    for insn in insns:
        if insn.op == "ring":
            rings.setdefault(insn.args["ring"], insn)
    return tuple(_events(insns, rings[number], isa) for number in sorted(rings))


def _events(insns: Sequence[Insn], ring: Insn, isa: Isa) -> RingEvents:
    number, ready, free = (ring.args[name] for name in ("ring", "ready", "free"))
    # A descriptor of no role names ring 0 too, without being in it.
    homes = [each for each in insns if each.op == "desc" and each.args["role"] and each.args["ring"] == number]
    spaces = {space.code: name for name, space in isa.spaces.items()}
    space = spaces[homes[0].args["space"]] if homes else ""
    return RingEvents(
        number,
        space,
        homes[0].args["base"] if homes else 0,
        ring.args["slot_bytes"],
        ring.args["slots"],
        ready,
        free,
        _units(insns, ready, isa),
        _units(insns, free, isa),
        sum(ready in each.wait or free in each.wait for each in insns),
        sum(ready in each.set or free in each.set for each in insns),
    )


def _units(insns: Sequence[Insn], semaphore: int, isa: Isa) -> tuple[str, ...]:
    """The units whose instructions set a semaphore, in the order of the program."""
    found: dict[str, None] = {}
    names = {code: name for name, code in isa.units.items()}
    for insn in insns:
        if semaphore in insn.set:
            found[names[insn.args["unit"]] if insn.op == "usync" else isa.instruction(insn.op).unit] = None
    return tuple(found)

"""Where in a stripe of UB's bank groups the buffers of a tile program begin, so that operands do not meet in a group.

A stripe is one block of every group. Two tiles that an instruction reads meet in every repeat when they begin in the same
place of a stripe, and never when they begin half a stripe apart. Its result is written some repeats later, when its inputs
have moved on by as many halves.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from npuvm.compiler.vector.buffers import Slot, Storage
from npuvm.compiler.vector.lower import Use, VecInsn, VecProgram
from npuvm.hw.config import NpuConfig

__all__ = ["stagger", "stripe_bytes"]

_READS, _WRITE = 2, 1
"""What a meeting costs: of two reads always, of a write only when it is in the bank of the read."""

_SWEEPS = 4
"""Times that all buffers are looked at; the halves of a program settle in one or two."""


def stripe_bytes(chip: NpuConfig) -> int:
    """Bytes of a stripe; 0 without banks, or when a repeat covers more than half of one and nothing can be gained."""
    banks = chip.core.ub_banks
    stripe = banks.groups * banks.block_bytes if banks is not None else 0
    return stripe if stripe >= 2 * chip.core.vector.repeat_bytes else 0


def stagger(program: VecProgram, storage: Storage, chip: NpuConfig) -> None:
    """Set for each buffer of `storage` whether it begins in the second half of a stripe."""
    storage.stripe = stripe_bytes(chip)
    if not storage.stripe:
        return
    apart = _wishes(program, storage, chip)
    for _ in range(_SWEEPS):
        for number, slot in enumerate(storage.slots):
            pulls = sum(wish if storage.slots[other].half else -wish for other, wish in apart.get(number, {}).items())
            slot.half = int(pulls < 0)


def _wishes(program: VecProgram, storage: Storage, chip: NpuConfig) -> Mapping[int, Mapping[int, int]]:
    """For two buffers, by number, how much they should begin in different halves; negative for the same one."""
    banks = chip.core.ub_banks
    assert banks is not None
    # Writing lags by so many repeats, and every repeat goes on by half a stripe where it covers one.
    same_half = _WRITE if banks.write_delay_cycles % 2 else -_WRITE
    numbers = {id(slot): number for number, slot in enumerate(storage.slots)}
    wishes: dict[int, dict[int, int]] = {}

    def wish(one: Slot, two: Slot, apart: int) -> None:
        for a, b in ((numbers[id(one)], numbers[id(two)]), (numbers[id(two)], numbers[id(one)])):
            if a != b:
                wishes.setdefault(a, {})[b] = wishes.setdefault(a, {}).get(b, 0) + apart

    for insn in program.insns:
        sources = [storage.of[use.reg] for _, use in insn.sources if _is_tile(use, insn, storage)]
        for one, two in combinations(sources, 2):
            wish(one, two, _READS)
        if _is_tile(insn.dst, insn, storage):
            for each in sources:
                wish(storage.of[insn.dst.reg], each, -same_half)
    return wishes


def _is_tile(use: Use, insn: VecInsn, storage: Storage) -> bool:
    """Whether an operand moves on with every repeat, as columns do."""
    return use.how == "plain" and use.reg.shape == insn.shape and insn.shape[1] and use.reg in storage.of

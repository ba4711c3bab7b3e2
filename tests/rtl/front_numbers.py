"""Eight sets of numbers for the front stage, one for each queue depth, at and between a chip's bounds; and durations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from npuvm.hw.config import NpuConfig
from npuvm.hw.rtl.front_compare import Column, Draw, Launch

__all__ = ["NUMBERS", "random_durations", "with_numbers"]

_SEQUENCER = (
    "fetch_words_per_cycle", "fetch_latency_cycles", "prefetch_words", "decode_cycles_per_word", "dispatch_cycles",
    "loop_cycles", "scalar_cycles", "scalar_load_cycles", "barrier_cycles", "start_cycles",
)  # fmt: skip
_SYNC = ("set_to_visible_cycles", "group_cycles", "launch_cycles")

_ROWS = {
    #  fetch        decode, dispatch, loop  scalar, load, barrier, start  visible, group, launch
    1: (1, 1, 8,    1, 0, 1,                0, 0, 0, 0,                   1, 0, 0),
    2: (1, 7, 8,    1, 1, 7,                1, 3, 1, 5,                   2, 1, 2),
    3: (8, 1, 16,   2, 3, 1,                4, 1, 0, 1,                   1, 5, 9),
    4: (3, 2, 9,    1, 0, 5,                2, 20, 3, 0,                  5, 0, 30),
    5: (2, 5, 13,   3, 2, 6,                0, 7, 10, 100,                3, 2, 1),
    6: (4, 3, 16,   1, 1, 3,                1, 50, 2, 3,                  1, 3, 3),
    7: (1, 2, 40,   1, 5, 2,                3, 2, 1, 10,                  4, 0, 0),
    8: (2, 1, 8,    5, 1, 9,                1, 120, 1, 0,                 2, 10, 1),
}  # fmt: skip

NUMBERS: Mapping[int, Mapping[str, int]] = {
    depth: dict(zip((*_SEQUENCER, *_SYNC), row, strict=True)) for depth, row in _ROWS.items()
}
"""Numbers of a chip's front stage by queue depth."""


def with_numbers(launch: Launch, depth: int) -> Launch:
    """The same program on the chip with another front stage."""
    numbers = NUMBERS[depth]
    core = launch.chip.core
    sequencer = {name: numbers[name] for name in _SEQUENCER} | {"queue_depth": depth}
    changed = core.model_copy(
        update={
            "sequencer": core.sequencer.model_copy(update=sequencer),
            "sync": core.sync.model_copy(update={name: numbers[name] for name in _SYNC}),
        }
    )
    # Through the validation, so that every set is one that a chip may have.
    chip = NpuConfig.model_validate(launch.chip.model_copy(update={"core": changed}).model_dump(exclude_unset=True))
    return replace(launch, chip=chip)


def random_durations(seed: int) -> Draw:
    """Short, long and mixed durations; many equal ones, so that instructions of several units end in one cycle."""
    rng = np.random.default_rng(seed)

    def draw(count: int) -> tuple[Column, Column]:
        occupancy = rng.integers(1, rng.choice([2, 4, 12, 60]), count)
        latency = rng.integers(0, rng.choice([1, 5, 40, 200]), count)
        return occupancy.astype(np.int64), latency.astype(np.int64)

    return draw

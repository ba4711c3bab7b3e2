"""What a cycle of a unit can be spent on: the causes of `results.stats.UnitStats`, taken apart into unit, kind and partner."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from npuvm.hw.results.stats import UnitStats

__all__ = ["KINDS", "SEQUENCER", "Cause", "add_up", "split_stats"]

SEQUENCER = "seq"

KINDS: Mapping[str, str] = {
    "busy": "works",
    "bank": "bank conflicts of its operands in UB",
    "memory": "a DMA engine with all its requests in flight",
    "latency": "two units wait for each other: something is on its way between them",
    "wait": "for a semaphore that another unit sets",
    "order": "for the completion of its own instruction before",
    "queue": "its sequencer stands at the full queue of another unit",
    "decode": "its sequencer has not come to its next instruction",
    "sync": "its sequencer drains, meets a barrier or loads a scalar",
    "drain": "the sequencer waits until the units are done",
    "barrier": "the sequencer waits for other cores",
    "scalar_load": "the sequencer waits for a scalar",
    "start": "start of the core: launch and cold fetch",
    "startup": "until its first instruction starts",
    "tail": "from its last instruction to the halt of its core",
    "idle": "no instruction for it in this launch",
    "imbalance": "from the halt of its core to that of the last one",
}
"""Every kind of cause, in the order of tables, and what it means."""

_WAIT = re.compile(r"wait \d+ \((.+)\)")
_BLOCKED = "queue_full:"


class Cause(NamedTuple):
    """Why a unit spent cycles. `other` is the unit that it waited for, empty where there is none."""

    unit: str
    kind: str
    other: str = ""

    @property
    def label(self) -> str:
        """The cause in words: "vector busy", "vector waits for load"."""
        unit, kind, other = self
        if kind == "wait":
            return f"{unit} waits for {other}"
        if kind == "latency":
            return f"latency between {unit} and {other}"
        if kind == "queue" and other:
            return f"{unit} at the full queue of {other}"
        if kind == "imbalance":
            return "imbalance between cores"
        return f"{unit} {kind.replace('_', ' ')}"


def split_stats(unit: str, stats: UnitStats) -> dict[Cause, int]:
    """The cycles of a unit by cause; waits on several semaphores of one producer are one cause. Nothing gets lost."""
    found: dict[Cause, int] = {}
    add_up(found, [(Cause(unit, "busy"), stats.busy)])
    add_up(found, ((_parse(unit, text), cycles) for text, cycles in stats.stalls.items()))
    return found


def add_up(total: dict[Cause, int], parts: Iterable[tuple[Cause, int]]) -> None:
    """Add parts to a total; causes without cycles are left out."""
    for cause, cycles in parts:
        if cycles:
            total[cause] = total.get(cause, 0) + cycles


@cache
def _parse(unit: str, text: str) -> Cause:
    if wait := _WAIT.fullmatch(text):
        return Cause(unit, "wait", wait[1])
    if text.startswith(_BLOCKED):
        return Cause(unit, "queue", text.removeprefix(_BLOCKED))
    if text not in KINDS:
        raise KeyError(f"no kind of cause {text!r}; there are: {', '.join(KINDS)}")
    return Cause(unit, text)

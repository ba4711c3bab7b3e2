"""How long fuzzing goes on: a few examples in the ordinary tests, NPUVM_FUZZ_SECONDS in all when that is set.

NPUVM_FUZZ_SEED repeats a run; without it, a timed run takes a seed of its own and says which.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

SECONDS = float(os.environ.get("NPUVM_FUZZ_SECONDS", "0"))
SEED = int(os.environ.get("NPUVM_FUZZ_SEED", str(time.time_ns() % (1 << 32) if SECONDS else 0)))
_ROUND = 200
"""Examples of one turn of hypothesis; between turns the time is looked at."""


@dataclass
class Campaign:
    """What fuzzing one target came to: executions by outcome, and the seconds they took."""

    name: str
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)


CAMPAIGNS: list[Campaign] = []
"""One for each target that was run, for the summary."""


def fuzz(
    name: str, values: st.SearchStrategy[Any], target: Callable[[Any], str], examples: int, share: float
) -> Campaign:
    """Give `target` values until `examples` are used up or, in a timed run, this target's `share` of the time is over.

    The target names the outcome and raises when a property does not hold; hypothesis then shrinks the value.
    """
    campaign = Campaign(name)
    CAMPAIGNS.append(campaign)

    def run(value: Any) -> None:
        campaign.outcomes[target(value)] += 1

    began = time.monotonic()
    turn = 0
    while not turn or campaign.seconds < SECONDS * share:
        quiet = settings(
            max_examples=_ROUND if SECONDS else examples,
            database=None,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        )
        seed(SEED + turn)(quiet(given(values)(run)))()
        turn += 1
        campaign.seconds = time.monotonic() - began
    return campaign

"""What `npuvm explore` shows while it searches: how far it is, and the front so far."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from npuvm.explore.results.entry import Entry
from npuvm.explore.results.front import front_entries
from npuvm.explore.results.tables import front_table

if TYPE_CHECKING:
    from npuvm.explore.study import Study

__all__ = ["SearchProgress"]

SHOWN = 8
"""Points of the front that are shown while the search goes on."""

LINE_SECONDS = 30.0
"""Without a terminal a line is written so often."""

_SPEED_SECONDS = 600.0
"""What the time that is left is estimated from."""


class SearchProgress:
    """A bar with what is done and left, over the best points so far; in a file or a pipe a line now and then."""

    def __init__(
        self,
        study: Study,
        wanted: int,
        *,
        enabled: bool = True,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._space = study.space
        self._wanted = wanted
        self._enabled = enabled
        self._clock = clock
        self._console = console or Console(stderr=True)
        known = study.evaluated()
        self._states = Counter(entry.evaluation.state for entry in known)
        self._front = list(front_entries(self._space, known))
        self._begin = self._said = clock()
        self._added = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[states]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            speed_estimate_period=_SPEED_SECONDS,
            console=self._console,
        )
        self._task = self._progress.add_task(
            self._space.name, total=wanted, completed=min(len(known), wanted), states=self._told()
        )
        self._live: Live | None = None

    def __enter__(self) -> SearchProgress:
        if self._enabled and self._console.is_terminal:
            self._live = Live(get_renderable=self._shown, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Show nothing more."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def add(self, entry: Entry) -> None:
        """Another point was evaluated."""
        self._added += 1
        self._states[entry.evaluation.state] += 1
        if entry.evaluation.state == "done":
            self._front = list(front_entries(self._space, [*self._front, entry]))
        self._progress.update(self._task, advance=1, states=self._told())
        if self._enabled and self._live is None and self._clock() - self._said >= LINE_SECONDS:
            self._said = self._clock()
            done = sum(self._states.values())
            self._console.print(f"{self._space.name}: {done} of {self._wanted} points, {self._told()}", highlight=False)

    def _told(self) -> str:
        parts = [f"{self._states[state]} {state.replace('_', ' ')}" for state in ("pruned", "over_budget", "failed")]
        minutes = (self._clock() - self._begin) / 60
        rate = f"{self._added / minutes:.0f} a minute" if self._added and minutes > 0 else ""
        return ", ".join(part for part in (*parts, rate) if part)

    def _shown(self) -> RenderableType:
        if not self._front:
            return self._progress
        return Group(self._progress, front_table(self._space, self._front, SHOWN, self._states))

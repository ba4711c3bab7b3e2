"""The checker against a plain definition: a graph of starts and completions, its closure, and bytes as sets."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hw.engine_kit import Row, execute, make_stream

from npuvm.hw.expansion.stream import Barrier, Region
from npuvm.hw.hazards import HazardChecker

Step: TypeAlias = Row | str
"""An instruction, or the scope of a barrier."""
Event: TypeAlias = tuple[str, int, int]
"""Start or completion of an instruction: which, core, place in its program."""

UNITS, ROLES = ("load", "vector", "move"), ("read", "write")
OWN, GROUP_WIDE = (0, 1, 2), (40, 41)
TIMES = st.integers(1, 30)


Ends: TypeAlias = dict[tuple[int, int], tuple[tuple[int, str], tuple[int, str]]]
"""By scope (the core, or -1 for the group) and number of a semaphore: the (core, unit) that sets it and that which waits."""


@st.composite
def launches(draw: st.DrawFn) -> list[list[Step]]:
    """Programs of one or two cores of a group that do not deadlock: the order in which they are drawn is one to run in."""
    cores = draw(st.integers(1, 2))
    anyone = st.tuples(st.integers(0, cores - 1), st.sampled_from(UNITS))
    ends: Ends = {(-1, number): (draw(anyone), draw(anyone)) for number in GROUP_WIDE}
    for core, number in product(range(cores), OWN):
        setter, waiter = draw(st.tuples(st.sampled_from(UNITS), st.sampled_from(UNITS)))
        ends[core, number] = ((core, setter), (core, waiter))
    counts = dict.fromkeys(ends, 0)
    made: list[list[Step]] = [[] for _ in range(cores)]
    for core in draw(st.lists(st.integers(0, cores - 1), min_size=2, max_size=14)):
        kind = draw(st.integers(0, 19))
        if kind == 0:
            made[core].append("core")
        elif kind == 1:
            for steps in made:
                steps.append("group")
        else:
            made[core].append(draw(rows(core, ends, counts)))
    return made


@st.composite
def rows(draw: st.DrawFn, core: int, ends: Ends, counts: dict[tuple[int, int], int]) -> Row:
    """An instruction that waits for nothing but what was set before it."""
    unit = draw(st.sampled_from(UNITS))
    mine = [[key for key in ends if ends[key][side] == (core, unit)] for side in (0, 1)]
    sets = [key for key in mine[0] if draw(st.booleans())][:2]
    waits = [key for key in mine[1] if counts[key] and draw(st.booleans())][:2]
    for keys, change in ((waits, -1), (sets, 1)):
        for key in keys:
            counts[key] += change
    # The tiles of an instruction share the size columns, so they have one shape.
    n_rows, cols = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    pitch = cols + draw(st.integers(0, 4))
    tiles = [
        ("ub", draw(st.integers(0, 12)), n_rows, cols, pitch, draw(st.sampled_from(ROLES)))
        for _ in range(draw(st.integers(0, 2)))
    ]
    waiting, setting = (tuple(number for _, number in keys) for keys in (waits, sets))
    return Row(unit, draw(TIMES), draw(TIMES), 1, waiting, setting, draw(st.booleans()), tiles=tuple(tiles))


def successors(cores: list[list[Step]]) -> dict[Event, set[Event]]:
    """What each event surely comes before, at once."""
    after: dict[Event, set[Event]] = {}
    signalled: dict[tuple[int, int], list[Event]] = {}
    taken: dict[tuple[int, int], list[Event]] = {}
    for core, steps in enumerate(cores):
        last: dict[str, int] = {}
        for at, step in enumerate(steps):
            if not isinstance(step, Row):
                continue
            start, done = ("start", core, at), ("done", core, at)
            after.setdefault(start, set()).add(done)
            after.setdefault(done, set())
            if step.unit in last:
                before = last[step.unit]
                after["start", core, before].add(start)
                after["done", core, before].add(done)
                if step.order:
                    after["done", core, before].add(start)
            last[step.unit] = at
            for log, numbers, event in ((signalled, step.sets, done), (taken, step.waits, start)):
                for number in numbers:
                    log.setdefault((-1 if number in GROUP_WIDE else core, number), []).append(event)
    for key, events in taken.items():
        for giver, taker in zip(signalled.get(key, []), events, strict=False):
            after[giver].add(taker)
    for core, steps in enumerate(cores):
        for at, step in enumerate(steps):
            if not isinstance(step, str):
                continue
            members = range(len(cores)) if step == "group" else [core]
            nth = sum(other == step for other in steps[:at] if isinstance(other, str))
            for member in members:
                place = [i for i, other in enumerate(cores[member]) if other == step][nth] if step == "group" else at
                for i in range(at):
                    if isinstance(steps[i], Row):
                        later = [j for j in range(place, len(cores[member])) if isinstance(cores[member][j], Row)]
                        after["done", core, i] |= {("start", member, j) for j in later}
    return after


def touched(row: Row, role: str) -> set[int]:
    found = set()
    for _, address, n_rows, cols, pitch, its_role in row.tiles:
        if its_role == role:
            found |= {address + r * pitch + c for r in range(n_rows) for c in range(cols)}
    return found


def unordered(cores: list[list[Step]]) -> set[tuple[int, int]]:
    """Places of two instructions of one core that conflict and are in no order."""
    after = successors(cores)
    reach: dict[Event, set[Event]] = {}

    def reached(event: Event) -> set[Event]:
        if event not in reach:
            reach[event] = set()
            for following in after[event]:
                reach[event] |= {following} | reached(following)
        return reach[event]

    found = set()
    for core, steps in enumerate(cores):
        for (i, one), (j, other) in combinations([(i, s) for i, s in enumerate(steps) if isinstance(s, Row)], 2):
            raw = touched(one, "write") & touched(other, "read")
            rest = touched(one, "read") & touched(other, "write") | touched(one, "write") & touched(other, "write")
            conflict = raw if one.unit == other.unit else raw | rest
            in_order = ("start", core, j) in reached(("done", core, i)) or ("start", core, i) in reached(
                ("done", core, j)
            )
            if conflict and not in_order:
                found.add((i, j))
    return found


@settings(max_examples=100, deadline=None)
@given(launches())
def test_hazards_are_the_conflicts_that_the_graph_leaves_in_no_order(cores: list[list[Step]]) -> None:
    checker = HazardChecker(collect=True)
    execute([regions_of(steps) for steps in cores], groups=[0] * len(cores), hazards=checker)
    assert {(h.earlier.pc, h.later.pc) for h in checker.found} == unordered(cores)


def regions_of(steps: list[Step]) -> list[Region]:
    """Instructions stand at the word of their place."""
    result: list[Region] = []
    for at, step in enumerate(steps):
        if isinstance(step, str):
            result.append(Barrier(1, "core" if step == "core" else "group", at))
        else:
            stream = make_stream([step])
            result.append(replace(stream, sites=(replace(stream.sites[0], pc=at),)))
    return result

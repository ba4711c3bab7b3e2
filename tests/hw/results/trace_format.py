"""A checker of the Chrome trace event format, written from its description ("Trace Event Format", Google, 2016).

The object form, and of the phases complete (X), duration (B, E), instant (i), counter (C), flow (s, t, f) and metadata (M)
events. It knows nothing of what the events of npuvm mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

__all__ = ["trace_problems"]

Event: TypeAlias = Mapping[str, Any]

REQUIRED = {
    "X": ("name", "ts", "dur", "pid", "tid"),
    "B": ("name", "ts", "pid", "tid"),
    "E": ("ts", "pid", "tid"),
    "i": ("name", "ts", "pid", "tid"),
    "C": ("name", "ts", "pid", "args"),
    "s": ("name", "ts", "pid", "tid", "id", "cat"),
    "t": ("name", "ts", "pid", "tid", "id", "cat"),
    "f": ("name", "ts", "pid", "tid", "id", "cat"),
    "M": ("name", "pid", "args"),
}
"""Keys of each phase beside `ph`."""

METADATA = {
    "process_name": ("name", str),
    "process_labels": ("labels", str),
    "process_sort_index": ("sort_index", int),
    "thread_name": ("name", str),
    "thread_sort_index": ("sort_index", int),
}
"""Names that metadata events may have, with the one argument of each."""


def _is_number(value: object) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and value == value
        and abs(value) != float("inf")
    )


TYPES: Mapping[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str) and bool(value),
    "cat": lambda value: isinstance(value, str),
    "ts": lambda value: _is_number(value) and value >= 0,
    "dur": lambda value: _is_number(value) and value >= 0,
    "pid": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "tid": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "id": lambda value: isinstance(value, (int, str)) and not isinstance(value, bool),
    "args": lambda value: isinstance(value, dict),
}


def trace_problems(trace: Any) -> list[str]:
    """What is wrong with a trace, a line each; empty for a good one."""
    if not isinstance(trace, dict) or not isinstance(trace.get("traceEvents"), list):
        return ["a trace is an object with a list `traceEvents`"]
    found = []
    if trace.get("displayTimeUnit", "ms") not in ("ms", "ns"):
        found.append(f"displayTimeUnit is {trace['displayTimeUnit']!r}; allowed are 'ms' and 'ns'")
    events = trace["traceEvents"]
    for number, event in enumerate(events):
        found += [f"event {number}: {problem}" for problem in _event_problems(event)]
    if not found:
        found += [*_nesting_problems(events), *_flow_problems(events), *_naming_problems(events)]
    return found


def _event_problems(event: Any) -> Iterator[str]:
    """Keys and types of one event."""
    if not isinstance(event, dict):
        yield "is no object"
        return
    phase = event.get("ph")
    if phase not in REQUIRED:
        yield f"phase {phase!r} is none of {', '.join(REQUIRED)}"
        return
    for key in REQUIRED[phase]:
        if key not in event:
            yield f"phase {phase} without {key!r}"
    for key, holds in TYPES.items():
        if key in event and not holds(event[key]):
            yield f"{key!r} is {event[key]!r}"
    args = event.get("args", {})
    if phase == "C" and not (args and all(_is_number(value) for value in args.values())):
        yield f"a counter's arguments are numbers, not {args!r}"
    if phase == "M":
        yield from _metadata_problems(event, args)
    if "bp" in event and not (phase in "stf" and event["bp"] == "e"):
        yield f"binding point {event['bp']!r} in phase {phase}"


def _metadata_problems(event: Event, args: Mapping[str, Any]) -> Iterator[str]:
    argument, kind = METADATA.get(event.get("name", ""), (None, object))
    if argument is None:
        yield f"metadata is named one of {', '.join(METADATA)}, not {event.get('name')!r}"
    elif not isinstance(args.get(argument), kind):
        yield f"{event['name']} needs an argument {argument!r} of {kind.__name__}"


def _nesting_problems(events: list[Event]) -> Iterator[str]:
    """Slices of one thread lie beside each other or inside each other; B and E come in pairs."""
    threads: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    open_slices: dict[tuple[int, int], int] = defaultdict(int)
    for event in events:
        thread = event["pid"], event.get("tid", 0)
        if event["ph"] == "X":
            threads[thread].append((event["ts"], event["ts"] + event["dur"]))
        elif event["ph"] in "BE":
            open_slices[thread] += 1 if event["ph"] == "B" else -1
            if open_slices[thread] < 0:
                yield f"thread {thread}: E without B at {event['ts']}"
    yield from (f"thread {thread}: {count} B without E" for thread, count in open_slices.items() if count > 0)
    for thread, slices in threads.items():
        around: list[float] = []
        for start, end in sorted(slices, key=lambda each: (each[0], -each[1])):
            while around and around[-1] <= start:
                around.pop()
            if around and end > around[-1]:
                yield f"thread {thread}: the slice from {start} to {end} crosses the end of another at {around[-1]}"
            around.append(end)


def _flow_problems(events: list[Event]) -> Iterator[str]:
    """Each flow has one start, one end, not in that order reversed, and both lie on a slice of their thread."""
    slices: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    flows: dict[tuple[str, str, Any], dict[str, list[Event]]] = defaultdict(lambda: defaultdict(list))
    for event in events:
        if event["ph"] == "X":
            slices[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        elif event["ph"] in "stf":
            flows[event["cat"], event["name"], event["id"]][event["ph"]].append(event)
    for key, phases in flows.items():
        if len(phases["s"]) != 1 or len(phases["f"]) != 1:
            yield f"flow {key}: {len(phases['s'])} starts and {len(phases['f'])} ends; needed is one of each"
            continue
        start, end = phases["s"][0], phases["f"][0]
        if end["ts"] < start["ts"]:
            yield f"flow {key}: ends at {end['ts']}, before its start at {start['ts']}"
        for event in (start, end):
            lies_on = slices[event["pid"], event["tid"]]
            if not any(begin <= event["ts"] <= stop for begin, stop in lies_on):
                yield f"flow {key}: no slice at {event['ts']} of thread {event['pid'], event['tid']}"


def _naming_problems(events: list[Event]) -> Iterator[str]:
    """Each process and thread with events has one name; counters of a process have names of their own keys."""
    names: dict[tuple[str, int, int], int] = defaultdict(int)
    for event in events:
        if event["ph"] == "M" and event["name"] in ("process_name", "thread_name"):
            names[event["name"], event["pid"], event["tid"] if event["name"] == "thread_name" else 0] += 1
    yield from (f"{name} of {pid}, {tid} is given {n} times" for (name, pid, tid), n in names.items() if n > 1)
    for pid in sorted({event["pid"] for event in events}):
        if ("process_name", pid, 0) not in names:
            yield f"process {pid} has no name"
    for pid, tid in sorted({(event["pid"], event["tid"]) for event in events if event["ph"] == "X"}):
        if ("thread_name", pid, tid) not in names:
            yield f"thread {tid} of process {pid} has no name"

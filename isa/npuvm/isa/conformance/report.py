"""What a run of the suite found: cases, failures and coverage by level, and as plain data for JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from npuvm.isa.conformance.cases import Failure
from npuvm.isa.conformance.target import Level

__all__ = ["FORMAT", "Group", "LevelReport", "Report", "SuiteOptions", "coverage_by_field"]

FORMAT = "npuvm-conformance-1"
"""Names the form of `Report.as_json`."""

KEPT_FAILURES = 1000
"""Failures of a level that are kept with their text; the others are counted."""


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """`levels` to run (None: all that the target has), number of random `words` of level classes, `seed` of all chance."""

    levels: frozenset[Level] | None = None
    words: int = 50_000
    seed: int = 1


@dataclass(slots=True)
class Group:
    """Cases of one instruction, or one program: how many, and how many of them failed."""

    cases: int = 0
    failed: int = 0


@dataclass
class LevelReport:
    """One level. `skipped` says why it did not run. `words` counts those that the target was given to decode, `values` the
    elements of the results that were compared.

    `covered` are the bins of which a case ran and none failed; `uncovered` gives for each other bin the reason; `unlisted` are
    bins that a case names and no list of bins has, which is a mistake in the suite. `left_out` are the programs that did not
    run for what the instruction set does not have, with what that is.
    """

    level: Level
    skipped: str | None = None
    groups: dict[str, Group] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    covered: set[str] = field(default_factory=set)
    uncovered: dict[str, str] = field(default_factory=dict)
    unlisted: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)
    words: int = 0
    values: int = 0
    seconds: float = 0.0
    _hit: set[str] = field(default_factory=set, repr=False)
    _missed: set[str] = field(default_factory=set, repr=False)
    _lacking: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def cases(self) -> int:
        """Cases that ran."""
        return sum(group.cases for group in self.groups.values())

    @property
    def failed(self) -> int:
        """Cases that failed, whether or not their text was kept."""
        return sum(group.failed for group in self.groups.values())

    @property
    def passed(self) -> int:
        """Cases that ran and did not fail."""
        return self.cases - self.failed

    @property
    def bins(self) -> int:
        """Bins of the level."""
        return len(self.covered) + len(self.uncovered)

    @property
    def derived(self) -> int:
        """Bins whose expected values come from the stanza's own expression, evaluated a second time, not from an oracle."""
        names = (*self.covered, *self.uncovered)
        return sum(1 for name in names if name.split("/")[-1].startswith("derived-"))

    @property
    def reasons(self) -> dict[str, int]:
        """What the instruction set does not have -> how many programs were left out for it."""
        return dict(Counter(self.left_out.values()))

    def add(self, group: str, bins: Iterable[str], failure: Failure | None) -> None:
        """Count a case that ran."""
        counted = self.groups.setdefault(group, Group())
        counted.cases += 1
        if failure is None:
            self._hit.update(bins)
            return
        counted.failed += 1
        self._missed.update(bins)
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(replace(failure, group=group))

    def leave_out(self, case: str, bins: Iterable[str], reason: str) -> None:
        """Note a program that did not run because the instruction set does not have what it uses."""
        self.left_out[case] = reason
        self._lacking |= dict.fromkeys(bins, f"{case} was left out: {reason}")

    def close(self, bins: Iterable[str]) -> None:
        """Sort the level's bins into covered and not."""
        listed = set(bins)
        self.unlisted = (self._hit | self._missed | self._lacking.keys()) - listed
        self.covered = (self._hit - self._missed) & listed
        for name in sorted(listed - self.covered):
            unseen = self._lacking.get(name, "no case covers it")
            self.uncovered[name] = "a case of it failed" if name in self._missed else unseen


@dataclass(frozen=True)
class Report:
    """A run of the suite: what was tested, with which options, and its levels in order. `notes` are remarks for a reader."""

    isa: str
    isa_hash: str
    extensions: tuple[str, ...]
    target: str
    options: SuiteOptions
    levels: tuple[LevelReport, ...]
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """Cases that failed, over all levels."""
        return sum(level.failed for level in self.levels)

    @property
    def cases(self) -> int:
        """Cases that ran, over all levels."""
        return sum(level.cases for level in self.levels)

    @property
    def ok(self) -> bool:
        """Whether nothing failed and something ran, in every level that was not skipped: no case is no pass."""
        ran = [level for level in self.levels if level.skipped is None]
        return bool(ran) and all(level.cases and not level.failed for level in ran)

    def level(self, level: Level) -> LevelReport:
        """The report of one level; KeyError when it was not asked for."""
        for report in self.levels:
            if report.level is level:
                return report
        raise KeyError(level.value)

    def as_json(self) -> dict[str, Any]:
        """The report as plain data; `format` names its form."""
        return {
            "format": FORMAT,
            "isa": self.isa,
            "isa_hash": self.isa_hash,
            "extensions": list(self.extensions),
            "target": self.target,
            "seed": self.options.seed,
            "random_words": self.options.words,
            "ok": self.ok,
            "notes": list(self.notes),
            "levels": [_level_json(level) for level in self.levels],
        }


def coverage_by_field(level: LevelReport) -> dict[str, dict[str, tuple[int, int]]]:
    """Instruction -> field (or type, for a level that runs programs) -> bins covered and bins in all."""
    result: dict[str, dict[str, tuple[int, int]]] = {}
    for name in sorted(level.covered | level.uncovered.keys()):
        _, instruction, part = name.split("/")[:3]
        covered, total = result.setdefault(instruction, {}).get(part, (0, 0))
        result[instruction][part] = (covered + (name in level.covered), total + 1)
    return result


def _level_json(level: LevelReport) -> dict[str, Any]:
    return {
        "level": level.level.value,
        "skipped": level.skipped,
        "cases": level.cases,
        "passed": level.passed,
        "failed": level.failed,
        "words": level.words,
        "values": level.values,
        "seconds": round(level.seconds, 3),
        "bins": {"covered": len(level.covered), "total": level.bins, "derived": level.derived},
        "uncovered": level.uncovered,
        "left_out": level.left_out,
        "coverage": coverage_by_field(level),
        "groups": {name: {"cases": group.cases, "failed": group.failed} for name, group in level.groups.items()},
        "failures": [{"case": f.case, "expected": f.expected, "got": f.got} for f in level.failures],
    }

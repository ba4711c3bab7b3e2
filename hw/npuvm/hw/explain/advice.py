"""Advice on a breakdown: the rules that apply, the one that bounds the launch first."""

from __future__ import annotations

from dataclasses import dataclass

from npuvm.hw.config import NpuConfig
from npuvm.hw.explain.breakdown import LaunchBreakdown
from npuvm.hw.explain.facts import Facts
from npuvm.hw.explain.rules import RULES, Rule

__all__ = ["Advice", "advise"]

NO_RULE = "none"

SMALL_LOSS = 0.2
"""Losses below this share bound nothing: the first line then names the largest part of the stack."""


@dataclass(frozen=True)
class Advice:
    """One line: the rule that gives it, its kind ("limit" or "loss"), what it measured (0 to 1) and its text."""

    rule: str
    kind: str
    share: float
    text: str


def advise(chip: NpuConfig, breakdown: LaunchBreakdown, stream_us: float | None = None) -> tuple[Advice, ...]:
    """What bounds the launches and what would help, the weightiest first: limits before losses, then by share.

    `stream_us` is the simulated time of the launches with the host's dispatch between them. There is always a line: without a
    limit or a loss that matters the first is of the rule "none" and names the largest part of the stack.
    """
    if not breakdown.cycles or not breakdown.stack:
        return (Advice(NO_RULE, "loss", 0.0, "no cycles, nothing to explain"),)
    facts = Facts(chip, breakdown, stream_us)
    found = [(rule, rule.measure(facts)) for rule in RULES]
    spoken = sorted(
        ((rule, share) for rule, share in found if share >= rule.threshold),
        key=lambda pair: (pair[0].kind != "limit", -pair[1]),
    )
    lines = tuple(_line(facts, rule, share) for rule, share in spoken)
    if any(line.kind == "limit" or line.share >= SMALL_LOSS for line in lines):
        return lines
    return (_largest_part(breakdown), *lines)


def _line(facts: Facts, rule: Rule, share: float) -> Advice:
    return Advice(rule.name, rule.kind, share, rule.says(facts, share))


def _largest_part(breakdown: LaunchBreakdown) -> Advice:
    cause, cycles = next(iter(breakdown.stack.items()))
    share = cycles / breakdown.core_cycles
    return Advice(
        NO_RULE, "loss", share, f"no single bound: the largest part is {cause.label} with {share:.0%} of the cycles"
    )

"""The cores of a launch: their types, their groups, the barriers at which they meet."""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.isa.verifier.program import Barrier
from npuvm.isa.verifier.report import CapacityLimits, Findings

__all__ = ["check_barriers", "check_count", "groups_of"]


def check_count(
    types: Sequence[str], number: int, counts: dict[str, int], limits: CapacityLimits, findings: Findings
) -> None:
    """The chip has a core for entry `number`; `counts` are cores by type so far."""
    core_type = types[number]
    allowed = limits.cores.get(core_type, 0)
    counts[core_type] = counts.get(core_type, 0) + 1
    if counts[core_type] > allowed:
        findings.fatal("entry", f"entry {number} is {core_type} core {counts[core_type]}; the chip has {allowed}")


def groups_of(types: Sequence[str], limits: CapacityLimits, findings: Findings) -> list[int]:
    """The group of each entry: whole groups in order, or cores of one type, as many to a group as it has of them."""
    present = set(types)
    member = tuple(each for each in limits.group if each in present)
    for number, core_type in enumerate(types):
        if core_type != member[number % len(member)]:
            message = f"entry {number} is {core_type}; allowed in a group: {', '.join(member)}, in this order"
            findings.fatal("entry", message)
    return [number // len(member) for number in range(len(types))]


def check_barriers(groups: Sequence[int], barriers: Sequence[Sequence[Barrier]], findings: Findings) -> None:
    """Cores of a group meet at the same group and launch barriers, all cores at the same launch barriers."""
    for scope, seen in (("group", ("group", "launch")), ("launch", ("launch",))):
        first: dict[int, list[Barrier]] = {}
        for group, own in zip(groups, barriers, strict=True):
            met = [each for each in own if each.scope in seen]
            expected = first.setdefault(group if scope == "group" else 0, met)
            if [b.scope for b in met] != [b.scope for b in expected]:
                more = max(met, expected, key=len)[-1]
                message = f"cores of a {scope} meet {len(met)} and {len(expected)} times; allowed: the same barriers"
                findings.fatal("barrier", message, more.pc, more.insn)

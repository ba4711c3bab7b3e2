"""Which semaphores of a core are simple enough to be looked at ahead of time, by the text of its program.

Between two barriers, which drain the core, a semaphore is simple when one unit sets it, one unit waits for it, and its count
is not set anew after a use. Its signals then come in the order in which they become visible, and a wait gets the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from npuvm.hw.expansion.program import BarrierStep, Block, Leaf, Node, Program, Scalar, SemaphoreStep

if TYPE_CHECKING:
    from npuvm.isa import Isa

__all__ = ["timed_semaphores"]


@dataclass
class _Roles:
    """Who uses a semaphore since the last barrier, by unit name."""

    setters: set[str] = field(default_factory=set)
    waiters: set[str] = field(default_factory=set)


def timed_semaphores(program: Program, isa: Isa) -> frozenset[int]:
    """Semaphores that are not simple in some part of a core's program."""
    names = {code: name for name, code in isa.units.items()}
    timed: set[int] = set()
    roles: dict[int, _Roles] = {}
    for step in program.steps:
        if isinstance(step, BarrierStep):
            roles = {}
        elif isinstance(step, SemaphoreStep):
            timed.update(number for number, _ in step.values if number in roles)
        elif isinstance(step, Block):
            for leaf in _leaves(step.nodes):
                unit = names[leaf.insn.args["unit"]] if leaf.instruction.unit == "any" else leaf.instruction.unit
                for number in leaf.insn.set:
                    roles.setdefault(number, _Roles()).setters.add(unit)
                for number in leaf.insn.wait:
                    roles.setdefault(number, _Roles()).waiters.add(unit)
        timed.update(n for n, role in roles.items() if len(role.setters) > 1 or len(role.waiters) > 1)
    return frozenset(timed)


def _leaves(nodes: Sequence[Node]) -> Iterator[Leaf]:
    for node in nodes:
        if isinstance(node, Leaf):
            yield node
        elif not isinstance(node, Scalar):
            yield from _leaves(node.body)

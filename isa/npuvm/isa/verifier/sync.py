"""The untimed run: all cores of a domain, each in program order, with what is known to happen before what.

An instruction runs when the semaphores it waits for have counts; that some order of the cores lets all of them halt proves that
no timing and no queue depth can keep them from it, because every semaphore has one unit that sets it and one that waits for it.
Every instruction carries a clock: for each unit of the domain, how many of its instructions have completed before this one
starts, whatever the timing. Units start and complete in order; a set passes on what its instruction knew and did; a wait takes
it over; the order bit and barriers wait for completion. Two accesses conflict unless the clock of the later knows the earlier.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import lt
from typing import NoReturn, TypeAlias

from npuvm.isa.control import ROLES
from npuvm.isa.model import Isa
from npuvm.isa.verifier.hazards import Accesses, Clock, Memory
from npuvm.isa.verifier.program import Grid, Leaf, Loop
from npuvm.isa.verifier.report import Findings
from npuvm.isa.verifier.tables import RingDef
from npuvm.isa.verifier.walk import Act, Begin, Define, End, Item, Iteration, Meet, Tile

__all__ = ["run_domain"]

_State: TypeAlias = Mapping[int | tuple[int, str], int]
"""What must be balanced: counts of the core's semaphores by number, and slots that sides of its rings hold by ring and role."""

_SIDES = ROLES[1:]


@dataclass
class _Semaphore:
    """A count, each unit of which carries the clock of the set that gave it."""

    scope: str
    tokens: deque[Clock] = field(default_factory=deque)
    setter: int | None = None
    waiter: int | None = None
    used: bool = False


@dataclass
class _Side:
    """One side of a ring on one core: clocks of slots taken and not yet handed on, and accesses of the oldest."""

    taken: deque[Clock] = field(default_factory=deque)
    uses: dict[int, int] = field(default_factory=dict)


@dataclass
class _Ring:
    """A ring as one core sees it."""

    definition: RingDef
    sides: Mapping[str, _Side] = field(default_factory=lambda: {role: _Side() for role in _SIDES})


@dataclass
class _Frame:
    """An open loop or grid: the state at its begin, after its last iteration, and after tiles by what they change."""

    begin: _State
    last: _State
    tiles: dict[int, _State] = field(default_factory=dict)


@dataclass
class _Core:
    """One core in the run. `clocks` holds, per unit, what the unit's next instruction knows at least.

    `known` are the semaphores it has met, its own and shared ones, by number; `moved` the sides of its rings for which waiting
    for one takes a slot, and those from which setting it hands one on, until another ring is defined.
    """

    index: int
    items: Iterator[Item]
    group: int
    clocks: dict[str, Clock]
    memory: Accesses
    item: Item | None = None
    semaphores: dict[int, _Semaphore] = field(default_factory=dict)
    rings: dict[int, _Ring] = field(default_factory=dict)
    frames: list[_Frame] = field(default_factory=list)
    known: dict[int, _Semaphore] = field(default_factory=dict)
    moved: dict[int, tuple[list[_Side], list[_Side]]] = field(default_factory=dict)


def run_domain(
    isa: Isa,
    walks: Sequence[Iterator[Item]],
    groups: Sequence[int],
    alone: bool,
    max_steps: int,
    findings: Findings,
    memory: Callable[[], Accesses] = Memory,
) -> int:
    """Run the cores of a domain to their halts; returns the number of steps taken, at most `max_steps`.

    `groups` gives the group of each core. `alone` says that one core stands for itself, and barriers do not wait for others.
    `memory` makes what follows the accesses of each core, in order.
    """
    return _Run(isa, walks, groups, alone, findings, memory).run(max_steps)


class _Run:
    def __init__(
        self,
        isa: Isa,
        walks: Sequence[Iterator[Item]],
        groups: Sequence[int],
        alone: bool,
        findings: Findings,
        memory: Callable[[], Accesses],
    ) -> None:
        self._isa = isa
        self._alone = alone
        self._findings = findings
        self._units = [unit for unit in isa.units if unit != "seq"]
        self._places = {unit: at for at, unit in enumerate(self._units)}
        zero = (0,) * (len(self._units) * len(walks))
        self._issued = list(zero)
        self._zero: Clock = zero
        self._cores = [
            _Core(i, walk, group, dict.fromkeys(self._units, zero), memory())
            for i, (walk, group) in enumerate(zip(walks, groups, strict=True))
        ]
        self._shared: dict[tuple[int, int], _Semaphore] = {}
        self._steps = 0

    def run(self, max_steps: int) -> int:
        for core in self._cores:
            core.item = next(core.items, None)
        while any(core.item is not None for core in self._cores):
            moved = False
            for core in self._cores:
                while core.item is not None and self._step(core):
                    moved = True
                    core.item = next(core.items, None)
                    if self._steps > max_steps:
                        self._findings.fatal(
                            "effort", f"more than {max_steps} steps to prove; allowed: fewer loops in a nest"
                        )
            if not moved and not self._meet():
                self._deadlock()
        return self._steps

    def _step(self, core: _Core) -> bool:
        """Do the core's next item; False when it has to wait."""
        item = core.item
        self._steps += 1
        if isinstance(item, Act):
            return self._act(core, item)
        if isinstance(item, Meet):
            if item.barrier.scope != "core" and not self._alone:
                return False
            self._drain([core], item.barrier.scope)
        elif isinstance(item, Define):
            self._define(core, item)
        elif isinstance(item, Begin):
            state = _state(core)
            core.frames.append(_Frame(state, state))
        elif isinstance(item, Iteration):
            self._iteration(core, item)
        elif isinstance(item, Tile):
            self._tile(core, item)
        elif isinstance(item, End):
            frame = core.frames.pop()
            if item.restores:
                self._compare(item.node, "leaves", frame.begin, _state(core))
        return True

    # Instructions.

    def _semaphore(self, core: _Core, number: int) -> _Semaphore:
        found = core.known.get(number)
        if found is None:
            scope = self._isa.semaphore_scope(number)
            if scope == "core":
                found = core.semaphores[number] = _Semaphore(scope)
            else:
                key = (core.group if scope == "group" else -1, number)
                found = self._shared.setdefault(key, _Semaphore(scope))
            core.known[number] = found
        return found

    def _act(self, core: _Core, act: Act) -> bool:
        leaf = act.leaf
        insn = leaf.insn
        waits = [self._semaphore(core, number) for number in insn.wait]
        unit = core.index * len(self._units) + self._places[leaf.unit]
        for number, semaphore in zip(insn.wait, waits, strict=True):
            self._own(semaphore, "waiter", unit, leaf, number)
        for semaphore in waits:
            if not semaphore.tokens:
                return False
        clock = core.clocks[leaf.unit]
        if insn.order:
            clock = _with(clock, unit, self._issued[unit])
        for number, semaphore in zip(insn.wait, waits, strict=True):
            token = semaphore.tokens.popleft()
            clock = _join(clock, token)
            for side in self._moved(core, number)[0]:
                side.taken.append(token)
        self._issued[unit] += 1
        sequence = self._issued[unit]
        if act.slots:
            self._use_slots(core, act, unit, sequence, clock)
        for conflict in core.memory.access(act, unit, sequence, clock):
            self._findings.add("hazard", conflict, leaf.pc, insn)
        core.clocks[leaf.unit] = clock
        if insn.set:
            done = _with(clock, unit, sequence)
            for number in insn.set:
                self._set(core, leaf, number, unit, done)
        return True

    def _set(self, core: _Core, leaf: Leaf, number: int, unit: int, done: Clock) -> None:
        semaphore = self._semaphore(core, number)
        self._own(semaphore, "setter", unit, leaf, number)
        semaphore.tokens.append(done)
        for side in self._moved(core, number)[1]:
            if not side.taken:
                message = f"m{number} hands on a slot that was not waited for; its ring's counts would exceed its slots"
                self._findings.fatal("ring", message, leaf.pc, leaf.insn)
            late = [user for user, sequence in side.uses.items() if done[user] < sequence]
            if late:
                message = f"m{number} hands on a slot that the {self._name(late[0])} may still use; order it before"
                self._findings.add("ring", message, leaf.pc, leaf.insn)
            side.taken.popleft()
            side.uses.clear()

    def _moved(self, core: _Core, number: int) -> tuple[list[_Side], list[_Side]]:
        """Sides of rings for which a wait for this semaphore takes a slot, and from which setting it hands one on."""
        found = core.moved.get(number)
        if found is None:
            found = core.moved[number] = ([], [])
            for ring in core.rings.values():
                producer, consumer = (ring.sides[role] for role in _SIDES)
                if ring.definition.ready == number:
                    found[0].append(consumer)
                    found[1].append(producer)
                elif ring.definition.free == number:
                    found[0].append(producer)
                    found[1].append(consumer)
        return found

    def _own(self, semaphore: _Semaphore, end: str, unit: int, leaf: Leaf, number: int) -> None:
        semaphore.used = True
        owner = getattr(semaphore, end)
        if owner is None:
            setattr(semaphore, end, unit)
        elif owner != unit:
            verb = "set" if end == "setter" else "waited for"
            message = f"m{number} is {verb} by the {self._name(unit)} and by the {self._name(owner)}; allowed: one unit"
            self._findings.fatal("owner", message, leaf.pc, leaf.insn)

    def _name(self, unit: int) -> str:
        core, index = divmod(unit, len(self._units))
        name = f"{self._units[index]} unit"
        return name if len(self._cores) == 1 else f"{name} of core {core}"

    def _use_slots(self, core: _Core, act: Act, unit: int, sequence: int, clock: Clock) -> None:
        for number, role, operand in act.slots:
            leaf = act.leaf
            ring = core.rings.get(number)
            if ring is None:
                message = f"{operand}: the semaphores of ring g{number} were given to another ring or count"
                self._findings.fatal("ring", message, leaf.pc, leaf.insn)
            side = ring.sides[role]
            semaphore = ring.definition.free if role == "producer" else ring.definition.ready
            if not side.taken:
                message = f"{operand}: the {role} of ring g{number} uses a slot; allowed after a wait for m{semaphore}"
                self._findings.fatal("ring", message, leaf.pc, leaf.insn)
            if any(map(lt, clock, side.taken[0])):
                message = (
                    f"{operand}: the {leaf.unit} unit is not ordered after the wait for m{semaphore} of ring g{number}"
                )
                self._findings.add("ring", message, leaf.pc, leaf.insn)
            side.uses[unit] = sequence

    # Set-up and barriers.

    def _define(self, core: _Core, item: Define) -> None:
        a, step = item.step.insn.args, item.step
        core.moved.clear()
        if step.insn.op == "sem":
            values = {a["sem"]: a["value"]}
            for number in [n for n, r in core.rings.items() if a["sem"] in (r.definition.ready, r.definition.free)]:
                del core.rings[number]
        else:
            ring = item.tables.rings[a["ring"]]
            values = {ring.ready: 0, ring.free: ring.slots}
            for number, other in list(core.rings.items()):
                mine = (ring.ready, ring.free)
                theirs = (other.definition.ready, other.definition.free)
                shared = mine == theirs and other.definition.slots == ring.slots
                if number == a["ring"] or (set(mine) & set(theirs) and not shared):
                    del core.rings[number]
            core.rings[a["ring"]] = _Ring(ring)
        for number, value in values.items():
            semaphore = self._semaphore(core, number)
            if semaphore.used:
                message = f"m{number} is set up again while it may be in use; allowed after a barrier"
                self._findings.fatal("redefinition", message, step.pc, step.insn)
            semaphore.tokens = deque([self._zero] * value)
            semaphore.setter = semaphore.waiter = None

    def _drain(self, cores: Sequence[_Core], scope: str) -> None:
        """All units of these cores complete; what they know is known to all of them."""
        known = self._zero
        for core in cores:
            for clock in core.clocks.values():
                known = _join(known, clock)
        width = len(self._units)
        done = list(known)
        for core in cores:
            done[core.index * width : (core.index + 1) * width] = self._issued[
                core.index * width : (core.index + 1) * width
            ]
        for core in cores:
            core.clocks = dict.fromkeys(self._units, tuple(done))
            core.memory.clear()
            for semaphore in core.semaphores.values():
                semaphore.used = False
        scopes = {"core": (), "group": ("group",), "launch": ("group", "launch")}[scope]
        groups = {core.group for core in cores} | {-1}
        for (group, _), semaphore in self._shared.items():
            if semaphore.scope in scopes and group in groups:
                semaphore.used = False

    def _meet(self) -> bool:
        """Let cores pass the barrier at which all of its scope stand; False when there is none."""
        for scope in ("group", "launch"):
            for group in sorted({core.group for core in self._cores}) if scope == "group" else [-1]:
                cores = [core for core in self._cores if group in (-1, core.group)]
                at = [core.item.barrier.scope if isinstance(core.item, Meet) else None for core in cores]
                if all(each == scope for each in at):
                    self._drain(cores, scope)
                    for core in cores:
                        core.item = next(core.items, None)
                    return True
        return False

    def _deadlock(self) -> NoReturn:
        stuck = []
        for core in self._cores:
            if isinstance(core.item, Act):
                leaf = core.item.leaf
                number = next(n for n in leaf.insn.wait if not self._semaphore(core, n).tokens)
                stuck.append((leaf.pc, leaf.insn, f"core {core.index} waits for m{number} at word {leaf.pc}"))
            elif isinstance(core.item, Meet):
                barrier = core.item.barrier
                stuck.append((barrier.pc, barrier.insn, f"core {core.index} is at the barrier of word {barrier.pc}"))
        pc, insn, _ = stuck[0]
        reasons = "; ".join(reason for *_, reason in stuck)
        self._findings.fatal("deadlock", f"{reasons}; nothing before in program order lets any go on", pc, insn)

    # Balance.

    def _iteration(self, core: _Core, item: Iteration) -> None:
        state = _state(core)
        if item.middle:
            self._compare(item.node, "in a middle iteration leaves", core.frames[-1].last, state)
        core.frames[-1].last = state

    def _tile(self, core: _Core, item: Tile) -> None:
        if item.differs is None:
            return
        state = _state(core)
        before = core.frames[-1].tiles.setdefault(item.differs, state)
        loops = ", ".join(f"l{i}" for i in range(self._isa.limits["loops"]) if item.differs >> i & 1)
        self._compare(item.node, f"before a change of {loops} leaves", before, state)

    def _compare(self, node: Loop | Grid, what: str, before: _State, after: _State) -> None:
        if before == after:
            return
        for name, key in sorted((_state_name(key), key) for key in {*before, *after}):
            if before.get(key, 0) != after.get(key, 0):
                message = (
                    f"the {node.insn.op} {what} {name} at {after.get(key, 0)}; allowed: {before.get(key, 0)}, as found"
                )
                self._findings.fatal("balance", message, node.pc, node.insn)


def _state(core: _Core) -> _State:
    state: dict[int | tuple[int, str], int] = {n: len(semaphore.tokens) for n, semaphore in core.semaphores.items()}
    for number, ring in core.rings.items():
        for role, side in ring.sides.items():
            state[number, role] = len(side.taken)
    return state


def _state_name(key: int | tuple[int, str]) -> str:
    return f"m{key}" if isinstance(key, int) else f"the {key[1]}'s slots of g{key[0]}"


def _join(one: Clock, other: Clock) -> Clock:
    if one is other:
        return one
    return tuple(map(max, one, other))


def _with(clock: Clock, unit: int, value: int) -> Clock:
    if clock[unit] >= value:
        return clock
    return (*clock[:unit], value, *clock[unit + 1 :])

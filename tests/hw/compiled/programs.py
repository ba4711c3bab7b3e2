"""Random launches that the verifier accepts, made from a `Random`: chips with any numbers, and programs of every kind of sync.

A program is a few phases with barriers between them. A phase is a loop, a nest or a grid whose body is a list of instructions
of the units; semaphores join pairs of them, the earlier one in the body as producer, so that program order always completes.
An instruction has its own tiles, so nothing conflicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from tests.hw.compiled.same import ISA, Launch

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.functional.indices import IndexDistribution
from npuvm.hw.launch import capacity_limits
from npuvm.isa import assemble, verify

ARGUMENT = 1 << 22
"""Bytes of an argument; there are two, loads read the first, stores write the second."""

UNITS = {
    "unified": ("load", "move", "cube", "fixpipe", "vector", "store"),
    "cube": ("load", "move", "cube", "fixpipe"),
    "vector": ("load", "vector", "store"),
}


def random_chip(rng: Random) -> NpuConfig:
    """A shipped chip with other numbers wherever they matter to time."""
    pick = rng.choice
    line = pick([32, 64, 128, 512, 4096, 32768])
    chunk = pick([32, 128, 512, 1024, 8192])
    row_bytes = pick([0, 0, 1, 2, 8])
    interleave = line * pick([1, 2, 4])
    overrides = {
        "core.count": rng.randint(1, 3),
        "core.sequencer.queue_depth": pick([1, 2, 3, 8, 32]),
        "core.sequencer.start_cycles": pick([0, 7, 100]),
        "core.sequencer.dispatch_cycles": pick([0, 1, 9]),
        "core.sequencer.decode_cycles_per_word": pick([1, 1, 3]),
        "core.sequencer.barrier_cycles": pick([0, 5, 60]),
        "core.sequencer.scalar_load_cycles": pick([0, 30, 400]),
        "core.sync.set_to_visible_cycles": pick([1, 2, 30]),
        "core.sync.group_cycles": pick([0, 7, 200]),
        "core.sync.launch_cycles": pick([0, 30, 500]),
        "core.load.startup_cycles": pick([0, 1, 40]),
        "core.load.row_cycles": pick([0, 1, 2.4, "7/3"]),
        "core.load.l1_startup_cycles": pick([0, 3, 50]),
        "core.load.l1_row_cycles": pick([0, 1.5, 4]),
        "core.load.ub_bytes_per_cycle": pick([1, 16, 59, 128, 1000]),
        "core.load.l1_bytes_per_cycle": pick([8, 78, 256]),
        "core.load.chunk_bytes": chunk,
        "core.load.min_burst_bytes": min(chunk, pick([1, 32, 100])),
        "core.load.outstanding": pick([1, 2, 5, 32]),
        "core.store.startup_cycles": pick([0, 1, 30]),
        "core.store.row_cycles": pick([0, "1/3", 2]),
        "core.store.bytes_per_cycle": pick([3, 64, 109]),
        "core.store.chunk_bytes": pick([32, 256, 512]),
        "core.store.min_burst_bytes": 32,
        "core.store.outstanding": pick([1, 3, 48]),
        "memory.l2.capacity_mib": 1,
        "memory.l2.line_bytes": line,
        "memory.l2.slices": pick([1, 2, 8, 32]),
        "memory.l2.bandwidth_gbps": pick([20, 123.4, 800, 5200]),
        "memory.l2.latency_cycles": pick([0, 1, 60]),
        "memory.l2.access_bytes": min(line, pick([1, 1, 32, 64])),
        "memory.l2.same_line_cycles": pick([0, 0, 3, 40]),
        "memory.l2.sector_bytes": pick([0, 0, 32, line]),
        "memory.l2.unaligned_reads": pick(["cached", "uncached"]),
        "memory.hbm.channels": pick([1, 3, 8, 32]),
        "memory.hbm.bandwidth_gbps": pick([10, 77.7, 1490]),
        "memory.hbm.latency_cycles": pick([0, 1, 150]),
        "memory.hbm.interleave_bytes": interleave,
        "memory.hbm.burst_bytes": pick([1, 32, 96]),
        "memory.hbm.row_bytes": interleave * row_bytes,
        "memory.hbm.row_miss_cycles": pick([0, 5, 33]) if row_bytes else 0,
        "memory.hbm.banks": pick([1, 4, 16]),
        "memory.hbm.turnaround_cycles": pick([0, 4]),
        "memory.hbm.same_line_cycles": pick([0, 0, 9]),
        "memory.address_hash": pick(["true", "false"]),
    }
    name = pick(["edge", "ascend_910a", "ascend_910b1"])
    return load_chip(name, [f"{path}={value}" for path, value in overrides.items()])


def random_launch(rng: Random, chip: NpuConfig) -> Launch:
    """A launch on some cores of a chip; the verifier has accepted it."""
    order = chip.group_core_types
    if len(order) > 1 and rng.random() < 0.3:
        order = (rng.choice(order),)
    count = rng.randint(1, min(6, len(order) * chip.core.count))
    kinds = [order[i % len(order)] for i in range(count)]
    plan = _Plan(rng, kinds, chip.group_core_types)
    # Cores of one type may share a text; those that talk to others have their own.
    texts = [_Core(plan, index).text() for index in range(count)]
    entries = [f".entry {kind} core{i} {plan.ranges(i)}" for i, kind in enumerate(kinds)]
    image = assemble(ISA, "\n".join([".args 2", *entries, *texts]), "random")
    verify(ISA, image, capacity_limits(chip), argument_bytes=[ARGUMENT, ARGUMENT])
    base = rng.choice([0, 512, 0x12340])
    registers = [[rng.randint(-1, 5) for _ in range(400)] for _ in kinds]
    indices = IndexDistribution(rng.choice(["uniform", "sequential"]), rng.randint(0, 3))
    return Launch(chip, image, (base, base + ARGUMENT + rng.choice([0, 64, 4096])), registers, indices=indices)


@dataclass
class _Signal:
    """A semaphore from a unit of one core to a unit of another, in the bodies of a phase."""

    ready: int
    phase: int
    source: tuple[int, str]
    target: tuple[int, str]


class _Plan:
    """What the cores of a launch agree on: phases, the barriers between them, the loops that they have in common, signals."""

    def __init__(self, rng: Random, kinds: Sequence[str], group: Sequence[str]) -> None:
        self.rng = rng
        self.kinds = kinds
        width = len(group) if len(set(kinds)) > 1 else 1
        self.groups = [i // width for i in range(len(kinds))]
        self.phases = rng.randint(1, 3)
        self.trips = [rng.randint(1, 5) for _ in range(self.phases)]
        self.barriers = [rng.choice(["core", "group", "launch"]) for _ in range(self.phases)]
        self.wide = [signal for phase in range(self.phases) for signal in self._wide(phase)] if len(kinds) > 1 else []

    def ranges(self, core: int) -> str:
        """Tiles of the core's grids, one phase each; every grid has 12 tiles."""
        cuts = Random(core).sample(range(13), 2)
        return " ".join(f"{min(cuts)}:{max(cuts)}" for _ in range(self.phases))

    def _wide(self, phase: int) -> list[_Signal]:
        """Signals between cores, all one way, so that they cannot wait for each other; a semaphore serves one phase."""
        rng = self.rng
        found: list[_Signal] = []
        upwards = rng.random() < 0.5
        for k in range(rng.choice([0, 0, 1, 2])):
            one, other = sorted(rng.sample(range(len(self.kinds)), 2), reverse=upwards)
            same = self.groups[one] == self.groups[other]
            number = (40 if same and rng.random() < 0.6 else 52) + 2 * phase + k
            source = (one, rng.choice(UNITS[self.kinds[one]]))
            target = (other, rng.choice(UNITS[self.kinds[other]]))
            if number not in [signal.ready for signal in found]:
                found.append(_Signal(number, phase, source, target))
        return found


@dataclass
class _Line:
    """An instruction to be: its unit, what it waits for and sets, and what stands behind it."""

    unit: str
    waits: list[int] = field(default_factory=list)
    sets: list[int] = field(default_factory=list)
    predicate: str = ""


class _Core:
    """The text of one core's program."""

    def __init__(self, plan: _Plan, index: int) -> None:
        self.plan = plan
        self.rng = plan.rng
        self.index = index
        self.units = UNITS[plan.kinds[index]]
        self.next_desc = 0
        self.used = dict.fromkeys(("ub", "l1", "l0a", "l0b", "l0c"), 0)
        self.setup: list[str] = []

    def text(self) -> str:
        """All phases, and the halt."""
        lines = [f"core{self.index}:", "li rd=r1 imm=2", "li rd=r2 imm=0"]
        for number, full in enumerate((1, 2, 3, 5, 8, 16)):
            lines.append(f"szc size=s{number} full={full}")
        for number, full in enumerate((16, 32, 48, 64, 7)):
            lines.append(f"szc size=s{10 + number} full={full}")
        if self.index == 0:
            # Before any core can have used one, in program order; in time a signal may be there first.
            lines[1:1] = [f"sem sem=m{signal.ready} value=0" for signal in self.plan.wide]
        lines.append("szr size=s21 reg=r1 full=4")
        for phase in range(self.plan.phases):
            lines += self._phase(phase)
            lines.append(f"barrier scope={self.plan.barriers[phase]}")
        return "\n".join([*lines, "halt"])

    def _phase(self, phase: int) -> list[str]:
        """Set-up, then a loop over a body; the trip count is common to all cores where they talk to each other."""
        rng, plan = self.rng, self.plan
        self.setup = []
        self.next_desc = 0
        self.used = dict.fromkeys(self.used, 0)
        wide = [s for s in plan.wide if s.phase == phase and self.index in (s.source[0], s.target[0])]
        shape = (
            "loop"
            if any(s.phase == phase for s in plan.wide)
            else rng.choice(["flat", "loop", "nest", "grid", "register"])
        )
        body = self._body(phase, wide)
        self.setup.append(f"szc size=s22 full={4 if shape == 'grid' else plan.trips[phase]}")
        inner = [self._instruction(line, shape) for line in body]
        if shape == "nest":
            lines = ["loop loop=l1 trip=s2", "loop loop=l2 trip=s22", *inner, "endloop", "endloop"]
        elif shape == "grid":
            lines = [f"grid loops=2 phase={phase} t0=s2 t1=s22", *inner, "endgrid"]
        elif shape == "flat":
            lines = inner
        elif shape != "nest":
            trip = "s21" if shape == "register" else "s22"
            scalars = ["sadd rd=r2 ra=r2 rb=r1"] if rng.random() < 0.3 else []
            lines = [f"loop loop=l0 trip={trip}", *scalars, *inner, "endloop"]
        if rng.random() < 0.3:
            lines.insert(0, f"lds.int32 rd=r1 src={self._desc('gm', '@arg0', 64)}")
        return [*self.setup, *lines]

    def _body(self, phase: int, wide: list[_Signal]) -> list[_Line]:
        rng = self.rng
        body = [_Line(rng.choice(self.units)) for _ in range(rng.randint(1, 9))]
        number = 0
        for _ in range(rng.randint(0, 5)):
            if len(body) < 2 or number > 36:
                break
            one, other = sorted(rng.sample(range(len(body)), 2))
            number = self._join(body, one, other, number)
        for signal in wide:
            if signal.source[0] == self.index:
                body.insert(rng.randint(0, len(body)), _Line(signal.source[1], [], [signal.ready]))
            else:
                body.insert(rng.randint(0, len(body)), _Line(signal.target[1], [signal.ready], []))
        return body

    def _join(self, body: list[_Line], one: int, other: int, number: int) -> int:
        """Let the instruction at `one` signal that at `other`, perhaps both ways; returns the next semaphore."""
        rng, source, target = self.rng, body[one], body[other]
        if len(source.sets) > 1 or len(target.waits) > 1 or source.predicate != target.predicate:
            return number
        back = len(source.waits) < 2 and len(target.sets) < 2 and rng.random() < 0.7
        source.sets.append(number)
        target.waits.append(number)
        if not back:
            self.setup.append(f"sem sem=m{number} value=0")
            return number + 1
        source.waits.append(number + 1)
        target.sets.append(number + 1)
        count = rng.randint(1, 4)
        ring = f"ring ring=g{number % 16} slot_bytes=64 slots={count} ready=m{number} free=m{number + 1}"
        counts = [f"sem sem=m{number} value=0", f"sem sem=m{number + 1} value={count}"]
        self.setup += counts if rng.random() < 0.7 or number >= 16 else [ring]
        return number + 2

    def _instruction(self, line: _Line, shape: str) -> str:
        head = self._operation(line.unit, shape)
        if not head.startswith("usync") and not (line.waits or line.sets) and self.rng.random() < 0.15:
            if shape in ("loop", "nest"):
                loop = "l0" if shape == "loop" else self.rng.choice(["l1", "l2", "l1, l2"])
                line.predicate = self.rng.choice([f"if first({loop})", f"if last({loop})", f"if not_first({loop})"])
            elif shape == "grid":
                line.predicate = self.rng.choice(["if changed(l0)", "if changes(l1)", "if first(l0, l1)"])
        tail = [line.predicate] if line.predicate else []
        tail += ["wait " + " ".join(f"m{n}" for n in line.waits)] if line.waits else []
        tail += ["set " + " ".join(f"m{n}" for n in line.sets)] if line.sets else []
        tail += ["order"] if self.rng.random() < 0.3 else []
        return f"{head} | {' '.join(tail)}" if tail else head

    def _operation(self, unit: str, shape: str) -> str:
        rng = self.rng
        rows, cols = rng.choice(range(6)), rng.choice(range(10, 15))
        size = f"rows=s{rows} cols=s{cols}"
        if rng.random() < 0.15:
            return f"usync unit={unit}"
        if unit in ("load", "store"):
            # A transfer from a few bytes to some requests; the tile may be longer than the line on chip.
            local = self._tile(
                "l1"
                if unit == "load" and "cube" in self.units and ("vector" not in self.units or rng.random() < 0.5)
                else "ub"
            )
            cache = rng.choice(["", "", " cache=stream"])
            if "vector" in self.units and rng.random() < 0.3:
                return self._by_index(unit, size, cache)
            far = self._gm("@arg0" if unit == "load" else "@arg1", shape)
            return (
                f"ld.fp16 dst={local} src={far} {size}{cache}"
                if unit == "load"
                else f"st.fp16 dst={far} src={local} {size}{cache}"
            )
        if unit == "vector":
            a, b, c = (self._tile("ub") for _ in range(3))
            return rng.choice(
                [
                    f"vadd.fp16 dst={a} a={b} b={c} {size}",
                    f"vexp.fp16 dst={a} a={b} {size}",
                    f"vneg.fp16 dst={a} a={b} {size}",
                ]
            )
        if unit == "move":
            side = rng.choice("abw")
            if side == "w":
                image = (
                    "start=s10 height=4 span=64 width=3 apart=8 channels=8 kernel_h=1 kernel_w=2 stride_h=1 stride_w=1"
                )
                op, space = rng.choice([("mvim2col", "l0a"), ("mvim2colt", "l0b")])
                tiles = f"dst={self._tile(space)} src={self._tile('l1')}"
                return f"{op}.fp16 {tiles} {size} {image} dilation_h=1 dilation_w=1"
            return f"mvl0{side}.fp16 dst={self._tile('l0' + side)} src={self._tile('l1')} {size}"
        if unit == "cube":
            tiles = f"dst={self._tile('l0c')} a={self._tile('l0a')} b={self._tile('l0b')}"
            return f"mma.fp16 {tiles} m=s{rng.choice(range(4))} n=s10 k=s10"
        return f"fix.fp32->fp16 dst={self._gm('@arg1', shape)} src={self._tile('l0c')} rows=s{rng.choice(range(4))} cols=s10"

    def _by_index(self, unit: str, size: str, cache: str) -> str:
        """Rows of a table by index: close together or far apart, in a few lines or in many."""
        stride, count = 2 * self.rng.choice([64, 64, 80, 100, 4096]), self.rng.choice([1, 5, 400])
        far = self._desc("gm", f"@arg{int(unit == 'store')}+{2 * self.rng.choice([0, 1, 256, 5000])}", 0)
        index = self._desc("ub", str(self.used["ub"]), 4)
        self.used["ub"] += 64
        near = self._tile("ub")
        dst, src = (far, near) if unit == "store" else (near, far)
        op = "ldx" if unit == "load" else self.rng.choice(["stx", "stxadd"])
        return f"{op}.fp16 dst={dst} src={src} index={index} {size} stride={stride} count={count}{cache}"

    def _tile(self, space: str) -> str:
        """Its own place in a buffer, for 16 rows of 64 fp16 at most."""
        each = {"ub": 2048, "l1": 2048, "l0a": 2048, "l0b": 2048, "l0c": 1024}[space]
        base, self.used[space] = self.used[space], self.used[space] + each
        pitch = {"ub": 128, "l1": 128, "l0a": 128, "l0b": 128, "l0c": 64}[space]
        return self._desc(space, str(base), pitch)

    def _gm(self, argument: str, shape: str) -> str:
        """A tile of global memory that moves with the loops, at any byte that its type allows."""
        rng = self.rng
        base = 2 * rng.choice([0, 1, 16, 100, 256, 5000, 100_000])
        pitch = 2 * rng.choice([64, 65, 80, 256, 2048, 16384])
        desc = self._desc("gm", f"{argument}+{base}", pitch)
        if shape != "flat":
            for loop in {"nest": [1, 2], "grid": [0, 1]}.get(shape, [0])[: rng.choice([0, 1, 1, 2])]:
                step = 2 * rng.choice([0, 8, 64, 100, 1024, 20_000])
                self.setup.append(f"dstr desc={desc} loop=l{loop} stride={step}")
        return desc

    def _desc(self, space: str, base: str, pitch: int) -> str:
        name = f"d{self.next_desc}"
        self.next_desc += 1
        self.setup.append(f"desc desc={name} space={space} base={base} pitch={pitch}")
        return name

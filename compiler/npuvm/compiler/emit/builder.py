"""The instruction builder that the code generators write with.

It gives out sizes, descriptors, loops, semaphores, rings and buffers as handles, attaches waits and sets to instructions, and
builds a program image. Set-up instructions may only stand outside loops, so they are collected and put at the start of
their phase, wherever they are asked for: a descriptor with a stride over a loop is made inside that loop's `with` block.
A phase ends at a barrier and takes its sizes, descriptors, rings, semaphores and buffers with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.emit.handles import Arg, Buffer, Desc, Loop, Sem, Size, Window
from npuvm.compiler.emit.memory import place
from npuvm.compiler.emit.symint import SymInt
from npuvm.compiler.emit.template import Template, TemplateWriter
from npuvm.compiler.errors import CompileError
from npuvm.isa import Entry, Image, Insn, Instruction, Isa, OperandSpec, Pred, Reloc, assemble_insns, encode
from npuvm.isa.control import ROLES

__all__ = ["InstrBuilder"]

Operand = int | str | Size | Desc | Sem | Loop
Ranges = Sequence[tuple[int, int]]

_GM = "gm"


_WORDS: dict[tuple[object, ...], list[int]] = {}
_MOST_WORDS = 1 << 16


def _encoded(isa: Isa, insn: Insn) -> list[int]:
    """Words of an instruction. Programs for other shapes repeat most of their instructions, so words are kept."""
    key = (isa.hash, insn.op, insn.dtype, insn.dtype2, *insn.args.items(), insn.wait, insn.set, insn.pred, insn.order)
    words = _WORDS.get(key)
    if words is None:
        if len(_WORDS) >= _MOST_WORDS:
            _WORDS.clear()
        words = _WORDS[key] = encode(isa, insn)
    return words


class _Phase:
    """What stands between two barriers: tables under construction, set-up that fills them, and the body."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.sizes: dict[tuple[object, ...], Size] = {}
        self.size_insns: list[Insn] = []
        self.descs: list[tuple[Buffer | Arg, int, Insn, list[Insn]]] = []
        self.desc_keys: dict[tuple[object, ...], Desc] = {}
        self.buffers: list[Buffer] = []
        self.gm_rings: list[Buffer] = []
        self.rings = 0
        self.semaphores: dict[str, int] = {}
        self.sem_insns: list[Insn] = []
        self.body: list[Insn] = []


class InstrBuilder:
    """Builds the program of one kind of core.

    `capacities` gives the bytes of every on-chip space of that core. `args` is the number of global-memory arguments.
    Methods raise CompileError when a table or a memory is full, and when an operand is wrong.
    """

    def __init__(self, isa: Isa, capacities: Mapping[str, int], name: str, args: int) -> None:
        self.isa = isa
        self.capacities = capacities
        self.name = name
        self.n_args = args
        self._done: list[_Phase] = []
        self._phase = _Phase(0)
        self._open: list[Loop] = []
        self._grids = 0
        self._pred: Pred | None = None

    # Tables.

    def size(self, value: int) -> Size:
        """A constant size."""
        return self._size(("szc", value), value, full=value)

    def size_tail(self, loop: Loop, full: int, tail: int) -> Size:
        """`tail` on the last iteration of the loop, else `full`."""
        if full == tail:
            return self.size(full)
        unknown = isinstance(full, SymInt) or isinstance(tail, SymInt)
        most = full if unknown else max(full, tail)
        return self._size(("szt", loop.id, full, tail), most, loop=loop.id, full=full, tail=tail)

    def size_affine(self, full: int, base: int, steps: Sequence[tuple[Loop, int]]) -> Size:
        """max(0, min(full, base + sum of step * counter)) over one or two loops."""
        if not 1 <= len(steps) <= 2:
            raise CompileError(f"a size can follow one or two loops, not {len(steps)}", self.name)
        loop_a, step_a = steps[0]
        loop_b, step_b = steps[-1] if len(steps) == 2 else (Loop(0), 0)
        key = ("sza", full, base, loop_a.id, step_a, loop_b.id, step_b)
        return self._size(
            key, full, loop_a=loop_a.id, loop_b=loop_b.id, full=full, base=base, step_a=step_a, step_b=step_b
        )

    def _size(self, key: tuple[object, ...], largest: int, **args: int) -> Size:
        found = self._phase.sizes.get(key)
        if found is None:
            self._check_room("sizes", len(self._phase.sizes))
            found = self._phase.sizes[key] = Size(len(self._phase.sizes), self._phase.index, largest)
            self._phase.size_insns.append(Insn(str(key[0]), args={"size": found.id, **args}))
        return found

    def arg(self, index: int) -> Arg:
        """A global-memory argument."""
        if not 0 <= index < self.n_args:
            raise CompileError(f"argument {index} does not exist; the kernel has {self.n_args}", self.name)
        return Arg(index)

    def desc(
        self,
        base: Buffer | Arg,
        pitch: int = 0,
        *,
        strides: Mapping[Loop, int] | None = None,
        offset: int = 0,
        role: str = "none",
        window: Window | None = None,
        register: int | None = None,
        register_stride: int = 0,
        ring: Buffer | None = None,
    ) -> Desc:
        """An address descriptor: base plus `offset`, `pitch` and `strides` in bytes. Equal ones are shared.

        `role` producer or consumer makes it follow the ring `base`, or the ring `ring` in global memory; the instruction that
        sets the ring's ready (free) semaphore moves the producer (consumer) on to the next slot.
        """
        stride_items = tuple((loop.id, stride) for loop, stride in (strides or {}).items() if stride != 0)
        key = (base, pitch, stride_items, offset, role, window, register, register_stride, ring)
        found = self._phase.desc_keys.get(key)
        if found is not None:
            return found
        followed = base if isinstance(base, Buffer) else ring
        if role not in ROLES or (role != "none" and (followed is None or followed.ring is None)):
            raise CompileError(f"role '{role}' needs a ring; roles: {', '.join(ROLES)}", self.name)
        if isinstance(base, Buffer) and base.phase != self._phase.index:
            raise self._wrong_phase(f"buffer '{base.name}'", base.phase)
        number = len(self._phase.descs)
        self._check_room("descriptors", number)
        space = base.space if isinstance(base, Buffer) else _GM
        args = {
            "desc": number,
            "space": self.isa.spaces[space].code,
            "role": ROLES.index(role),
            "ring": (followed.ring or 0) if followed is not None and role != "none" else 0,
            "base": 0,
            "pitch": pitch,
            "reg": register or 0,
            "reg_stride": register_stride,
        }
        extra = [Insn("dstr", args={"desc": number, "loop": loop, "stride": stride}) for loop, stride in stride_items]
        if window is not None:
            extra.append(Insn("dwin", args={"desc": number, **window.args()}))
        self._phase.descs.append((base, offset, Insn("desc", args=args), extra))
        found = self._phase.desc_keys[key] = Desc(number, self._phase.index)
        return found

    def semaphore(self, name: str, initial: int = 0, scope: str = "core") -> Sem:
        """A semaphore that starts at `initial`. One unit sets it, one unit waits for it."""
        sem = self._new_semaphore(name, scope)
        self._phase.sem_insns.append(Insn("sem", args={"sem": sem.id, "value": initial}))
        return sem

    def _new_semaphore(self, name: str, scope: str = "core") -> Sem:
        low, high = self.isa.semaphore_scopes[scope]
        number = low + self._phase.semaphores.get(scope, 0)
        if number > high:
            raise CompileError(f"no {scope} semaphore left for '{name}'; there are {high - low + 1}", self.name)
        self._phase.semaphores[scope] = number - low + 1
        return Sem(number, name)

    def _check_room(self, table: str, used: int) -> None:
        if used >= self.isa.limits[table]:
            raise CompileError(f"more than {self.isa.limits[table]} {table} in one phase", self.name)

    # Buffers.

    def ring(
        self,
        name: str,
        space: str,
        slot_bytes: int,
        slots: int,
        producer: str,
        consumer: str,
        *,
        address: int | None = None,
    ) -> Buffer:
        """A ring of `slots` slots that unit `producer` fills and unit `consumer` empties, with its two semaphores.

        Slots are rounded up to the space's alignment. `address` pins the first slot. A ring in global memory lies in an
        argument, which the descriptors that follow it name.
        """
        self._check_units(name, producer, consumer)
        self._check_room("rings", self._phase.rings)
        align = 1 if space == _GM else self._alignment(space)
        slot_bytes = align_up(slot_bytes, align)
        ready, free = self._new_semaphore(f"{name}.ready"), self._new_semaphore(f"{name}.free")
        number = self._phase.rings
        self._phase.rings += 1
        phase = self._phase.index
        buffer = Buffer(
            name, space, slot_bytes, slots, phase, address, align, False, number, ready, free, producer, consumer
        )
        (self._phase.gm_rings if space == _GM else self._phase.buffers).append(buffer)
        args = {"ring": number, "slot_bytes": slot_bytes, "slots": slots, "ready": ready.id, "free": free.id}
        self._phase.sem_insns.append(Insn("ring", args=args))
        return buffer

    def temp(self, name: str, space: str, nbytes: int, *, address: int | None = None, overlap: bool = False) -> Buffer:
        """A plain buffer. `overlap` lets a pinned one share bytes with others (its users then keep order themselves)."""
        align = self._alignment(space)
        buffer = Buffer(name, space, align_up(nbytes, align), 1, self._phase.index, address, align, overlap)
        self._phase.buffers.append(buffer)
        return buffer

    def _alignment(self, space: str) -> int:
        if space not in self.capacities:
            raise CompileError(f"this core has no space '{space}'; it has {', '.join(self.capacities)}", self.name)
        return self.isa.spaces[space].align_bytes or 1

    def _check_units(self, name: str, *units: str) -> None:
        for unit in units:
            if unit not in self.isa.units or unit == "seq":
                allowed = ", ".join(u for u in self.isa.units if u != "seq")
                raise CompileError(f"ring '{name}': no unit '{unit}'; units: {allowed}", self.name)

    # Control.

    @contextmanager
    def grid(self, trips: Sequence[int | Size]) -> Iterator[tuple[Loop, ...]]:
        """Walk loops 0.. as an odometer (the last is fastest) over this core's range of the next phase number.

        Every grid takes the next (start, stop) of a core's ranges, in program order.
        """
        if self._open:
            raise CompileError("a grid cannot stand inside a loop", self.name)
        limit = self.isa.limits["loops"]
        if not 1 <= len(trips) <= limit:
            raise CompileError(f"a grid has 1 to {limit} loops, not {len(trips)}", self.name)
        sizes = [self.size(trip) if isinstance(trip, int) else trip for trip in trips]
        loops = tuple(Loop(i, grid=True) for i in range(len(trips)))
        args = {"loops": len(trips), "phase": self._grids, **{f"t{i}": size.id for i, size in enumerate(sizes)}}
        self._phase.body.append(Insn("grid", args=args))
        self._grids += 1
        self._open.extend(loops)
        yield loops
        del self._open[: len(loops)]
        self._phase.body.append(Insn("endgrid"))

    @contextmanager
    def loop(self, trip: int | Size) -> Iterator[Loop]:
        """Repeat; a trip count of 0 skips the body."""
        used = len(self._open)
        if used >= self.isa.limits["loops"]:
            raise CompileError(f"more than {self.isa.limits['loops']} nested loops", self.name)
        loop = Loop(used)
        size = self.size(trip) if isinstance(trip, int) else trip
        self._phase.body.append(Insn("loop", args={"loop": loop.id, "trip": size.id}))
        self._open.append(loop)
        yield loop
        self._open.pop()
        self._phase.body.append(Insn("endloop"))

    @contextmanager
    def when(self, pred: Pred) -> Iterator[None]:
        """Every instruction emitted inside gets this predicate."""
        if self._pred is not None:
            raise CompileError("predicates do not nest; an instruction has one", self.name)
        self._pred = pred
        yield
        self._pred = None

    def barrier(self, scope: str = "core") -> None:
        """Drain this core's units, meet the other cores of the scope, and start a new phase with empty tables."""
        if self._open:
            raise CompileError("a phase cannot end inside a loop", self.name)
        code = self.isa.instruction("barrier").operand("scope").values[scope]
        self._phase.body.append(Insn("barrier", args={"scope": code}))
        self._done.append(self._phase)
        self._phase = _Phase(len(self._done))

    # Instructions.

    def emit(
        self,
        op: str,
        dtype: str | None = None,
        dtype2: str | None = None,
        *,
        wait: Iterable[Sem] = (),
        set: Iterable[Sem] = (),
        pred: Pred | None = None,
        order: bool = False,
        **operands: Operand,
    ) -> None:
        """Append an instruction. Waits and sets that the head cannot hold go to `usync` before and after it."""
        spec = self.isa.instruction(op)
        args = {name: self._operand(spec, name, value) for name, value in operands.items()}
        waits, sets = [sem.id for sem in wait], [sem.id for sem in set]
        pred = pred or self._pred
        unit = str(operands["unit"]) if op == "usync" else spec.unit
        while len(waits) > 2:
            self._usync(unit, waits[:2], [], pred)
            del waits[:2]
        self._phase.body.append(Insn(op, dtype, dtype2, args, tuple(waits), tuple(sets[:2]), pred, order))
        for i in range(2, len(sets), 2):
            self._usync(unit, [], sets[i : i + 2], pred)

    def sync(self, unit: str, *, wait: Iterable[Sem] = (), set: Iterable[Sem] = (), pred: Pred | None = None) -> None:
        """An empty instruction on `unit` with these waits and sets; nothing when there are none."""
        waits, sets = [sem.id for sem in wait], [sem.id for sem in set]
        for i in range(0, max(len(waits), len(sets)), 2):
            self._usync(unit, waits[i : i + 2], sets[i : i + 2], pred or self._pred)

    def asm(self, text: str) -> None:
        """Append raw instructions as the assembler reads them; handles print as it names them. AsmError."""
        self._phase.body.extend(assemble_insns(self.isa, text, self.name))

    def _usync(self, unit: str, waits: list[int], sets: list[int], pred: Pred | None) -> None:
        if unit not in self.isa.units or unit == "seq":
            allowed = ", ".join(each for each in self.isa.units if each != "seq")
            raise CompileError(f"'{unit}' neither waits for nor sets semaphores; units that do: {allowed}", self.name)
        self._phase.body.append(
            Insn("usync", args={"unit": self.isa.units[unit]}, wait=tuple(waits), set=tuple(sets), pred=pred)
        )

    def _operand(self, spec: Instruction, name: str, value: Operand) -> int:
        if isinstance(value, int):
            return value
        if isinstance(value, str):
            return self._enum(spec, spec.operand(name), value)
        if isinstance(value, Size | Desc) and value.phase != self._phase.index:
            raise self._wrong_phase(f"{spec.name}: operand {name} ({value})", value.phase)
        return value.id

    def _wrong_phase(self, what: str, phase: int) -> CompileError:
        return CompileError(f"{what} belongs to phase {phase}, this is phase {self._phase.index}", self.name)

    def _enum(self, spec: Instruction, operand: OperandSpec, value: str) -> int:
        if value not in operand.values:
            raise CompileError(
                f"{spec.name}: {operand.name} is '{value}'; allowed: {', '.join(operand.values)}", self.name
            )
        return operand.values[value]

    # Result.

    @property
    def grids(self) -> int:
        """Number of grids so far: every core needs as many ranges."""
        return self._grids

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """All buffers on chip, and rings in global memory, of all phases."""
        return tuple(buffer for phase in (*self._done, self._phase) for buffer in (*phase.buffers, *phase.gm_rings))

    def program(self) -> list[Insn]:
        """All instructions, set-up first in every phase, `halt` last; bases in global memory are 0 until a launch."""
        return [insn for insn, _ in self._program()]

    def _program(self) -> Iterator[tuple[Insn, tuple[Arg, int] | None]]:
        """Every instruction, and of a descriptor in global memory the argument and offset that its base needs."""
        for phase in (*self._done, self._phase):
            for insn in (*phase.size_insns, *phase.sem_insns):
                yield insn, None
            addresses = place(phase.buffers, self.capacities, self.name)
            for base, offset, insn, extra in phase.descs:
                if isinstance(base, Arg):
                    yield insn, (base, offset)
                else:
                    yield Insn("desc", args={**insn.args, "base": addresses[base] + offset}), None
                for each in extra:
                    yield each, None
            for insn in phase.body:
                yield insn, None
        yield Insn("halt"), None

    def build(self, core_type: str, ranges: Sequence[Ranges]) -> Image:
        """The image of a launch on len(ranges) cores of one type; ranges[c][g] is core c's (start, stop) in grid g."""
        for core, each in enumerate(ranges):
            if len(each) != self._grids:
                raise CompileError(
                    f"core {core} has {len(each)} ranges, the program has {self._grids} grids", self.name
                )
        words: list[int] = []
        relocs: list[Reloc] = []
        grids: list[int] = []
        base_word = self.isa.instruction("desc").operand("base").bits.word
        for insn, base in self._program():
            if base is not None:
                relocs.append(Reloc(len(words) + base_word, base[0].index, base[1]))
            elif insn.op == "grid":
                grids.append(len(words))
            words += _encoded(self.isa, insn)
        entries = tuple(Entry(core_type, 0, tuple(each)) for each in ranges)
        text = np.array(words, dtype=np.uint64)
        return Image(self.name, self.isa.hash, text, entries, tuple(relocs), self.n_args, tuple(grids))

    def template(self, variables: Sequence[str]) -> Template:
        """The program with what is not known yet left open; `variables` name the values that an instance is made from."""
        writer = TemplateWriter(self.isa)
        self.write(writer)
        return writer.template(self.name, self.n_args, variables)

    def write(self, writer: TemplateWriter) -> None:
        """Write the program behind what a template has."""
        base_word = self.isa.instruction("desc").operand("base").bits.word
        for insn, base in self._program():
            if base is not None:
                writer.relocate(base_word, base[0].index, base[1])
            writer.add(insn)

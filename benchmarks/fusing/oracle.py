"""The best fusion of a subgraph by exhaustive search, each group simulated as a kernel of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from benchmarks.fusing.case import Case, shapes_of
from benchmarks.fusing.groups import Group, Operators, Partition

from npuvm.compiler import CompiledKernel, CompileError, Pins, compile_kernel
from npuvm.compiler.program.family import KernelFamily
from npuvm.hw.config import NpuConfig
from npuvm.hw.functional.indices import IndexDistribution
from npuvm.hw.simulator import l2_state, simulate, timing_engine
from npuvm.isa import load_isa
from npuvm.runtime.device.host_stream import HostStream

__all__ = ["Found", "Searched", "search"]

_ALIGN = 512
"""Where tensors begin, as in the device's memory."""

_IN_A_ROW = 12
"""Partitions, the best by the sums of their groups alone, that are simulated group behind group."""


class Found(NamedTuple):
    """A way to run a subgraph: cycles of its launches on the chip, and the time of one call with the host's part."""

    cycles: tuple[int, ...]
    one_us: float

    @property
    def total(self) -> int:
        return sum(self.cycles)


class Searched(NamedTuple):
    """What a search found at one shape.

    `chosen` is the compiler's own way, `chosen_free` that where launches cost the host nothing, `unfused` a launch
    for each operator, `best_us` the fastest way with the host's time for launches and `best_cycles` that without: a partition,
    or the compiler's own where that is faster. `partitions` were compared, all of them when `exhaustive`.
    """

    operators: int
    partitions: int
    exhaustive: bool
    groups: int
    unfused: Found
    chosen: Found
    chosen_free: Found
    best_us: Found
    best_cycles: Found
    partition_us: tuple[tuple[str, ...], ...]
    partition_cycles: tuple[tuple[str, ...], ...]


class _Made(NamedTuple):
    """A group's kernel, and its cycles where it runs again and again alone."""

    cycles: int
    kernel: CompiledKernel


def search(case: Case, at: int, chip: NpuConfig, most: int) -> Searched:
    """Hold the compiler's choice for shape number `at` against up to `most` partitions."""
    return _Search(case, case.sizes[at], chip).run(most)


class _Search:
    def __init__(self, case: Case, sizes: Mapping[str, int], chip: NpuConfig) -> None:
        self._case, self._chip, self._isa = case, chip, load_isa(chip.isa.base, chip.isa.extensions)
        self._operators = Operators(case.kernel)
        self._all_sizes = dict(sizes)
        for each in case.kernel.graph.derived:
            self._all_sizes[each.name] = each.value(self._all_sizes)
        self._known: dict[Group, _Made | None] = {}
        self._rows: dict[Partition, Found] = {}

    def run(self, most: int) -> Searched:
        partitions = list(islice(self._operators.partitions(), most + 1))
        exhaustive = len(partitions) <= most
        legal: list[tuple[Partition, Found]] = []
        for partition in partitions[:most]:
            made = [self._made(group) for group in partition]
            if None not in made:
                legal.append((partition, self._found([each.cycles for each in made if each is not None])))
        own = KernelFamily(self._case.kernel.graph, self._chip, self._isa)
        shapes = shapes_of(self._case.kernel, self._all_sizes)
        chosen, chosen_free = (self._found(self._simulated([made(shapes)])) for made in (own.compile, own.apart))
        first_us, first_cycles = (
            sorted(legal, key=key)[:_IN_A_ROW]
            for key in (lambda each: (each[1].one_us, each[1].total), lambda each: each[1].total)
        )
        by_us = min(self._in_a_row(first_us), key=lambda each: (each[1].one_us, each[1].total))
        by_cycles = min(self._in_a_row(first_cycles), key=lambda each: each[1].total)
        alone = tuple(frozenset((number,)) for number in range(len(self._operators.all)))
        return Searched(
            len(self._operators.all),
            len(legal),
            exhaustive,
            sum(each is not None for each in self._known.values()),
            self._behind(alone),
            chosen,
            chosen_free,
            min(by_us[1], chosen, key=lambda each: each.one_us),
            min(by_cycles[1], chosen_free, key=lambda each: each.total),
            self._names(by_us[0]),
            self._names(by_cycles[0]),
        )

    def _in_a_row(self, found: Sequence[tuple[Partition, Found]]) -> list[tuple[Partition, Found]]:
        return [(partition, self._behind(partition)) for partition, _ in found]

    def _behind(self, partition: Partition) -> Found:
        """A partition whose groups run one behind the other, so that L2 holds what it holds in a call."""
        if partition not in self._rows:
            made = [self._made(group) for group in self._operators.ordered(partition)]
            self._rows[partition] = self._found(self._simulated([each.kernel for each in made if each is not None]))
        return self._rows[partition]

    def _names(self, partition: Partition) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(self._operators.all[number].name for number in sorted(group)) for group in partition)

    def _found(self, cycles: Sequence[int]) -> Found:
        host = self._chip.host
        stream = HostStream(float(host.launch_us), float(host.start_latency_us))
        for each in cycles:
            stream.launch(float(self._chip.cycles_to_us(each)))
        return Found(tuple(cycles), stream.end_us)

    def _made(self, group: Group) -> _Made | None:
        """A group as one launch; None where there is no program for all of it. A single operator may take several."""
        if group not in self._known:
            kernel, found = self._operators.kernel(group), []
            shapes = shapes_of(kernel, self._all_sizes)
            for pins in (Pins(fusion="pattern"), Pins(stack="mix")):
                try:
                    made = compile_kernel(kernel, shapes, self._chip, self._isa, pins)
                except CompileError:
                    continue
                if len(made.launches) == 1 or len(group) == 1:
                    found.append(_Made(sum(self._simulated([made])), made))
            self._known[group] = min(found, key=lambda each: each.cycles, default=None)
        return self._known[group]

    def _simulated(self, kernels: Sequence[CompiledKernel]) -> list[int]:
        """Cycles of each launch of kernels that run one behind the other, where L2 is as the call of all before left it."""
        windows: list[dict[str, tuple[int, int]]] = []
        known: dict[str, tuple[int, int]] = {}
        at = 0
        for made in kernels:
            for each in made.tensors:
                if each.kind != "workspace" and each.name not in known:
                    known[each.name] = at, each.nbytes
                    at += -(-each.nbytes // _ALIGN) * _ALIGN
        for made in kernels:
            space = [each for each in made.tensors if each.kind == "workspace"]
            own = {each.name: (at + each.offset, each.nbytes) for each in space}
            windows.append({**{each.name: known[each.name] for each in made.tensors if each not in space}, **own})
        l2 = l2_state(self._chip)
        cycles: list[int] = []
        for _ in range(2):
            cycles = []
            for made, named in zip(kernels, windows, strict=True):
                for launch in made.launches:
                    own_windows = [named[name] for name in launch.args]
                    result = simulate(
                        self._chip,
                        self._isa,
                        launch.image,
                        addresses=[address for address, _ in own_windows],
                        windows=own_windows,
                        data=False,
                        l2=l2,
                        engine=timing_engine(),
                        indices=IndexDistribution("uniform"),
                    )
                    cycles.append(result.cycles)
        return cycles

"""The chip's schema. Units stand in the field names; every number has bounds; unknown fields are refused.

Whole quantities are `int`; those that may be broken (`clock_ghz`, `bandwidth_gbps`, `cycles_per_repeat`, `row_cycles` of
vector classes and DMA engines, host times) are `fractions.Fraction`, exact from the decimal text of the file or from "a/b", so
that cycles never depend on floating-point rounding. KiB = 1024 bytes, GB/s = 10**9 bytes a second, GHz = 10**9 cycles a second.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from math import ceil
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from npuvm.hw.config.basics import Name, NameOrFile, Provenance, Rational, SameAs, Section
from npuvm.hw.config.checks import cross_field_problems

__all__ = [
    "BLOCK_BYTES",
    "GIB",
    "KIB",
    "MIB",
    "CoreConfig",
    "CoreType",
    "CubeConfig",
    "FixpipeConfig",
    "HbmConfig",
    "HostConfig",
    "IsaRef",
    "L2Config",
    "LinkConfig",
    "LoadConfig",
    "MemoryConfig",
    "MoveConfig",
    "NpuConfig",
    "SequencerConfig",
    "StoreConfig",
    "SyncConfig",
    "UbBanksConfig",
    "VectorClass",
    "VectorConfig",
]

CoreType: TypeAlias = Literal["unified", "cube", "vector"]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
BLOCK_BYTES = 32
"""Alignment of buffers and granule of on-chip transfers (npu_v1: every tile base in a buffer is 32-byte aligned)."""


class IsaRef(Section):
    """The instruction set that the chip executes."""

    base: Name = Field(description="base instruction set, a file of isa/")
    extensions: Annotated[tuple[NameOrFile, ...], Field(strict=False)] = Field(
        default=(),
        description="extensions laid over the base, in order; a file is looked for from the chip file's folder",
    )


class SequencerConfig(Section):
    """Fetch, decode, loops, scalar registers and dispatch into the units' queues; one per core."""

    fetch_words_per_cycle: int = Field(ge=1, le=8, description="64-bit words that reach the prefetch buffer in a cycle")
    fetch_latency_cycles: int = Field(
        ge=1, le=64, description="cycles from a branch to its first words in the prefetch buffer"
    )
    prefetch_words: int = Field(ge=8, le=1024, description="words that the prefetch buffer holds")
    decode_cycles_per_word: int = Field(ge=1, le=64, description="cycles to decode one 64-bit word")
    dispatch_cycles: int = Field(
        ge=0,
        le=64,
        description="further cycles to generate the addresses of an instruction and put it into a unit's queue",
    )
    loop_cycles: int = Field(ge=1, le=64, description="cycles of a loop's or a grid's step and branch")
    queue_depth: int = Field(
        ge=1, le=1024, description="instructions that wait in front of each unit; dispatch stalls when full"
    )
    scalar_cycles: int = Field(ge=0, le=64, description="further cycles of a scalar register instruction")
    scalar_load_cycles: int = Field(
        ge=0, le=100_000, description="cycles that a scalar load from global memory blocks dispatch"
    )
    barrier_cycles: int = Field(
        ge=0, le=100_000, description="cycles of a core-scope barrier after all units have drained"
    )
    start_cycles: int = Field(
        ge=0, le=1_000_000, description="cycles from the start of a core to its first decode (cold fetch)"
    )


class VectorClass(Section):
    """Cost of one timing class of vector instructions.

    occupancy = startup_cycles + ceil(repeats * cycles_per_repeat + rows * row_cycles); completion latency_cycles later.
    """

    startup_cycles: int = Field(ge=0, le=10_000, description="cycles before the first repeat; the unit is occupied")
    cycles_per_repeat: Rational = Field(gt=0, le=10_000, description="cycles for each repeat of repeat_bytes")
    row_cycles: Rational = Field(
        default=Fraction(0), ge=0, le=10_000, description="further cycles for each row of the tile"
    )
    latency_cycles: int = Field(ge=0, le=10_000, description="cycles from the end of occupancy to visible results")


class UbBanksConfig(Section):
    """How UB is built: groups of banks that are reached at the same time, one block read and one written in each a cycle."""

    groups: int = Field(ge=1, le=1024, description="bank groups; consecutive blocks lie in consecutive groups")
    banks_per_group: int = Field(ge=1, le=256, description="banks of a group, one range of addresses each")
    block_bytes: int = Field(
        ge=32, le=4096, multiple_of=BLOCK_BYTES, description="bytes that a group reads or writes in a cycle"
    )
    rows_per_bank: int = Field(ge=1, le=1 << 20, description="blocks that a bank holds")
    write_delay_cycles: int = Field(
        ge=0, le=1024, description="cycles by which the writing of a repeat follows its reading"
    )


class VectorConfig(Section):
    """The vector unit, working on tiles in UB."""

    repeat_bytes: int = Field(
        ge=32, le=65_536, multiple_of=BLOCK_BYTES, description="bytes of a row that one repeat covers"
    )
    classes: Mapping[Name, VectorClass] = Field(
        min_length=1, description="cost by timing class, the names that the instruction set uses"
    )


class CubeConfig(Section):
    """The matrix unit: one block is m x n outputs over k_bytes of depth."""

    m: int = Field(ge=1, le=1024, description="rows of a block")
    n: int = Field(ge=1, le=1024, description="columns of a block")
    k_bytes: int = Field(ge=4, le=4096, multiple_of=4, description="depth of a block, in bytes of the operand type")
    startup_cycles: int = Field(ge=0, le=10_000, description="cycles before the first block; the unit is occupied")
    latency_cycles: int = Field(ge=0, le=10_000, description="cycles from the end of occupancy to visible accumulators")
    cycles_per_block: Mapping[Name, Annotated[int, Field(ge=1, le=1024)]] = Field(
        min_length=1, description="cycles per block by operand type; a type that is not listed is not supported"
    )


class MoveConfig(Section):
    """L1 to L0A, L0B and L0C."""

    startup_cycles: int = Field(ge=0, le=10_000, description="cycles before the first byte; the unit is occupied")
    latency_cycles: int = Field(ge=0, le=10_000, description="cycles from the end of occupancy to visible data")
    l0a_bytes_per_cycle: int = Field(ge=1, le=65_536, description="rate into L0A")
    l0b_bytes_per_cycle: int = Field(ge=1, le=65_536, description="rate into L0B")
    l0c_bytes_per_cycle: int = Field(ge=1, le=65_536, description="rate into L0C (bias, preset accumulators)")
    row_cycles: int = Field(default=0, ge=0, le=1024, description="further cycles for each row of the tile")


class FixpipeConfig(Section):
    """L0C out, with cast. A rate of 0 says that the chip has no such path."""

    startup_cycles: int = Field(ge=0, le=10_000, description="cycles before the first byte; the unit is occupied")
    latency_cycles: int = Field(
        ge=0, le=10_000, description="cycles from the end of occupancy to visible data in UB or L1"
    )
    gm_bytes_per_cycle: int = Field(ge=0, le=65_536, description="rate to global memory, bytes written; 0: no path")
    ub_bytes_per_cycle: int = Field(ge=0, le=65_536, description="rate to UB, bytes written; 0: no path")
    l1_bytes_per_cycle: int = Field(ge=0, le=65_536, description="rate to L1, bytes written; 0: no path")


class LoadConfig(Section):
    """DMA engine from global memory to UB and L1."""

    startup_cycles: int = Field(ge=0, le=10_000, description="issue cycles of an instruction")
    row_cycles: Rational = Field(
        ge=0, le=1024, description="further issue cycles for each row that does not continue the last"
    )
    l1_startup_cycles: Annotated[int, SameAs("startup_cycles")] = Field(
        default=0, ge=0, le=10_000, description="issue cycles of an instruction that loads into L1"
    )
    l1_row_cycles: Annotated[Rational, SameAs("row_cycles")] = Field(
        default=Fraction(0), ge=0, le=1024, description="row_cycles of a load into L1"
    )
    ub_bytes_per_cycle: int = Field(ge=1, le=65_536, description="port rate into UB")
    l1_bytes_per_cycle: int = Field(ge=1, le=65_536, description="port rate into L1")
    chunk_bytes: int = Field(
        ge=32, le=1 << 20, multiple_of=BLOCK_BYTES, description="largest request to the memory system"
    )
    outstanding: int = Field(ge=1, le=4096, description="requests in flight at most")
    min_burst_bytes: int = Field(ge=1, le=65_536, description="a shorter row costs as much as this many bytes")


class StoreConfig(Section):
    """DMA engine from UB to global memory."""

    startup_cycles: int = Field(ge=0, le=10_000, description="issue cycles of an instruction")
    row_cycles: Rational = Field(
        ge=0, le=1024, description="further issue cycles for each row that does not continue the last"
    )
    bytes_per_cycle: int = Field(ge=1, le=65_536, description="port rate out of UB")
    chunk_bytes: int = Field(
        ge=32, le=1 << 20, multiple_of=BLOCK_BYTES, description="largest request to the memory system"
    )
    outstanding: int = Field(ge=1, le=4096, description="requests in flight at most")
    min_burst_bytes: int = Field(ge=1, le=65_536, description="a shorter row costs as much as this many bytes")


class SyncConfig(Section):
    """How long a signal takes."""

    set_to_visible_cycles: int = Field(
        ge=1, le=10_000, description="from a set to a wait of another unit of the same core"
    )
    group_cycles: int = Field(ge=0, le=100_000, description="further cycles to another core of the group")
    launch_cycles: int = Field(ge=0, le=1_000_000, description="further cycles to a core of another group")


class CoreConfig(Section):
    """The cores of the chip, all groups alike."""

    kind: Literal["unified", "split"] = Field(
        description="unified: cube and vector units in one core; split: a group is one cube core and some vector cores"
    )
    count: int = Field(ge=1, le=4096, description="core groups; of a unified chip, cores")
    vector_per_group: int = Field(
        default=1, ge=1, le=16, description="vector cores beside a cube core (split: 2 unless given; unified: 1)"
    )
    ub_kib: int = Field(ge=1, le=1 << 20, description="unified buffer of each core with a vector unit")
    l1_kib: int = Field(ge=1, le=1 << 20, description="L1 buffer of each core with a cube unit")
    l0a_kib: int = Field(ge=1, le=1 << 20, description="left operand buffer of the cube")
    l0b_kib: int = Field(ge=1, le=1 << 20, description="right operand buffer of the cube")
    l0c_kib: int = Field(ge=1, le=1 << 20, description="accumulator buffer of the cube")
    sequencer: SequencerConfig
    vector: VectorConfig
    cube: CubeConfig
    move: MoveConfig
    fixpipe: FixpipeConfig
    load: LoadConfig
    store: StoreConfig
    sync: SyncConfig
    ub_banks: UbBanksConfig | None = Field(
        default=None, description="banks of UB; without it vector operands never conflict"
    )

    @model_validator(mode="before")
    @classmethod
    def _two_vector_cores_beside_a_cube_core(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("kind") == "split":
            return {"vector_per_group": 2, **data}
        return data


class L2Config(Section):
    """Cache between all cores and HBM."""

    capacity_mib: int = Field(ge=1, le=1 << 20, description="capacity")
    bandwidth_gbps: Rational = Field(gt=0, le=1_000_000, description="all slices together, reads plus writes")
    latency_cycles: int = Field(
        ge=0, le=100_000, description="from a request to its data on a hit, transfer time apart"
    )
    line_bytes: int = Field(ge=32, le=65_536, multiple_of=BLOCK_BYTES, description="cache line")
    slices: int = Field(ge=1, le=4096, description="slices that serve at the same time, interleaved by line")
    access_bytes: int = Field(
        default=1, ge=1, le=65_536, description="an access to a line occupies its slice for at least this many bytes"
    )
    same_line_cycles: int = Field(
        default=0, ge=0, le=100_000, description="at least so far apart are accesses of different cores to one line"
    )
    sector_bytes: int = Field(
        default=0,
        ge=0,
        le=65_536,
        multiple_of=BLOCK_BYTES,
        description="part of a line that a streaming read fetches alone; 0: the whole line",
    )
    unaligned_reads: Literal["cached", "uncached"] = Field(
        default="cached",
        description="uncached: reads that begin or end off a 32-byte block fetch the line from HBM and L2 does not keep it",
    )


class HbmConfig(Section):
    """Main memory."""

    capacity_gib: int = Field(ge=1, le=1 << 20, description="capacity")
    bandwidth_gbps: Rational = Field(gt=0, le=1_000_000, description="all channels together, reads plus writes")
    latency_cycles: int = Field(ge=0, le=100_000, description="on an L2 miss, added to the latency of L2")
    channels: int = Field(ge=1, le=4096, description="channels that serve at the same time")
    interleave_bytes: int = Field(
        ge=32, le=1 << 30, multiple_of=BLOCK_BYTES, description="bytes after which the next channel follows"
    )
    burst_bytes: int = Field(default=1, ge=1, le=65_536, description="a channel transfers whole multiples of this")
    row_bytes: int = Field(
        default=0, ge=0, le=1 << 30, description="bytes of a channel that lie in one row of a bank; 0: no rows"
    )
    row_miss_cycles: int = Field(
        default=0, ge=0, le=10_000, description="further cycles of the channel when the row is not the bank's open one"
    )
    banks: int = Field(default=16, ge=1, le=4096, description="banks of a channel, one open row each")
    turnaround_cycles: int = Field(
        default=0, ge=0, le=10_000, description="further cycles of the channel between a read and a write"
    )
    same_line_cycles: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="further cycles of the channel for the line that another core had just before",
    )


class MemoryConfig(Section):
    """What all cores share."""

    l2: L2Config
    hbm: HbmConfig
    address_hash: bool = Field(
        default=False, description="slices and channels are picked by a hash of the address instead of its low bits"
    )


class LinkConfig(Section):
    """The link to a host with memory of its own; both directions work at the same time."""

    to_device_gbps: Rational = Field(gt=0, le=1_000_000, description="rate from the host's memory to the chip's")
    to_host_gbps: Rational = Field(gt=0, le=1_000_000, description="rate from the chip's memory to the host's")
    latency_us: Rational = Field(ge=0, le=1_000_000, description="from the call of a transfer to its first byte")


class HostConfig(Section):
    """Cost of getting work and data onto the chip; simulated time, never measured."""

    launch_us: Rational = Field(ge=0, le=1_000_000, description="time the host spends on each launch")
    start_latency_us: Rational = Field(ge=0, le=1_000_000, description="from the doorbell to the first instruction")
    link: LinkConfig | None = Field(
        default=None,
        description="link to a host with memory of its own; without it host and chip share memory, "
        "and a transfer is a copy in it",
    )


_SPACE_FIELDS = {"ub": "ub_kib", "l1": "l1_kib", "l0a": "l0a_kib", "l0b": "l0b_kib", "l0c": "l0c_kib"}
_CUBE_SPACES = ("l1", "l0a", "l0b", "l0c")
_SPACES: dict[str, tuple[str, ...]] = {
    "unified": ("gm", "ub", *_CUBE_SPACES),
    "cube": ("gm", *_CUBE_SPACES),
    "vector": ("gm", "ub"),
}
_UNITS: dict[str, tuple[str, ...]] = {
    "unified": ("seq", "load", "move", "cube", "fixpipe", "vector", "store"),
    "cube": ("seq", "load", "move", "cube", "fixpipe"),
    "vector": ("seq", "load", "vector", "store"),
}


class NpuConfig(Section):
    """One chip."""

    name: Name = Field(description="name of the chip")
    description: str = Field(default="", description="what it is, in a sentence")
    isa: IsaRef
    clock_ghz: Rational = Field(gt=0, le=100, description="clock of the cores; all cycles count in it")
    core: CoreConfig
    memory: MemoryConfig
    host: HostConfig

    _provenance: Mapping[str, Provenance] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _fields_agree(self) -> NpuConfig:
        if problems := list(cross_field_problems(self)):
            text = "; ".join(f"{'.'.join(path)}: {allowed}" for path, allowed in problems)
            raise PydanticCustomError("cross_field", "{text}", {"text": text, "problems": problems})
        return self

    def __hash__(self) -> int:
        return hash(self.chip_hash)

    @property
    def provenance(self) -> Mapping[str, Provenance]:
        """Field path ("core.ub_kib") -> origin, for every number that the file gives one for, and for every override."""
        return MappingProxyType(dict(self._provenance))

    @property
    def n_cores(self) -> int:
        """Cores of all types."""
        return len(self.group_core_types) * self.core.count

    @cached_property
    def group_core_types(self) -> tuple[CoreType, ...]:
        """Cores of one group in launch order: ("unified",), or ("cube", "vector", ...)."""
        if self.core.kind == "unified":
            return ("unified",)
        vector: CoreType = "vector"
        return ("cube", *(vector for _ in range(self.core.vector_per_group)))

    def core_types(self) -> list[CoreType]:
        """Type of every core in launch order, group after group."""
        return list(self.group_core_types) * self.core.count

    def core_type_with(self, unit: str) -> CoreType:
        """Type of the cores that have this unit; of the first in a group, should several have it. Raise KeyError for none."""
        for core_type in self.group_core_types:
            if unit in _UNITS[core_type]:
                return core_type
        raise KeyError(unit)

    def cores_with(self, unit: str) -> int:
        """Number of cores that have this unit, all groups together."""
        return self.core.count * sum(unit in _UNITS[core_type] for core_type in self.group_core_types)

    def spaces(self, core_type: CoreType) -> tuple[str, ...]:
        """Address spaces that a core of this type reaches, by their names in the instruction set."""
        return _SPACES[core_type]

    def units(self, core_type: CoreType) -> tuple[str, ...]:
        """Units of a core of this type, by their names in the instruction set."""
        return _UNITS[core_type]

    def capacity_bytes(self, space: str) -> int:
        """Bytes of a space: ub, l1, l0a, l0b, l0c (of one core), gm (HBM), l2. Raise KeyError for any other name."""
        if space == "gm":
            return self.memory.hbm.capacity_gib * GIB
        if space == "l2":
            return self.memory.l2.capacity_mib * MIB
        kib: int = getattr(self.core, _SPACE_FIELDS[space])
        return kib * KIB

    @cached_property
    def l2_bytes_per_cycle(self) -> Fraction:
        """Bytes that all L2 slices together serve in a core cycle."""
        return self.memory.l2.bandwidth_gbps / self.clock_ghz

    @cached_property
    def hbm_bytes_per_cycle(self) -> Fraction:
        """Bytes that all HBM channels together serve in a core cycle."""
        return self.memory.hbm.bandwidth_gbps / self.clock_ghz

    def us_to_cycles(self, us: Fraction | int) -> int:
        """Whole core cycles that cover `us` microseconds."""
        return ceil(us * self.clock_ghz * 1000)

    def cycles_to_us(self, cycles: int) -> Fraction:
        """Exact microseconds of a number of core cycles."""
        return cycles / (self.clock_ghz * 1000)

    @cached_property
    def chip_hash(self) -> str:
        """SHA-256 (hex) of all that programs and launches depend on.

        That is every field but name, description and the link to the host, which only transfers pass. The origin of the
        numbers is not in it either.
        """
        fields = self.model_dump(mode="json", exclude={"name": True, "description": True, "host": {"link"}})
        return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

"""Which numbers of a chip are uncertain, by how much, and what values they may take."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import annotated_types as at
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from npuvm.hw.config import NpuConfig

__all__ = ["FIXED", "Parameter", "uncertain_parameters"]

FIXED: tuple[str, ...] = (
    "core.count",
    "core.vector_per_group",
    "core.ub_kib",
    "core.l1_kib",
    "core.l0a_kib",
    "core.l0b_kib",
    "core.l0c_kib",
    "core.sequencer.fetch_words_per_cycle",
    "core.sequencer.prefetch_words",
    "core.vector.repeat_bytes",
    "core.cube.m",
    "core.cube.n",
    "core.cube.k_bytes",
    "core.load.chunk_bytes",
    "core.store.chunk_bytes",
    "core.ub_banks.groups",
    "core.ub_banks.banks_per_group",
    "core.ub_banks.block_bytes",
    "core.ub_banks.rows_per_bank",
    "memory.l2.capacity_mib",
    "memory.l2.line_bytes",
    "memory.l2.sector_bytes",
    "memory.l2.slices",
    "memory.hbm.capacity_gib",
    "memory.hbm.channels",
    "memory.hbm.interleave_bytes",
    "memory.hbm.row_bytes",
    "memory.hbm.banks",
    "host.launch_us",
    "host.start_latency_us",
    "host.link.to_device_gbps",
    "host.link.to_host_gbps",
    "host.link.latency_us",
)
"""Numbers that stay: structure, for which programs are made and which is no matter of degree; and the host's, as no cycle of a
launch depends on them."""

_DIGITS = 4
"""Significant digits of a rational parameter's values. The chip's schema keeps rationals exact, so long ones are slow."""

_FASTER_WHEN_HIGHER = ("_per_cycle", "_gbps", "clock_ghz", "outstanding", "queue_depth")


@dataclass(frozen=True)
class Parameter:
    """An uncertain number: its value, relative error bar, and the bounds of the schema (None: none)."""

    path: str
    value: Fraction
    error: float
    trust: str
    whole: bool
    least: Fraction | None
    most: Fraction | None
    step: int

    @property
    def faster_when_higher(self) -> bool:
        """Whether a higher value makes a chip faster (a rate, a place in a queue) rather than slower (a time)."""
        return self.path.endswith(_FASTER_WHEN_HIGHER)

    @property
    def range(self) -> tuple[int | Fraction, int | Fraction]:
        """The values at the ends of the error bar, value / (1 + error) and value * (1 + error), as the schema allows them."""
        return self.at(-1.0), self.at(1.0)

    def at(self, position: float) -> int | Fraction:
        """The value at a place of the error bar, -1 (low end) to 1 (high end), evenly in the logarithm.

        Rounded to what the schema allows; a number that is not 0 does not become 0, which often means that something is
        absent.
        """
        wanted = float(self.value) * (1 + self.error) ** position
        if not self.whole:
            return self._bounded(Fraction(f"{wanted:.{_DIGITS}g}"))
        steps = max(1, round(wanted / self.step))
        return int(self._bounded(Fraction(steps * self.step)))

    def _bounded(self, value: Fraction) -> Fraction:
        if self.least is not None:
            value = max(value, self.least)
        return value if self.most is None else min(value, self.most)


def uncertain_parameters(chip: NpuConfig) -> tuple[Parameter, ...]:
    """The numbers of a chip with an error bar, in the order of its file.

    A number without an origin is taken as exact, and so is one of 0, of which a share is nothing. A field that follows
    another one unless it is given varies with that one. `FIXED` names what stays.
    """
    found = []
    for path, origin in chip.provenance.items():
        if path in FIXED or not origin.error_pct:
            continue
        value, field = _field_at(chip, path.split("."))
        if not isinstance(value, (int, Fraction)) or not value:
            continue
        least, most, step = _bounds(field)
        error = origin.error_pct / 100
        found.append(Parameter(path, Fraction(value), error, origin.trust, isinstance(value, int), least, most, step))
    return tuple(found)


def _field_at(section: BaseModel, path: Sequence[str]) -> tuple[Any, Sequence[Any]]:
    """Value of a field path and the schema's metadata of it; (None, ()) when it lies in a section that the chip has not."""
    node: Any = section
    metadata: Sequence[Any] = ()
    for key in path:
        if isinstance(node, BaseModel):
            field = type(node).model_fields[key]
            metadata, node = _metadata(field), getattr(node, key)
        elif isinstance(node, Mapping):
            node = node.get(key)
        else:
            return None, ()
    return node, metadata


def _metadata(field: FieldInfo) -> Sequence[Any]:
    """Bounds of a field, or of the entries of a mapping."""
    kind = field.annotation
    if typing.get_origin(kind) is not Mapping:
        return field.metadata
    item = typing.get_args(kind)[1]
    _, *metadata = typing.get_args(item) or (item,)
    return [bound for info in metadata for bound in getattr(info, "metadata", [info])]


def _bounds(metadata: Sequence[Any]) -> tuple[Fraction | None, Fraction | None, int]:
    least = most = None
    step = 1
    for bound in metadata:
        if isinstance(bound, at.Ge):
            least = Fraction(str(bound.ge))
        elif isinstance(bound, at.Le):
            most = Fraction(str(bound.le))
        elif isinstance(bound, at.MultipleOf):
            step = int(str(bound.multiple_of))
    return least, most, step

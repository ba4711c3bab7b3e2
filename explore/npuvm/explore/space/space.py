"""A design space: points, what each makes of the chip and of the compiler, and which of them are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from npuvm.explore.space.constraints import Constraint, Lookup
from npuvm.explore.space.measures import Measure
from npuvm.explore.space.parameters import EXTENSIONS, Parameter, Point
from npuvm.explore.space.schema import SearchFields, Value
from npuvm.explore.space.workloads import Workload
from npuvm.hw.config import NpuConfig, chip_reader
from npuvm.hw.errors import ConfigError

__all__ = ["Objective", "Rule", "Setup", "Space", "known_names"]


@dataclass(frozen=True)
class Objective:
    """A measure that counts, of one workload or of all by weight."""

    measure: Measure
    workload: str | None = None

    @property
    def name(self) -> str:
        """As reports show it: "latency_us", or "latency_us of prefill"."""
        return self.measure.name if self.workload is None else f"{self.measure.name} of {self.workload}"


@dataclass(frozen=True)
class Rule:
    """A constraint with its reason and its place in the file."""

    constraint: Constraint
    because: str
    where: str

    def broken(self, lookup: Lookup) -> str | None:
        """Why it does not hold; None where it does."""
        try:
            return None if self.constraint.holds(lookup) else str(self)
        except ValueError as error:
            return str(error)

    def __str__(self) -> str:
        return self.constraint.text + (f" ({self.because})" if self.because else "")


@dataclass(frozen=True)
class Setup:
    """What a point makes of the chip and of the compiler; options that are no parameter are None, the compiler's own."""

    overrides: tuple[str, ...]
    fusion: str | None = None
    buffering: str | None = None


@dataclass(frozen=True)
class Space:
    """A design space as its file has it. `base` is the chip's name or file; `text` is the file's text."""

    name: str
    title: str
    path: Path
    text: str
    base: str
    parameters: tuple[Parameter, ...]
    rules: tuple[Rule, ...]
    workloads: tuple[Workload, ...]
    objectives: tuple[Objective, ...]
    budgets: Mapping[str, float]
    technology: str
    search: SearchFields
    extensions: tuple[str, ...] = field(default=())
    """Extensions that every chip of the space has: those of the base."""

    @property
    def size(self) -> int:
        """Combinations of values; those that constraints exclude count too."""
        return prod(len(parameter.values) for parameter in self.parameters)

    @cached_property
    def _chip_of(self) -> Callable[[tuple[str, ...]], NpuConfig]:
        # Whether a combination is a point is asked just before it is evaluated.
        return lru_cache(maxsize=1024)(chip_reader(self.base))

    def points(self) -> Iterator[Point]:
        """All combinations of values, the last parameter fastest."""
        names = [parameter.name for parameter in self.parameters]
        for values in product(*(parameter.values for parameter in self.parameters)):
            yield dict(zip(names, values, strict=True))

    def setup(self, point: Point) -> Setup:
        """What a point makes of chip and compiler."""
        fields: dict[str, Value] = {}
        extensions = list(self.extensions)
        for parameter in self.parameters:
            value = point[parameter.name]
            fields.update(parameter.writes(value))
            if parameter.kind == "extension" and value:
                extensions.append(parameter.extension)
        overrides = [f"{name}={_yaml(value)}" for name, value in fields.items()]
        if any(parameter.kind == "extension" for parameter in self.parameters):
            overrides.append(f"{EXTENSIONS}=[{', '.join(extensions)}]")
        fusion, buffering = (
            None if option is None else str(option)
            for option in (point.get("compiler.fusion"), point.get("compiler.buffering"))
        )
        return Setup(tuple(overrides), fusion, buffering)

    def chip(self, point: Point) -> NpuConfig:
        """The chip of a point; ConfigError where its fields contradict each other."""
        return self._chip_of(self.setup(point).overrides)

    def broken_rules(self, point: Point) -> tuple[str, ...]:
        """The constraints that a combination breaks, or that have no value at it."""
        lookup = self._lookup(point)
        return tuple(reason for rule in self.rules if (reason := rule.broken(lookup)) is not None)

    def contradiction(self, point: Point) -> str | None:
        """What fields of a combination's chip contradict each other in."""
        try:
            self.chip(point)
        except ConfigError as error:
            return str(error)
        return None

    def fault(self, point: Point) -> str | None:
        """Why a combination is no point of the space; None for a point."""
        return next(iter(self.broken_rules(point)), None) or self.contradiction(point)

    def _lookup(self, point: Point) -> Lookup:
        written: dict[str, Any] = {
            name: value for each in self.parameters for name, value in each.writes(point[each.name]).items()
        }
        chosen = [each.extension for each in self.parameters if each.kind == "extension" and point[each.name]]
        written[EXTENSIONS] = [Path(extension).stem for extension in (*self.extensions, *chosen)]

        def lookup(name: str) -> Any:
            if name in written:
                return written[name]
            return point[name] if name in point else field_of(self._chip_of(()), name)

        return lookup

    def key(self, point: Point) -> tuple[Value, ...]:
        """The values of a point in the order of the parameters."""
        return tuple(point[parameter.name] for parameter in self.parameters)


def field_of(chip: NpuConfig, dotted: str) -> Any:
    """A field of a chip by its path; KeyError for none."""
    node: Any = chip
    for part in dotted.split("."):
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif not part.startswith("_") and part in getattr(type(node), "model_fields", {}):
            node = getattr(node, part)
        else:
            raise KeyError(dotted)
    return node


def known_names(parameters: Sequence[Parameter], chip: NpuConfig, name: str) -> bool:
    """Whether a constraint may read a name: a parameter or a field of the chip."""
    if any(parameter.name == name for parameter in parameters):
        return True
    try:
        return not isinstance(field_of(chip, name), BaseModel | Mapping)
    except KeyError:
        return False


def _yaml(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

"""Chips drawn from the error bars of a chip, and chips with one number at an end of its bar."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from npuvm.hw.config import NpuConfig
from npuvm.hw.config.fields import leaves
from npuvm.hw.errors import ConfigError
from npuvm.hw.uncertainty.parameters import Parameter

__all__ = ["chip_at_end", "sample_chips"]

_PARTS = (1.0, 0.75, 0.5, 0.25)
"""Parts of an error bar that are tried, in this order, where a rule between fields forbids the whole."""

_REDRAWS = 200
"""Draws of a chip's offending numbers before its error bars are held to contradict its rules."""


def chip_at_end(chip: NpuConfig, parameter: Parameter, end: int) -> NpuConfig | None:
    """The chip with one number at the low (-1) or high (1) end of its error bar, or as near to it as the chip's rules allow.

    None when rounding or the rules leave the number at its value.
    """
    for part in _PARTS:
        value = parameter.at(end * part)
        if value == parameter.value:
            break
        try:
            return _validated(chip, {parameter.path: value})
        except ValidationError:
            continue
    return None


def sample_chips(chip: NpuConfig, parameters: Sequence[Parameter], count: int, seed: int) -> Iterator[NpuConfig]:
    """`count` chips whose parameters are drawn independently, the same for the same arguments.

    The logarithm of a number is distributed as a triangle over its error bar: most likely is the nominal value, and its half as
    likely as its double. Numbers that break a rule between fields are drawn again. ConfigError when that
    does not end.
    """
    generator = random.Random(seed)
    for _ in range(count):
        yield _sample(chip, parameters, generator)


def _sample(chip: NpuConfig, parameters: Sequence[Parameter], generator: random.Random) -> NpuConfig:
    values = {each.path: each.at(generator.triangular(-1.0, 1.0, 0.0)) for each in parameters}
    faults: set[str] = set()
    for _ in range(_REDRAWS):
        try:
            return _validated(chip, values)
        except ValidationError as exc:
            faults = _offending(exc)
        again = [each for each in parameters if each.path in faults] or parameters
        values |= {each.path: each.at(generator.triangular(-1.0, 1.0, 0.0)) for each in again}
    raise ConfigError(
        f"{chip.name}: hardly any chip within the error bars keeps the rules of {', '.join(sorted(faults))}"
    )


def _validated(chip: NpuConfig, values: Mapping[str, Any]) -> NpuConfig:
    data = chip.model_dump()
    for path in _followers(chip):
        section, name = _section(data, path)
        del section[name]
    for path, value in values.items():
        section, name = _section(data, path)
        section[name] = value
    return NpuConfig.model_validate(data)


def _followers(chip: NpuConfig) -> Iterator[str]:
    """Fields that are as another one of their section because the chip's file does not give them."""
    for leaf in leaves():
        path = ".".join(leaf.path)
        if leaf.follows and path not in chip.provenance:
            section = _model_section(chip, leaf.path[:-1])
            if section is not None and getattr(section, leaf.path[-1]) == getattr(section, leaf.follows):
                yield path


def _model_section(chip: NpuConfig, path: Sequence[str]) -> BaseModel | None:
    node: Any = chip
    for key in path:
        node = getattr(node, key, None)
    return node if isinstance(node, BaseModel) else None


def _section(data: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *keys, name = path.split(".")
    for key in keys:
        data = data[key]
    return data, name


def _offending(exc: ValidationError) -> set[str]:
    """Paths of the fields that the faults are about."""
    paths = set()
    for error in exc.errors(include_url=False):
        problems = error["ctx"]["problems"] if error["type"] == "cross_field" else [(error["loc"], "")]
        paths |= {".".join(map(str, path)) for path, _ in problems}
    return paths

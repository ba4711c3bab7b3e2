"""What the sections of the chip's schema are made of: exact numbers, names, defaults that follow another field, origins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = [
    "DEFAULT_ERROR_PCT",
    "MAX_ERROR_PCT",
    "Name",
    "NameOrFile",
    "Provenance",
    "Rational",
    "SameAs",
    "Section",
    "Trust",
]

Trust: TypeAlias = Literal["high", "medium", "low", "assumed"]

DEFAULT_ERROR_PCT: Mapping[Trust, float] = MappingProxyType({"high": 3.0, "medium": 10.0, "low": 30.0, "assumed": 50.0})
"""Error bar in percent of a number that states none, by trust. Judgement, not measurement: how far such sources disagreed."""

MAX_ERROR_PCT = 1000
"""Greatest error bar that a file may state."""


@dataclass(frozen=True)
class Provenance:
    """Where a number comes from, and how far it is trusted. `stated_error_pct` is the error bar that the file gives it."""

    source: str
    trust: Trust
    stated_error_pct: float | None = None

    @property
    def error_pct(self) -> float:
        """Error bar: the true number lies within so many percent of the value. Without a stated one, that of the trust."""
        return DEFAULT_ERROR_PCT[self.trust] if self.stated_error_pct is None else self.stated_error_pct


_RATIO = re.compile(r"[0-9]+/[1-9][0-9]*|[0-9]+(\.[0-9]+)?")


def _to_fraction(value: object) -> Fraction:
    """Exact rational of an int, of the shortest decimal that reads back as a float, of "a/b" or of "1.25"."""
    if isinstance(value, Fraction):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Fraction(repr(value))
    if isinstance(value, str) and _RATIO.fullmatch(value):
        return Fraction(value)
    raise ValueError("not a rational number")


Rational = Annotated[Fraction, BeforeValidator(_to_fraction)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
NameOrFile = Annotated[str, Field(pattern=r"^([a-z][a-z0-9_]*|.+\.yaml)$")]


@dataclass(frozen=True)
class SameAs:
    """Marks a field that is as another one of its section unless it is given."""

    field: str


class Section(BaseModel):
    """A part of the chip: read-only, no unknown fields, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _fill_what_follows_another_field(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        filled = dict(data)
        for name, field in cls.model_fields.items():
            for mark in field.metadata:
                if isinstance(mark, SameAs) and name not in data and mark.field in data:
                    filled[name] = data[mark.field]
        return filled

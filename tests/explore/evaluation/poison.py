"""Chips with fields that nobody may look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from npuvm.hw.config import NpuConfig

__all__ = ["Touched", "poisoned"]

_LOOKS = (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow neg pos abs int float index bool lt le "
    "gt ge eq ne hash len iter getitem contains str repr format round ceil floor trunc and rand or ror divmod rdivmod getattr"
)


class Touched(Exception):
    """Somebody has looked at a field."""


class _Poison:
    """A value that raises whatever is done with it, but for being passed on."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        object.__setattr__(self, "path", path)


def _raising(look: str) -> Callable[..., NoReturn]:
    def touched(self: _Poison, *_: object) -> NoReturn:
        raise Touched(f"{look} of {object.__getattribute__(self, 'path')}")

    return touched


for _look in _LOOKS.split():
    setattr(_Poison, f"__{_look}__", _raising(_look))


def poisoned(chip: NpuConfig, paths: Sequence[str]) -> NpuConfig:
    """A chip that differs from another one in these fields alone, none of which can be used for anything.

    What a chip computes of its fields once is computed anew; it has a hash of its own, so that no cache knows it.
    """
    made: NpuConfig = _copy(chip, [path.split(".") for path in paths])
    made.__dict__["chip_hash"] = f"poisoned {id(made)}"
    object.__setattr__(made, "__pydantic_private__", {"_provenance": {}})
    return made


def _copy(section: Any, paths: Sequence[Sequence[str]]) -> Any:
    names = type(section).model_fields
    fields = {name: value for name, value in section.__dict__.items() if name in names}
    for name in dict.fromkeys(path[0] for path in paths):
        if name not in fields:
            raise KeyError(name)
        inner = [path[1:] for path in paths if path[0] == name]
        fields[name] = _copy(fields[name], inner) if all(inner) else _Poison(name)
    made = type(section).model_construct()
    object.__setattr__(made, "__dict__", fields)
    return made

"""Frozen dataclasses that are made for each shape of a kernel: their constructors count."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

__all__ = ["quick_record"]

T = TypeVar("T")


def quick_record(made: type[T]) -> type[T]:
    """The frozen dataclass with slots and without factories, whose constructor writes the slots themselves.

    The one that it had looks each field up by name to get past the ban on writing, which takes twice the time.
    """
    own: tuple[Field[Any], ...] = fields(made)  # type: ignore[arg-type]
    scope: dict[str, Any] = {f"set_{each.name}": getattr(made, each.name).__set__ for each in own}
    scope |= {f"default_{each.name}": each.default for each in own if each.default is not MISSING}
    given = [f"{n}=default_{n}" if f"default_{n}" in scope else n for n in (each.name for each in own)]
    lines = [f"def __init__(self, {', '.join(given)}):", *(f"    set_{each.name}(self, {each.name})" for each in own)]
    # The text is made of names of fields in this code, never of a user's input.
    exec("\n".join(lines), scope)
    scope["__init__"].__annotations__ = made.__init__.__annotations__
    made.__init__ = scope["__init__"]  # type: ignore[method-assign]
    return made

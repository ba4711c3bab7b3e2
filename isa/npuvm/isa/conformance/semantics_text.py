"""Writes the text of a small program: sizes and descriptors by what they are, instructions in between."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Program", "Window"]


@dataclass(frozen=True, slots=True)
class Window:
    """A window on global memory: the tile's first row and column in a tensor of rows x cols."""

    row0: int
    col0: int
    rows: int
    cols: int


@dataclass
class Program:
    """A program without loops for one core. Table entries are made when they are first asked for, all in front.

    `size` and `desc` return the names to write into instructions; `signal` a semaphore that starts at 0.
    """

    core: str = "unified"
    _set_up: list[str] = field(default_factory=list)
    _body: list[str] = field(default_factory=list)
    _names: dict[object, str] = field(default_factory=dict)
    _semaphores: int = 0

    def size(self, value: int) -> str:
        """A constant size."""
        return self._entry(("size", value), "s", f"szc size={{}} full={value}")

    def desc(
        self, space: str, base: int, pitch: int = 0, *, arg: int | None = None, window: Window | None = None
    ) -> str:
        """A descriptor; `base` counts from an argument of the launch in global memory."""
        place = f"{base:#x}" if arg is None else f"@arg{arg}+{base}" if base >= 0 else f"@arg{arg}{base}"
        lines = [f"desc desc={{}} space={space} base={place} pitch={pitch}"]
        if window is not None:
            w = window
            lines.append(f"dwin desc={{}} row0={w.row0} col0={w.col0} rows={w.rows} cols={w.cols}")
        return self._entry(("desc", space, base, pitch, arg, window), "d", *lines)

    def signal(self) -> str:
        """A new semaphore."""
        name = f"m{self._semaphores}"
        self._semaphores += 1
        self._set_up.append(f"sem sem={name} value=0")
        return name

    def add(self, line: str) -> None:
        """An instruction."""
        self._body.append(line)

    def text(self, args: int) -> str:
        """The whole program for so many arguments."""
        lines = [f".args {args}", f".entry {self.core} 0", *self._set_up, *self._body, "halt", ""]
        return "\n".join(lines)

    def _entry(self, key: object, prefix: str, *lines: str) -> str:
        if key not in self._names:
            name = f"{prefix}{sum(each.startswith(prefix) for each in self._names.values())}"
            self._names[key] = name
            self._set_up += [line.format(name) for line in lines]
        return self._names[key]

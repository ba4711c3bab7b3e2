"""Assembly text of the validation kernels that the kernel language does not express, and the images made of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa, assemble

__all__ = ["core_of", "image_of"]

Range = tuple[int, int]


def core_of(chip: NpuConfig, unit: str) -> str:
    """The type of the cores that have `unit`."""
    return chip.core_type_with(unit)


def image_of(isa: Isa, name: str, core_type: str, args: int, cores: Iterable[Sequence[Range]], body: str) -> Image:
    """The image of one program that all cores run; `cores` gives each one's tiles of every phase."""
    entries = [
        f".entry {core_type} main {' '.join(f'{start}:{stop}' for start, stop in ranges)}".rstrip() for ranges in cores
    ]
    return assemble(isa, "\n".join([f".args {args}", *entries, "main:", body, "halt"]), name)

"""What results follow from, as digests: equal keys, equal results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import npuvm.compiler
import npuvm.explore.space
import npuvm.hw
import npuvm.isa
import npuvm.runtime
from npuvm.compiler.tiles.library import find_library
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = [
    "UNCOMPILED",
    "UNTIMED",
    "code_hash",
    "code_name",
    "compile_fields",
    "digest",
    "image_digest",
    "time_fields",
    "used_instructions",
]

UNTIMED = (
    "name",
    "description",
    "isa",
    "core.ub_kib",
    "core.l1_kib",
    "core.l0a_kib",
    "core.l0b_kib",
    "core.l0c_kib",
    "memory.hbm.capacity_gib",
    "host",
)
"""Fields that the cycles of a program cannot depend on: what fits was checked before, and the host comes after.

Of the instruction set they depend on the instructions that the program has (`used_instructions`).
"""

UNCOMPILED = (
    "name",
    "description",
    "isa",
    "core.sequencer.fetch_words_per_cycle",
    "core.sequencer.fetch_latency_cycles",
    "core.sequencer.prefetch_words",
    "core.sequencer.dispatch_cycles",
    "core.sequencer.loop_cycles",
    "core.sequencer.scalar_cycles",
    "core.sequencer.scalar_load_cycles",
    "core.sequencer.barrier_cycles",
    "core.sequencer.start_cycles",
    "core.sync.set_to_visible_cycles",
    "memory.l2.sector_bytes",
    "memory.hbm.burst_bytes",
    "memory.hbm.turnaround_cycles",
    "host.start_latency_us",
    "host.link",
)
"""Fields that programs cannot depend on; of the instruction set they depend on its hash, which keys hold beside the fields."""

_ROOMS = (npuvm.isa, npuvm.hw, npuvm.compiler, npuvm.runtime, npuvm.explore.space)

_NAME_DIGITS = 12


def digest(*parts: object) -> str:
    """A digest of values that have a JSON form."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


@cache
def code_hash() -> str:
    """What makes results, by the text of its modules: another compiler or simulator may give others."""
    found = hashlib.sha256()
    for room in (*_ROOMS, None):
        folder = Path(__file__ if room is None else str(room.__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            found.update(f"{folder.name}/{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def code_name() -> str:
    """The code of this process as people see it: the head of `code_hash`."""
    return code_hash()[:_NAME_DIGITS]


def compile_fields(chip: NpuConfig, isa: Isa) -> dict[str, Any]:
    """All of a chip that its programs follow from, measured tiles included."""
    library = find_library(chip, isa)
    tiles = None if library is None else hashlib.sha256(library.path.read_bytes()).hexdigest()
    return {"chip": _without(chip, UNCOMPILED), "isa": isa.hash, "tiles": tiles}


def time_fields(chip: NpuConfig) -> dict[str, Any]:
    """All of a chip that the cycles of programs, and what they count, follow from."""
    return _without(chip, UNTIMED)


def _without(chip: NpuConfig, left: Collection[str]) -> dict[str, Any]:
    fields = chip.model_dump(mode="json")
    for dotted in left:
        *sections, last = dotted.split(".")
        node: Any = fields
        for section in sections:
            node = node[section]
        del node[last]
    return fields


def used_instructions(isa: Isa, images: Iterable[Image]) -> str:
    """A digest of an instruction set without the instructions that these images do not have.

    A set with further instructions has the same one, and does the same with the words of the images.
    """
    opcode, length = isa.head["opcode"], isa.head["length"]
    used: set[int] = set()
    for image in images:
        words = image.words.tolist()
        index = 0
        while index < len(words):
            used.add(words[index] >> opcode.low & (1 << opcode.width) - 1)
            index += 1 + (words[index] >> length.low & (1 << length.width) - 1)
    rest = {name: part for name, part in isa.resolved.items() if name not in ("instructions", "extensions")}
    return digest(rest, [each for each in isa.resolved["instructions"] if each["opcode"] in used])


def image_digest(image: Image) -> str:
    """An image by all but its name and its instruction set."""
    tables = (
        image.n_args,
        tuple(image.entries),
        [(each.word, each.arg, each.addend) for each in image.relocs],
    )
    return hashlib.blake2b(image.words.tobytes() + repr(tables).encode(), digest_size=20).hexdigest()

"""All artifacts of an instruction set, written and checked together."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npuvm.isa.errors import IsaError
from npuvm.isa.generate.decoder import decoder_sv
from npuvm.isa.generate.firmware import c_header
from npuvm.isa.generate.opcode_map import opcodes_markdown
from npuvm.isa.generate.package import package_sv
from npuvm.isa.generate.reference import reference_markdown
from npuvm.isa.generate.resolved import SCHEMA_FILE, resolved_document, schema_json
from npuvm.isa.model import Isa

__all__ = ["StaleFile", "artifacts", "stale_files"]

_SHOWN_LINES = 12


@dataclass(frozen=True, slots=True)
class StaleFile:
    """An artifact that is not what the instruction set makes: its path relative to the root, and how it differs."""

    path: Path
    difference: str


def artifacts(isa: Isa) -> dict[Path, str]:
    """Path relative to the repository's root -> text, of every generated file; each holds the instruction set's hash.

    Names carry the set's name and major version (`npu_v1.h`), without its extensions: they follow the folder they lie in.
    """
    stem = f"{isa.name.lower()}_v{isa.version.partition('.')[0]}"
    return {
        Path("hw/rtl/npu_isa_pkg.sv"): package_sv(isa),
        Path("hw/rtl/npu_decoder.sv"): decoder_sv(isa),
        Path(f"isa/generated/{stem}.h"): c_header(isa),
        Path(f"isa/generated/{stem}.resolved.json"): resolved_document(isa),
        Path("isa/generated") / SCHEMA_FILE: schema_json(isa),
        Path("docs/reference/isa.md"): reference_markdown(isa),
        Path("docs/reference/opcodes.md"): opcodes_markdown(isa),
    }


def stale_files(root: Path, wanted: Mapping[Path, str]) -> list[StaleFile]:
    """Those of `wanted` that are missing under `root` or differ there in any byte.

    IsaError when there is nothing to look for, or a file cannot be read.
    """
    if not wanted:
        raise IsaError("no files to check")
    stale = []
    for path, text in wanted.items():
        file = root / path
        if not file.is_file():
            stale.append(StaleFile(path, "does not exist"))
            continue
        try:
            found = file.read_bytes()
        except OSError as exc:
            raise IsaError(f"cannot be read: {exc.strerror}", str(file)) from None
        if found != text.encode("utf-8"):
            stale.append(StaleFile(path, _difference(path, found.decode("utf-8", "replace"), text)))
    return stale


def _difference(path: Path, found: str, text: str) -> str:
    """A unified diff, cut after a few lines."""
    lines = list(
        difflib.unified_diff(
            found.splitlines(), text.splitlines(), f"{path} (found)", f"{path} (generated)", lineterm="", n=0
        )
    )
    if not lines:
        return "differs in its line ends only"
    more = len(lines) - _SHOWN_LINES
    return "\n".join(lines[:_SHOWN_LINES] + ([f"... {more} more lines"] if more > 0 else []))

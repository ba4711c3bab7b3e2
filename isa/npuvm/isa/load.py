"""Loading an instruction set: strict parse, resolve (inheritance, defaults, extensions), check, freeze."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from npuvm.isa import resolve
from npuvm.isa.check import check_isa
from npuvm.isa.errors import IsaError
from npuvm.isa.freeze import freeze
from npuvm.isa.model import Isa
from npuvm.isa.resources import find_resource
from npuvm.isa.yaml_strict import Document, load_yaml, parse_yaml

__all__ = ["load_isa", "load_isa_text"]

BASE_ISA = "npu_v1"


def load_isa(base: str | Path | None = None, extensions: Iterable[str | Path] = ()) -> Isa:
    """Load a base instruction set with extensions laid over it, in order.

    `base` and each extension is the name of a shipped one or a path ending in .yaml; None is npu_v1. IsaError says
    file, line and what is allowed. Results are shared: the same files give the same object.
    """
    return _load_cached(_find("isa", base or BASE_ISA), tuple(_find("extension", e) for e in extensions))


def load_isa_text(text: str, extensions: Iterable[str] = (), name: str = "<text>") -> Isa:
    """Load an instruction set from YAML text; `extensions` are YAML texts laid over it."""
    layers = [parse_yaml(e, f"{name}+{i}") for i, e in enumerate(extensions, 1)]
    return _load(parse_yaml(text, name), layers)


def _find(kind: str, name: str | Path) -> Path:
    if isinstance(name, Path) or str(name).endswith(".yaml"):
        return Path(name).resolve()
    return find_resource(kind, str(name))


def _load_cached(base: Path, extensions: tuple[Path, ...]) -> Isa:
    for path in (base, *extensions):
        if not path.is_file():
            raise IsaError("no such file", str(path))
    stamps = tuple((p, p.stat().st_mtime_ns) for p in (base, *extensions))
    return _load_stamped(stamps)


@functools.lru_cache(maxsize=16)
def _load_stamped(stamps: tuple[tuple[Path, int], ...]) -> Isa:
    base, *extensions = (load_yaml(path) for path, _ in stamps)
    return _load(base, extensions)


def _load(base: Document, extensions: list[Document]) -> Isa:
    resolved = resolve.resolve(base, extensions)
    text = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
    isa = freeze(resolved, hashlib.sha256(text.encode()).hexdigest())
    check_isa(isa, _places(base, extensions))
    return isa


def _places(base: Document, extensions: list[Document]) -> dict[str, str]:
    """Where each instruction stands: name -> "file:line:column"."""
    places: dict[str, str] = {}
    for document in (base, *extensions):
        entries: list[dict[str, Any]] = document.data.get("instructions", [])
        for index, entry in enumerate(entries):
            places[entry["name"]] = document.where(("instructions", index))
    return places

"""A chip file and the chips that it builds on, as one tree of data that knows which file gave each part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from npuvm.hw.config.fields import Path, leaf_at
from npuvm.hw.errors import ConfigError
from npuvm.isa.resources import find_resource
from npuvm.isa.yaml_strict import Document, load_yaml

__all__ = ["BASE_KEY", "Layers", "chip_path", "read_layers"]

BASE_KEY = "base"
"""Key of a chip file that names the chip it builds on; no field of the chip."""


@dataclass(frozen=True)
class Layers:
    """The merged `data` of a chip, and the documents it comes from, the chip's own first."""

    data: Any
    documents: tuple[Document, ...]

    def where(self, path: Path = ()) -> str:
        """ "file:line:column" of a part in the first file that gives it, or of its nearest ancestor that is in one."""
        for length in range(len(path), 0, -1):
            for document in self.documents:
                if path[:length] in document.positions:
                    return document.where(path[:length])
        return self.documents[0].where()


def chip_path(name_or_path: str | FilePath, folder: FilePath | None = None) -> FilePath:
    """The file of a chip: what ends in .yaml or .yml or has a folder in it is one, from `folder` on; else a shipped name."""
    path = FilePath(name_or_path)
    if not (path.suffix in (".yaml", ".yml") or len(path.parts) > 1):
        return find_resource("chip", str(name_or_path), ConfigError)
    return path if folder is None else folder / path


def read_layers(document: Document, path: FilePath | None = None) -> Layers:
    """A chip's document laid over its bases. `path` is its file; a text's bases are looked for from the current folder.

    ConfigError for a base that cannot be read, and for a chip that builds on itself.
    """
    documents = [document]
    trail = [] if path is None else [path.resolve()]
    names = [document.path]
    _place_extensions(document.data, FilePath() if path is None else path.parent)
    while (base := _base_of(documents[-1])) is not None:
        folder = FilePath() if path is None else path.parent
        place = documents[-1].where((BASE_KEY,))
        try:
            path = chip_path(base, folder)
            below = load_yaml(path, ConfigError)
        except ConfigError as exc:
            raise ConfigError(f"base = {base!r}: {exc}", place) from None
        names.append(str(path))
        if path.resolve() in trail:
            raise ConfigError(f"base = {base!r}: a chip cannot build on itself: {' -> '.join(names)}", place)
        trail.append(path.resolve())
        if not isinstance(below.data, dict):
            raise ConfigError(f"base = {base!r}: its file is no mapping of fields", place)
        _place_extensions(below.data, path.parent)
        documents.append(below)
    if len(documents) > 1 and "name" not in document.data:
        raise ConfigError("name: missing; a chip that builds on another one has a name of its own", document.where())
    data: Any = documents[-1].data
    for layer in reversed(documents[:-1]):
        data = _merged({key: value for key, value in data.items() if key != "name"}, layer.data, ())
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if key != BASE_KEY}
    return Layers(data, tuple(documents))


def _base_of(document: Document) -> str | None:
    if not isinstance(document.data, dict) or BASE_KEY not in document.data:
        return None
    base = document.data[BASE_KEY]
    if not isinstance(base, str) or not base.strip():
        allowed = "a shipped chip's name, or a chip file's path from this file's folder"
        raise ConfigError(f"base = {base!r}: allowed is {allowed}", document.where((BASE_KEY,)))
    return base


def _merged(below: Any, above: Any, path: Path) -> Any:
    """`above` laid over `below`: sections are merged, fields (with their origin) replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)) or leaf_at(path) is not None:
        return above
    merged = dict(below)
    for key, value in above.items():
        merged[key] = _merged(below[key], value, (*path, str(key))) if key in below else value
    return merged


def _place_extensions(data: Any, folder: FilePath) -> None:
    """Make the extension files that a chip file names paths from here; what is malformed stays for the validation."""
    isa = data.get("isa") if isinstance(data, dict) else None
    extensions = isa.get("extensions") if isinstance(isa, dict) else None
    if isinstance(isa, dict) and isinstance(extensions, list):
        isa["extensions"] = [
            str(folder / each) if isinstance(each, str) and each.endswith(".yaml") else each for each in extensions
        ]

"""Plan files: programs that a session has compiled, kept for the next start. A file is data alone: JSON and program images.

It is made for one model, chip, instruction set, compiler and set of options; with any other it is refused. Programs pass the
static verifier again before they run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import secrets
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import npuvm.compiler
from npuvm.compiler import CompiledKernel, Graph, print_graph
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.program.compiled import Launch, TensorSpec
from npuvm.isa import Image
from npuvm.isa.errors import IsaError
from npuvm.runtime.session.errors import SessionError

if TYPE_CHECKING:
    import onnx

__all__ = ["ProgramLog", "StoredPrograms", "compiler_hash", "model_hash", "read_plan", "write_plan"]

FORMAT = 1
_MOST_PROGRAMS = 1024

_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IsaError,
)
"""What reading a plan file runs into that is none any more; any bit of it may be another."""

Shapes = Mapping[str, Sequence[int]]
Key = tuple[str, str]


_Size = Annotated[int, Field(ge=0, lt=1 << 62)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Launch(_Section):
    segment: str
    kind: Literal["vector", "cube", "mix", "stack"]
    image: _Size
    args: tuple[str, ...]
    writes: tuple[str, ...]
    continues: bool
    beside: bool


class _Program(_Section):
    """`tensors` are name, kind, dtype, shape and offset of each."""

    graph: str
    shapes: str
    name: str
    outputs: tuple[str, ...]
    tensors: tuple[tuple[str, Literal["param", "output", "workspace"], str, tuple[_Size, ...], _Size], ...]
    launches: tuple[_Launch, ...]


class _Plan(_Section):
    format: int
    made_for: Mapping[str, str]
    programs: tuple[_Program, ...]


def model_hash(proto: onnx.ModelProto) -> str:
    """What a model is, weights included."""
    digest = hashlib.sha256()
    graph = proto.graph
    for part in (proto.opset_import, graph.input, graph.output, graph.node, graph.initializer, proto.functions):
        for each in part:
            digest.update(each.SerializeToString(deterministic=True))
        digest.update(b"|")
    return digest.hexdigest()


@cache
def compiler_hash() -> str:
    """What the compiler is, by the text of its modules: another one may make other programs of the same model."""
    digest = hashlib.sha256()
    assert npuvm.compiler.__file__ is not None
    folder = Path(npuvm.compiler.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _graph_hash(graph: Graph) -> str:
    sources = "\0".join(node.source for node in graph.nodes)
    return hashlib.sha256(f"{print_graph(graph)}\0{sources}".encode()).hexdigest()


def _shapes_text(shapes: Shapes) -> str:
    return json.dumps({name: list(shapes[name]) for name in sorted(shapes)})


class ProgramLog:
    """Programs of a session, those made last, with the graphs and shapes that they are for."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], tuple[Graph, Shapes, CompiledKernel]] = {}

    def add(self, graph: Graph, shapes: Shapes, made: CompiledKernel) -> None:
        """Note a program."""
        if len(self._kept) >= _MOST_PROGRAMS:
            self._kept.pop(next(iter(self._kept)))
        # The graph is kept, so that no other can have its id.
        self._kept[id(graph), _shapes_text(shapes)] = graph, dict(shapes), made

    def __iter__(self) -> Iterator[tuple[Graph, Shapes, CompiledKernel]]:
        return iter(self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)


class StoredPrograms:
    """Programs of a plan file by graph and shapes. `used` counts those that were asked for."""

    def __init__(self, programs: Mapping[Key, CompiledKernel]) -> None:
        self._programs = programs
        self._hashes: dict[int, tuple[Graph, str]] = {}
        self.used = 0

    def __len__(self) -> int:
        return len(self._programs)

    def find(self, graph: Graph, shapes: Shapes) -> CompiledKernel | None:
        """The program of a graph for shapes, None where there is none. SessionError for one that is not of this graph."""
        known = self._hashes.get(id(graph))
        if known is None:
            known = self._hashes[id(graph)] = graph, _graph_hash(graph)
        found = self._programs.get((known[1], _shapes_text(shapes)))
        if found is not None:
            _check_of(found, graph, shapes)
            self.used += 1
        return found


def _check_of(kernel: CompiledKernel, graph: Graph, shapes: Shapes) -> None:
    """SessionError for a program that does not have the parameters and outputs of a graph."""
    own = {(each.name, each.kind, each.dtype, each.shape) for each in kernel.tensors if each.kind != "workspace"}
    wanted = {(each.name, "param", each.type.dtype, tuple(shapes[each.name])) for each in graph.params}
    made = graph.output_shapes(graph.bind(shapes))
    wanted |= {(each.name, "output", each.type.dtype, made[each.name]) for each in graph.outputs}
    if own != wanted or kernel.outputs != tuple(each.name for each in graph.outputs):
        raise SessionError(f"the plan file's program '{kernel.name}' has other tensors than its region", graph.name)


def write_plan(path: Path, made_for: Mapping[str, str], log: ProgramLog) -> int:
    """Write a plan file, whole or not at all; the number of programs in it. SessionError where it cannot be written."""
    images: dict[bytes, int] = {}
    programs = [
        {
            "graph": _graph_hash(graph),
            "shapes": _shapes_text(shapes),
            "name": made.name,
            "outputs": list(made.outputs),
            "tensors": [[t.name, t.kind, t.dtype, list(t.shape), t.offset] for t in made.tensors],
            "launches": [_launch_json(each, images) for each in made.launches],
        }
        for graph, shapes, made in log
    ]
    text = json.dumps({"format": FORMAT, "made_for": dict(made_for), "programs": programs})
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("plan.json", text)
            for data, number in images.items():
                file.writestr(f"images/{number}", data)
        temporary.replace(path)
    except OSError as error:
        raise SessionError(f"the plan file cannot be written: {error.strerror}", str(path)) from None
    finally:
        with contextlib.suppress(OSError):  # gone after the rename; after a failure it may never have been there
            temporary.unlink()
    return len(programs)


def _launch_json(launch: Launch, images: dict[bytes, int]) -> dict[str, Any]:
    return {
        "segment": launch.segment,
        "kind": launch.kind,
        "image": images.setdefault(launch.image.to_bytes(), len(images)),
        "args": list(launch.args),
        "writes": list(launch.writes),
        "continues": launch.continues,
        "beside": launch.beside,
    }


def read_plan(path: Path, made_for: Mapping[str, str]) -> StoredPrograms:
    """The programs of a plan file. SessionError where it is none, is damaged, or was made for something else, saying what."""
    try:
        with zipfile.ZipFile(path) as file:
            found = json.loads(file.read("plan.json"))
            if found.get("format") != FORMAT:
                raise SessionError(f"plan file of format {found.get('format')}; allowed: {FORMAT}", str(path))
            for name, wanted in made_for.items():
                given = found["made_for"].get(name, "")
                if given != wanted:
                    message = f"the plan file was made for another {name}: {given[:60]!r}, not {wanted[:60]!r}"
                    raise SessionError(message, str(path))
            images = {
                name: Image.from_bytes(file.read(name), str(path))
                for name in file.namelist()
                if name.startswith("images/")
            }
            plan = _Plan.model_validate_json(file.read("plan.json"))
            return StoredPrograms({(each.graph, each.shapes): _kernel(each, images) for each in plan.programs})
    except OSError as error:
        raise SessionError(f"the plan file cannot be read: {error.strerror or error}", str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise SessionError(f"this is no whole plan file: {place}: {first['msg']}", str(path)) from None
    except _DAMAGED as error:
        raise SessionError(f"this is no whole plan file: {error}", str(path)) from None


def _kernel(stored: _Program, images: Mapping[str, Image]) -> CompiledKernel:
    """ValueError for what does not fit together."""
    tensors = tuple([TensorSpec(*each) for each in stored.tensors])
    names = {each.name for each in tensors}
    if len(names) < len(tensors) or not {each.dtype for each in tensors} <= DTYPES.keys():
        raise ValueError(f"program '{stored.name}': its tensors have one name each, and dtypes that there are")
    launches = tuple(
        [
            Launch(
                each.segment,
                each.kind,
                images[f"images/{each.image}"],
                each.args,
                each.writes,
                continues=each.continues,
                beside=each.beside,
            )
            for each in stored.launches
        ]
    )
    for launch in launches:
        if not names.issuperset((*launch.args, *launch.writes)) or len(launch.args) != launch.image.n_args:
            raise ValueError(f"launch '{launch.segment}': its arguments are tensors, as many as its image takes")
    return CompiledKernel(stored.name, launches, tensors, stored.outputs, {})

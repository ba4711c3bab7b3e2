"""Models of the zoo as files of ONNX's text form with weights as inputs: a file says what a network is and holds no data.

    python benchmarks/zoo/as_text.py [--check]

Writes those of `TEXTS` to configs/models; with `--check` it only says which of them differ from what it would write.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, printer

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.zoo.bert import MINILM, BertConfig  # noqa: E402
from benchmarks.zoo.graph import Array  # noqa: E402
from benchmarks.zoo.llama import LLAMA, LlamaConfig  # noqa: E402

__all__ = ["TEXTS", "text_of"]

MINILM_TEXT = BertConfig(layers=6, hidden=384, heads=12, inner=1536, published=True, dtype="float16", free=True)
LLAMA_TEXT = LlamaConfig(
    hidden=4096, groups=8, inner=14336, theta=500000.0, epsilon=1e-5, final_norm=False, dtype="float16", free=True
)

TEXTS: Mapping[str, tuple[str, Callable[[], onnx.ModelProto]]] = {
    "minilm": (
        "The graph of all-MiniLM-L6-v2 (six layers, 384 wide) in float16.",
        lambda: MINILM.make(MINILM_TEXT),
    ),
    "llama_layer": (
        "A layer of the sizes of Llama 3 8B in float16: `sequence` tokens after a cache of `past`.",
        lambda: LLAMA.make(LLAMA_TEXT),
    ),
}
"""Files of configs/models by name: what they are, and what makes them."""

_LONG = 64
"""A row of so many whole numbers is written as a range."""


def text_of(model: onnx.ModelProto) -> str:
    """A model in ONNX's text form, an input or a node a line, which `onnx.parser` reads.

    Constants stand at the head, each once. ONNX's parser reads no float16: such a constant is a float32 one and a Cast.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    _share_constants(made.graph)
    _short_names(made.graph)
    return _broken(printer.to_text(made)) + "\n"


def main() -> None:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a file would change")
    check = parser.parse_args().check
    stale = []
    for name, text in texts():
        path = ROOT / "configs" / "models" / f"{name}.onnxtxt"
        if check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            stale.append(str(path.relative_to(ROOT)))
        elif not check:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"differ from what benchmarks/zoo/as_text.py writes: {', '.join(stale)}")


def texts() -> Iterator[tuple[str, str]]:
    """Name and text of each file, with what it is on its first lines."""
    for name, (meaning, make) in TEXTS.items():
        head = f"# {meaning}\n# Weights are inputs: this file holds no data. benchmarks/zoo/as_text.py writes it.\n"
        yield name, head + text_of(make())


def _share_constants(graph: onnx.GraphProto) -> None:
    """Constants as initialisers, equal ones as one, named by what they hold."""
    names: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    renamed: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    first: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "Constant":
            kept.append(node)
            continue
        array = numpy_helper.to_array(node.attribute[0].t)
        key = array.dtype.name, array.shape, array.tobytes()
        if key not in names:
            names[key] = name = _constant_name(array, set(names.values()))
            first += _constant(graph, name, array)
        renamed[node.output[0]] = names[key]
    for node in kept:
        node.input[:] = [renamed.get(each, each) for each in node.input]
    del graph.node[:]
    graph.node.extend([*first, *kept])


def _constant(graph: onnx.GraphProto, name: str, array: Array) -> Iterator[onnx.NodeProto]:
    """Puts a constant into the graph, with what computes it where it is not written as it is."""
    if array.dtype == np.float16:
        graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), f"{name}_fp32"))
        yield helper.make_node("Cast", [f"{name}_fp32"], [name], to=TensorProto.FLOAT16)
    elif array.size >= _LONG and array.shape == (1, array.size) and (array[0] == np.arange(array.size)).all():
        for part, value in zip(("first", "end", "step"), (0, array.size, 1), strict=True):
            graph.initializer.append(numpy_helper.from_array(np.array(value, array.dtype), f"{name}_{part}"))
        graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), f"{name}_axis"))
        yield helper.make_node("Range", [f"{name}_{part}" for part in ("first", "end", "step")], [f"{name}_row"])
        yield helper.make_node("Unsqueeze", [f"{name}_row", f"{name}_axis"], [name])
    else:
        graph.initializer.append(numpy_helper.from_array(array, name))


def _constant_name(array: Array, taken: set[str]) -> str:
    letter = {"f": "c", "i": "i", "b": "b"}[array.dtype.kind]
    if array.size <= 6:
        values = "_".join(f"{value:.6g}" if array.dtype.kind == "f" else str(value) for value in array.ravel().tolist())
        name = letter + ("v" if array.ndim else "") + re.sub(r"[+.]", "p", values).replace("-", "m")
    else:
        name = f"{letter}_table"
    while name in taken:
        name += "x"
    return name


def _short_names(graph: onnx.GraphProto) -> None:
    """Values by operator and number, "/MatMul_3_output_0" as matmul_3; nodes without names."""
    for node in graph.node:
        node.ClearField("name")
        for names in (node.input, node.output):
            names[:] = [re.sub(r"^/(\w+)_output_0$", lambda found: found[1].lower(), each) for each in names]


def _broken(text: str) -> str:
    """The printer's text with the head of the graph broken into lines: an input, an output, a constant a line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith((" ", "<", ">", "{", "}")):
            line = _split(line.replace(") => (", "\n) => (\n  ").replace(" (", " (\n  ", 1))
        elif line.startswith("   <") and "=" in line and "{" in line:
            line = _split(line)
        lines.append(line.rstrip())
    return "\n".join(lines)


def _split(line: str) -> str:
    return re.sub(r", (?=(?:float|float16|int64|bool)(?:\[|\s))", ",\n  ", line)


if __name__ == "__main__":
    main()

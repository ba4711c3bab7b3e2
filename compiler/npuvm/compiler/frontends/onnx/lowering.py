"""Reads the nodes of an ONNX graph in order: folds constants and sizes, and puts everything else into regions of the device.

Region 0 takes what needs nothing but the inputs. What the host computes of values of region n is there for region n + 1, so
that a model has as few regions as host operators one behind the other, and one when there is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import onnx
from npuvm.compiler.builder import KernelBuilder
from npuvm.compiler.deduction import Deduction
from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.attributes import attributes_of, dtype_name
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.folding import expand, fold, single
from npuvm.compiler.frontends.onnx.host import host_types
from npuvm.compiler.frontends.onnx.operator import Operator, carrier_of, scalar
from npuvm.compiler.frontends.onnx.regions import Regions
from npuvm.compiler.frontends.onnx.registry import RULES, SIZE_RULES
from npuvm.compiler.model import HostStep, Model, SizesStep, Step, ValueType
from npuvm.compiler.sums import DimTable, Sum
from npuvm.compiler.types import Dim, TensorType
from npuvm.compiler.value import Value

__all__ = ["Lowering"]


class Lowering:
    """One reading of a graph into a model. `opsets` are versions of operator sets by domain, `functions` those of the file."""

    def __init__(
        self,
        name: str,
        deduction: Deduction,
        opsets: Mapping[str, int],
        functions: Mapping[tuple[str, str], onnx.FunctionProto],
    ) -> None:
        self.model = Model(name)
        self.deduction = deduction
        self.opsets, self.functions = dict(opsets), functions
        self._symbols: dict[str, None] = {}
        self._regions = Regions(self.model)
        self.entries: dict[str, Entry] = {}
        self._host: list[tuple[int, Step]] = []
        self._inner = 0
        """How many functions deep the node is that is being read."""

    # What stands around the nodes.

    @property
    def sizes(self) -> DimTable:
        """Arithmetic on the model's sizes."""
        return DimTable(self.model.derived, self._symbols)

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols of the model."""
        return (*self._symbols, *(each.name for each in self.model.derived))

    def fit(self, shapes: Sequence[Sequence[Dim]], origin: str) -> tuple[Dim, ...]:
        """The shape that operands broadcast to; what is not known to fit is deduced or assumed."""
        rank = max(map(len, shapes), default=0)
        result: list[Dim] = [1] * rank
        for shape in shapes:
            for axis, dim in enumerate(shape, start=rank - len(shape)):
                result[axis] = self.deduction.broadcast(result[axis], dim, origin)
        return tuple(result)

    def dim(self, size: Sum) -> Dim:
        """The dim that a sum of sizes is."""
        return self.sizes.dim(size)

    def symbol(self, name: str) -> Dim:
        """The dim that a name stands for, made a symbol of the model where nothing else is known of it."""
        found = self.deduction.resolve(identifier(name))
        if isinstance(found, str):
            self._symbols.setdefault(found)
        return found

    def add_input(self, info: onnx.ValueInfoProto) -> Entry:
        """An input of the model, a tensor. CompileError when it is something else."""
        tensor = info.type.tensor_type
        if info.type.WhichOneof("value") != "tensor_type":
            raise CompileError(f"input '{info.name}' is no tensor; allowed: tensors", self.model.name)
        shape: list[Dim] | None = [] if tensor.HasField("shape") else None
        for axis, dim in enumerate(tensor.shape.dim):
            assert shape is not None
            name = dim.dim_param or f"{info.name}_{axis}"
            shape.append(dim.dim_value if dim.HasField("dim_value") else self.symbol(name))
        dtype = dtype_name(tensor.elem_type)
        entry = Entry(info.name, dtype, None if shape is None else tuple(shape))
        self.model.inputs += (info.name,)
        return self.define(entry)

    def add_constant(self, name: str, array: npt.NDArray[Any]) -> Entry:
        """A value whose content is known."""
        return self.define(Entry(name, str(array.dtype), array.shape, const=array))

    def _name(self, name: str) -> str:
        """A name of a value that no other has: those inside functions may be used again."""
        if not self._inner:
            return name
        number = len(self.model.values)
        return f"{name}#{number}"

    def define(self, entry: Entry) -> Entry:
        """Make a value known by its name."""
        self.entries[entry.name] = entry
        self.model.values[entry.name] = ValueType(entry.dtype, entry.shape)
        return entry

    def finish(self, outputs: Sequence[onnx.ValueInfoProto]) -> Model:
        """The model, with these outputs."""
        for info in outputs:
            self.model.outputs[info.name] = self.stored(self.entries[info.name])
        self.model.steps = self._regions.steps(self._host)
        self.model.guards, self.model.facts = list(self.deduction.guards), list(self.deduction.facts)
        return self.model

    # Values in regions.

    def builder(self, region: int) -> KernelBuilder:
        """The builder of a region."""
        return self._regions.builder(region)

    def value(self, entry: Entry, region: int) -> Value:
        """The tensor of a value in a region. Unsupported where the device has no such tensor."""
        if region not in entry.on_device:
            carrier = carrier_of(entry.dtype)
            if entry.const is not None and entry.const.ndim == 0:
                made = self.builder(region).const(scalar(entry.const), carrier)
            elif entry.const is None and entry.sizes is not None and entry.shape == ():
                made = self.builder(region).size((self.dim(entry.sizes.item()),), carrier)
            else:
                made = self._regions.load(self.stored(entry), TensorType(carrier, entry.dims), region)
            entry.on_device[region] = made
        return entry.on_device[region]

    def stored(self, entry: Entry) -> str:
        """The name under which a session has the value: what a region computed is stored, constants and sizes are kept."""
        name = entry.name
        if entry.const is not None:
            self.model.constants.setdefault(name, entry.const)
        elif entry.sizes is not None:
            self._keep_sizes(entry)
        elif entry.computed:
            self._regions.store(name, entry.on_device[entry.level], entry.level)
        self.model.values.setdefault(name, ValueType(entry.dtype, entry.shape))
        return name

    def _keep_sizes(self, entry: Entry) -> None:
        if all(not (isinstance(each, SizesStep) and each.output == entry.name) for _, each in self._host):
            assert entry.sizes is not None
            self._host.append((0, SizesStep(entry.name, tuple(entry.sizes.ravel()), entry.sizes.shape)))

    # Nodes.

    def read(self, nodes: Sequence[onnx.NodeProto], prefix: str = "") -> None:
        """Read nodes in order; `prefix` stands before the names of those of an expanded function."""
        for number, node in enumerate(nodes):
            source = prefix + (node.name or f"{node.op_type}_{node.output[0] if node.output else number}")
            self._read(node, source)

    def _read(self, node: onnx.NodeProto, source: str) -> None:
        inputs = tuple(self.entries[name] if name else None for name in node.input)
        domain = "" if node.domain == "ai.onnx" else node.domain
        since = self.opsets.get(domain, 1)
        operator = Operator(self, node, since, source, inputs, attributes_of(node))
        folded = fold(operator)
        if folded is not None:
            self._results(operator, folded)
            return
        if self._read_sizes(operator, domain):
            return
        reason = f"there is no rule for {node.op_type}"
        found = RULES.get((domain, node.op_type))
        if found is not None:
            try:
                with self.builder(operator.region).source(source):
                    made = found(operator)
                self._results(operator, made if isinstance(made, (list, tuple)) else [made])
                return
            except Unsupported as error:
                reason = str(error)
        body = expand(operator, self.functions)
        if body is not None:
            self._expand(operator, body)
            return
        self._to_host(operator, reason)

    def _read_sizes(self, operator: Operator, domain: str) -> bool:
        """Whether the operator gives sizes made of sizes."""
        found = SIZE_RULES.get((domain, operator.type))
        sizes = None if found is None else found(operator)
        if sizes is None:
            return False
        entry = Entry("", operator.result_dtype, sizes.shape, sizes=sizes)
        numbers = [each.constant() for each in sizes.ravel()]
        if None not in numbers:
            entry.const = np.asarray(numbers, dtype=operator.result_dtype).reshape(sizes.shape)
        self._results(operator, [entry])
        return True

    def _results(self, operator: Operator, results: Sequence[Any]) -> None:
        for name, result in zip(operator.node.output, results, strict=False):
            if not name:
                continue
            if isinstance(result, np.ndarray):
                self.entries[name] = self.add_constant(self._name(name), result)
                continue
            entry = result if isinstance(result, Entry) else operator.entry(result)
            if entry.name:  # the value of another name: both are the same
                self.entries[name] = entry
            else:
                entry.name = self._name(name)
                self.define(entry)
                self.entries[name] = entry

    def _expand(self, operator: Operator, body: onnx.FunctionProto) -> None:
        """Read the nodes of a function in the place of the operator that it defines."""
        outside, self.entries = self.entries, {}
        opsets, self.opsets = self.opsets, {**self.opsets, **{each.domain: each.version for each in body.opset_import}}
        for name, entry in zip(body.input, operator.inputs, strict=False):
            if entry is not None:
                self.entries[name] = entry
        self._inner += 1
        self.read(body.node, f"{operator.source}/")
        results = [self.entries.get(name) for name in body.output]
        self._inner -= 1
        self.entries, self.opsets = outside, opsets
        for name, result in zip(operator.node.output, results, strict=False):
            if name and result is not None:
                self.entries[name] = result

    def _to_host(self, operator: Operator, reason: str) -> None:
        """Let the host run the operator once all its inputs are there."""
        level = max((each.level + each.computed for each in operator.inputs if each is not None), default=0)
        inputs = tuple("" if each is None else self.stored(each) for each in operator.inputs)
        node = single(operator)
        outputs = []
        for name, kind in zip(operator.node.output, host_types(operator, node), strict=True):
            entry = Entry(self._name(name), kind.dtype, kind.shape, level=level)
            outputs.append(entry.name if name else "")
            if name:
                self.define(entry)
                self.entries[name] = entry
        step = HostStep(operator.type, node.SerializeToString(), inputs, tuple(outputs), operator.source, reason)
        self._host.append((level, step))


def identifier(name: str) -> str:
    """A name that a graph of the compiler takes."""
    made = re.sub(r"\W", "_", name)
    return made if made[:1].isalpha() or made[:1] == "_" else f"_{made}"

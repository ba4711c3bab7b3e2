"""Reads the nodes of an ONNX graph in order: folds constants and sizes, and puts everything else into regions of the device.

Region 0 takes what needs nothing but the inputs. What the host computes of values of region n is there for region n + 1, so
that a model has as few regions as host operators one behind the other, and one when there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from npuvm.compiler.deduction import LARGEST_SIZE, Contradiction, Deduced, Deduction, Undecided
from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.attributes import attributes_of, dtype_name
from npuvm.compiler.frontends.onnx.checking import check_node
from npuvm.compiler.frontends.onnx.closing import check_dtype, claims, close
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.folding import Folded, expand, fold
from npuvm.compiler.frontends.onnx.host import host_outputs, inferred, no_rule, single
from npuvm.compiler.frontends.onnx.operator import Operator, carrier_of, scalar
from npuvm.compiler.frontends.onnx.regions import Regions
from npuvm.compiler.frontends.onnx.registry import CONTROL_RULES, RULES, SIZE_RULES
from npuvm.compiler.frontends.onnx.symbols import Declared, identifier
from npuvm.compiler.graph.carriers import NARROWED
from npuvm.compiler.graph.model import HostStep, Model, SizesStep, Step, ValueType
from npuvm.compiler.graph.sums import DimTable, Sum, sum_of
from npuvm.compiler.graph.types import Dim, TensorType
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import Value

__all__ = ["Lowering"]

_MISFITS = (AssertionError, ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What reading an operator runs into whose attributes and inputs do not fit each other."""

_MOST_FACTS = 100
"""Most facts that are deduced from one node."""

_INT32 = -(1 << 31), (1 << 31) - 1


class Lowering:
    """One reading of a graph into a model. `opsets` are versions of operator sets by domain, `functions` those of the file.

    `folded` outlives it: what was computed of constants. `outer` is the reading of the graph that has this one as a body.
    """

    def __init__(
        self,
        name: str,
        deduction: Deduction,
        opsets: Mapping[str, int],
        functions: Mapping[tuple[str, str], onnx.FunctionProto],
        folded: Folded | None = None,
        outer: Lowering | None = None,
    ) -> None:
        self.model = Model(name)
        self.deduction = deduction
        self.opsets, self.functions = dict(opsets), functions
        self.folded = Folded() if folded is None else folded
        self.outer = outer
        self._regions = Regions(identifier(name), deduction.derived)
        self._regions.know(deduction.names)
        self.entries: dict[str, Entry] = {}
        self._host: list[tuple[int, Step]] = []
        self._kept_sizes: set[str] = set()
        self._levels: dict[str, int] = {} if outer is None else dict.fromkeys(outer.deduction.late, 0)
        self.stale = False
        """Whether something was deduced since the reading began: it goes on for what else there is, and is repeated."""
        self._path = ""
        """Where the function stands whose nodes are being read, "" outside of any."""
        self._expanding: tuple[tuple[str, str], ...] = () if outer is None else outer._expanding
        """Functions whose nodes are being read, the outermost first."""

    # Sizes.

    @property
    def sizes(self) -> DimTable:
        """Arithmetic on the model's sizes."""
        return self.deduction.sizes

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols of the model."""
        return (*self.deduction.names, *(each.name for each in self.deduction.derived))

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
        found = self.deduction.symbol(identifier(name))
        self._regions.know(self.deduction.names)
        return found

    def late_symbol(self, name: str, level: int) -> Dim:
        """The dim of what the host makes for region `level`: a symbol, where nothing else is known of it."""
        made = self.deduction.late_names.get(name, identifier(name))
        while name not in self.deduction.late_names and made in self.symbols:
            made += "_"
        self.deduction.late_names[name] = made
        self.deduction.late.add(made)
        self._levels[made] = level
        return self.symbol(made)

    def level_of(self, sizes: Sequence[Sum]) -> int:
        """The first region that knows sizes."""
        if not self._levels:
            return 0
        names = set().union(*(self.deduction.symbols_of(each) for each in sizes))
        return max((self._levels[name] for name in names if name in self._levels), default=0)

    # Values.

    def add_input(self, info: onnx.ValueInfoProto, declared: Declared) -> Entry:
        """An input of the model, a tensor. CompileError when it is something else."""
        tensor = info.type.tensor_type
        if info.type.WhichOneof("value") != "tensor_type":
            raise CompileError(f"input '{info.name}' is no tensor; allowed: tensors", self.model.name)
        raw: list[Dim] = []
        shape: list[Dim] = []
        for axis, dim in enumerate(tensor.shape.dim):
            size = declared.size(info.name, axis, dim)
            for name in size.symbols():
                self.symbol(name)
            raw.append(self.dim(size))
            shape.append(self.dim(self.deduction.resolved(size)))
        known = tensor.HasField("shape")
        entry = Entry(info.name, dtype_name(tensor.elem_type), tuple(shape) if known else None)
        self.model.inputs += (info.name,)
        self.define(entry)
        self.model.values[entry.name] = ValueType(entry.dtype, tuple(raw) if known else None)
        return entry

    def add_constant(self, name: str, array: npt.NDArray[Any]) -> Entry:
        """A value whose content is known."""
        return self.define(
            Entry(name, "string" if array.dtype == object else str(array.dtype), array.shape, const=array)
        )

    def add_initialisers(self, body: onnx.GraphProto) -> None:
        """The constants of a body whose nodes are to be read."""
        for tensor in body.initializer:
            array = self.folded.initialiser(self._path, tensor)
            self.entries[tensor.name] = self.add_constant(self.name(tensor.name), array)

    def name(self, name: str) -> str:
        """A name of a value that no other has: those inside functions may be used again."""
        return f"{self._path}{name}"

    def define(self, entry: Entry) -> Entry:
        """Make a value known by its name."""
        self.entries[entry.name] = entry
        self.model.values[entry.name] = ValueType(entry.dtype, self._bound_dims(entry))
        return entry

    def _bound_dims(self, entry: Entry) -> tuple[Dim, ...] | None:
        """The dims that a value's shape gives: a late symbol itself where its dim is computed from it, as 3 * (J / 3)."""
        names = self.deduction.late_names
        if entry.shape is None or not names:
            return entry.shape
        dims = list(entry.shape)
        for axis, dim in enumerate(entry.shape):
            name = names.get(f"{entry.name}_{axis}")
            if name is not None and name in self.deduction.symbols_of(sum_of(dim)):
                dims[axis] = name
        return tuple(dims)

    def find(self, name: str, where: str) -> Entry:
        """The value of a name. CompileError where nothing before has made it."""
        found = self.entries.get(name)
        if found is None:
            raise CompileError(f"'{name}' is read before anything makes it", where)
        return found

    def finish(self, outputs: Sequence[onnx.ValueInfoProto], declared: Declared) -> Model:
        """The model, with these outputs; what nothing uses is left out."""
        for info in outputs:
            entry = self.find(info.name, f"outputs of {self.model.name}")
            check_dtype(info, entry)
            self.model.outputs[info.name] = self.stored(entry)
            self.model.claims += claims(info, entry, declared, self.deduction)
        return self.close()

    def close(self) -> Model:
        """The model, without what nothing uses. Deduced where it is to be read again."""
        if self.stale:
            raise Deduced
        close(self.model, self._regions.steps(self._host), self.deduction, self._levels)
        return self.model

    # Values in regions.

    def builder(self, region: int) -> KernelBuilder:
        """The builder of a region."""
        return self._regions.builder(region)

    def value(self, entry: Entry, region: int) -> Value:
        """The tensor of a value in a region. Unsupported where the device has no such tensor."""
        if region not in entry.on_device:
            carrier = carrier_of(entry.dtype)
            if entry.const is not None:
                _check_fits(entry)
            if entry.const is not None and entry.const.ndim == 0:
                made = self.builder(region).const(scalar(entry.const), carrier)
            elif entry.const is None and entry.sizes is not None and entry.shape == ():
                made = self._size(entry, carrier, region)
            else:
                if entry.const is None and entry.sizes is not None:
                    self._bound(entry)
                made = self._regions.load(self.stored(entry), TensorType(carrier, entry.dims), region)
            entry.on_device[region] = made
        return entry.on_device[region]

    def _size(self, entry: Entry, carrier: str, region: int) -> Value:
        """A scalar that is a sum of sizes: what is added less what is taken away, neither below zero."""
        self._bound(entry)
        assert entry.sizes is not None
        size, k = entry.sizes.item(), self.builder(region)
        terms = size.terms
        parts = [Sum(tuple(each for each in terms if each.factor > 0)), Sum(tuple(e for e in terms if e.factor < 0))]
        positive = k.size((self.dim(parts[0]),), carrier)
        return positive if not parts[1].terms else k.sub(positive, k.size((self.dim(parts[1].scaled(-1)),), carrier))

    def _bound(self, entry: Entry) -> None:
        """Assume that sizes, as integers of the device, are in range."""
        assert entry.sizes is not None
        for size in entry.sizes.ravel():
            for symbol in sorted(self.deduction.symbols_of(size)):
                if self.deduction.definition(symbol) is None:
                    self.deduction.at_most(sum_of(symbol), LARGEST_SIZE, entry.name)
            least, most = self.deduction.interval(size)
            if most > _INT32[1]:
                self.deduction.at_most(size, _INT32[1], entry.name)
            if least < _INT32[0]:
                self.deduction.at_most(size.scaled(-1), _INT32[1], entry.name)

    def stored(self, entry: Entry) -> str:
        """The name under which a session has the value: what a region computed is stored, constants and sizes are kept."""
        name = entry.name
        if entry.const is not None:
            self.model.constants.setdefault(name, entry.const)
        elif entry.sizes is not None:
            if name not in self._kept_sizes:
                self._kept_sizes.add(name)
                sizes = tuple(entry.sizes.ravel())
                self._host.append((self.level_of(sizes), SizesStep(name, sizes, entry.sizes.shape)))
        elif entry.computed:
            self._regions.store(name, entry.on_device[entry.level], entry.level)
        self.model.values.setdefault(name, ValueType(entry.dtype, entry.shape))
        return name

    def add_step(self, level: int, step: Step) -> None:
        """A step of the host, or of bodies, whose results are there for region `level`."""
        self._host.append((level, step))

    def _refresh(self, entry: Entry | None) -> None:
        """Give dims of a value the meaning that was deduced since it was made."""
        if entry is None or entry.const is not None:
            return
        if entry.sizes is not None:
            sizes = [self.deduction.resolved(each) for each in entry.sizes.ravel()]
            entry.sizes = np.empty(entry.sizes.shape, dtype=object)
            entry.sizes.ravel()[:] = sizes
        shape = entry.shape and tuple(self.deduction.resolve(dim) for dim in entry.shape)
        if shape != entry.shape:
            entry.shape = shape
            assert shape is not None
            for region, value in entry.on_device.items():
                entry.on_device[region] = self.builder(region).reshape(value, shape)

    # Nodes.

    def read(self, nodes: Sequence[onnx.NodeProto], prefix: str = "") -> None:
        """Read nodes in order; `prefix` stands before the names of those of an expanded function."""
        for number, node in enumerate(nodes):
            source = prefix + (node.name or f"{node.op_type}_{node.output[0] if node.output else number}")
            self._read(node, source)

    def _read(self, node: onnx.NodeProto, source: str) -> None:
        """Read a node, again as long as something new is deduced from it."""
        for _ in range(_MOST_FACTS):
            try:
                self._read_once(node, source)
            except Deduced:
                self.stale = True
            else:
                return
        raise CompileError("its sizes are deduced again and again", f"{node.op_type} {source}")

    def _read_once(self, node: onnx.NodeProto, source: str) -> None:
        inputs = tuple(self.find(name, f"{node.op_type} {source}") if name else None for name in node.input)
        if self.stale:
            for each in inputs:
                self._refresh(each)
        for name in node.output:
            if name and name in self.entries:
                raise CompileError(f"'{name}' is made twice; each value has one operator", f"{node.op_type} {source}")
        domain = "" if node.domain == "ai.onnx" else node.domain
        since = self.opsets.get(domain, 1)
        operator = Operator(self, node, since, source, inputs, attributes_of(node))
        operator.is_function = (node.domain, node.op_type) in self.functions
        check_node(operator)
        folded = fold(operator)
        if folded is not None:
            self._results(operator, folded)
            return
        if self._read_sizes(operator, domain):
            return
        control = CONTROL_RULES.get((domain, operator.type))
        if control is not None:
            control(operator)
            return
        reason = self._lower(operator, domain)
        if reason is None:
            return
        body = expand(operator, self.functions)
        if body is not None:
            self._expand(operator, body)
            return
        self._to_host(operator, reason)

    def _lower(self, operator: Operator, domain: str) -> str | None:
        """Put an operator into its region; why that cannot be, with nothing left of the attempt."""
        found = RULES.get((domain, operator.type))
        if found is None:
            return no_rule(operator, domain)
        mark, guards = self._regions.mark(operator.region), len(self.deduction.guards)
        try:
            with self.builder(operator.region).source(operator.source):
                made = found(operator)
            self._results(operator, made if isinstance(made, (list, tuple)) else [made])
        except (Unsupported, Undecided) as error:
            reason = str(error)
        except Contradiction:
            raise
        except CompileError as error:
            if error.where == operator.source:
                raise
            inferred(operator, single(operator))  # the model may be at fault
            reason = error.message
        except _MISFITS as error:
            inferred(operator, single(operator), lenient=False)
            raise CompileError(f"{operator.type} does not fit its inputs: {error}", operator.source) from error
        else:
            return None
        self._regions.roll_back(mark)
        del self.deduction.guards[guards:]
        for each in operator.inputs:
            made = None if each is None else each.on_device.get(operator.region)
            if each is not None and made is not None and made.node.id >= mark.nodes:
                del each.on_device[operator.region]
        return reason

    def _read_sizes(self, operator: Operator, domain: str) -> bool:
        """Whether the operator gives sizes made of sizes."""
        found = SIZE_RULES.get((domain, operator.type))
        if found is None:
            return False
        try:
            made = found(operator)
        except (Unsupported, Undecided):
            return False
        except _MISFITS as error:
            inferred(operator, single(operator), lenient=False)
            raise CompileError(f"{operator.type} does not fit its inputs: {error}", operator.source) from error
        if made is None:
            return False
        self._results(
            operator, [self._sizes_entry(operator, each) for each in (made if isinstance(made, list) else [made])]
        )
        return True

    def _sizes_entry(self, operator: Operator, sizes: npt.NDArray[np.object_]) -> Entry:
        if sizes.dtype == np.bool_:
            return Entry("", "bool", sizes.shape, const=sizes)
        entry = Entry("", operator.result_dtype, sizes.shape, sizes=sizes, level=self.level_of(sizes.ravel().tolist()))
        numbers = [each.constant() for each in sizes.ravel()]
        if None not in numbers:
            entry.const, entry.sizes = np.asarray(numbers, dtype=operator.result_dtype).reshape(sizes.shape), None
            return entry
        ends = [self.deduction.interval(each) for each in sizes.ravel()]
        least, most = min(each[0] for each in ends), max(each[1] for each in ends)
        entry.bounds = max(least, _INT32[0]), min(most, _INT32[1])
        return entry

    def _results(self, operator: Operator, results: Sequence[Any]) -> None:
        for name, result in zip(operator.node.output, results, strict=False):
            if not name:
                continue
            if isinstance(result, np.ndarray):
                self.entries[name] = self.add_constant(self.name(name), result)
                continue
            entry = result if isinstance(result, Entry) else operator.entry(result)
            if not entry.name:  # otherwise it is the value of another name: both are the same
                entry.name = self.name(name)
                self.define(entry)
            self.entries[name] = entry

    def _expand(self, operator: Operator, body: onnx.FunctionProto) -> None:
        """Read the nodes of a function in the place of the operator that it defines."""
        key, expanding = (operator.node.domain, operator.type), self._expanding
        if key in expanding:
            raise CompileError(f"{operator.type} calls itself; allowed: functions without recursion", operator.source)
        self._expanding = (*expanding, key)
        outside, self.entries = self.entries, {}
        opsets, self.opsets = self.opsets, {**self.opsets, **{each.domain: each.version for each in body.opset_import}}
        path, self._path = self._path, f"{self._path}{next(filter(None, operator.node.output), '')}/"
        for name, entry in zip(body.input, operator.inputs, strict=False):
            if entry is not None:
                self.entries[name] = entry
        absent = set(body.input) - set(self.entries)
        nodes = [_without(node, absent) for node in body.node]
        self.read(nodes, f"{operator.source}/")
        results = [self.entries.get(name) for name in body.output]
        self.entries, self.opsets, self._path, self._expanding = outside, opsets, path, expanding
        for name, result in zip(operator.node.output, results, strict=False):
            if name and result is not None:
                self.entries[name] = result

    def enter(self, path: str) -> None:
        """Put a path before the names of all values that are made from now on."""
        self._path = f"{'' if self.outer is None else self.outer._path}{path}"

    def inner_symbol(self, name: str) -> Dim:
        """A symbol of a body alone, which is bound anew for each of its runs."""
        return identifier(f"{self._path}{name}")

    def inline(self, operator: Operator, body: onnx.GraphProto) -> None:
        """Read the nodes of a body in the place of the operator that has it."""
        outside, path = self.entries, self._path
        self.entries, self._path = dict(outside), f"{path}{next(filter(None, operator.node.output), '')}/"
        self.add_initialisers(body)
        self.read(body.node, f"{operator.source}/")
        results = [self.find(info.name, operator.source) for info in body.output]
        self.entries, self._path = outside, path
        for name, result in zip(operator.node.output, results, strict=True):
            if name:
                self.entries[name] = result

    def _to_host(self, operator: Operator, reason: str) -> None:
        """Let the host run the operator once all its inputs are there."""
        level = max((each.level + each.computed for each in operator.inputs if each is not None), default=0)
        inputs = tuple("" if each is None else self.stored(each) for each in operator.inputs)
        node = single(operator)
        outputs = []
        for name, entry in zip(operator.node.output, host_outputs(operator, node, level), strict=True):
            outputs.append(entry.name if name else "")
            if name:
                self.define(entry)
                self.entries[name] = entry
        step = HostStep(operator.type, node.SerializeToString(), inputs, tuple(outputs), operator.source, reason)
        self._host.append((level, step))


def _without(node: onnx.NodeProto, absent: set[str]) -> onnx.NodeProto:
    """A node of a function whose caller leaves inputs out."""
    if absent.isdisjoint(node.input):
        return node
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.input[:] = ["" if name in absent else name for name in node.input]
    return made


def _check_fits(entry: Entry) -> None:
    """Unsupported for integers that the device's carrier does not hold."""
    assert entry.const is not None
    if entry.dtype not in NARROWED or not entry.const.size:
        return
    if int(entry.const.min()) < _INT32[0] or int(entry.const.max()) > _INT32[1]:
        raise Unsupported(f"'{entry.name}' has integers that int32 does not hold")

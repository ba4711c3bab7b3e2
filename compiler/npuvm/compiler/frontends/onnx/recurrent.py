"""Recurrent networks: products with the inputs for all time steps at once, then a scan whose body is one region.

A direction is a scan of its own. With lengths of sequences a step beyond the end of one keeps its state and gives zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.gates import ACTIVATIONS, Activation, activations_of
from npuvm.compiler.frontends.onnx.operator import Operator, carrier_of
from npuvm.compiler.frontends.onnx.picking import fresh, same_dims, whole_number
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.graph.ir import Graph, Param
from npuvm.compiler.graph.model import DeviceStep, Model, ScanStep, ValueType
from npuvm.compiler.graph.types import Dim, TensorType
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import ParamRef, Value

__all__: list[str] = []

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DIRECTIONS = {"forward": (0,), "reverse": (1,), "bidirectional": (0, 1)}
_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class _Cell:
    """One direction: its number among the directions, the sizes of a state, and what the attributes say."""

    op: Operator
    direction: int
    batch: Dim
    hidden: int
    activations: Sequence[Activation]

    @property
    def dtype(self) -> str:
        return self.op.input(0).dtype

    @property
    def state(self) -> tuple[Dim, ...]:
        """The dims of a state."""
        return (self.batch, self.hidden)

    @property
    def reset_later(self) -> bool:
        """Whether a GRU resets after its product with the state, not before."""
        return self.op.type == "GRU" and bool(self.op.attribute("linear_before_reset", 0))


@rule("RNN", "GRU", "LSTM")
def _recurrent(op: Operator) -> list[Entry | None]:
    x = op.value(0)
    if op.input(0).dtype not in _DTYPES:
        raise Unsupported(f"the device runs {op.type} in {', '.join(_DTYPES)}, not {op.input(0).dtype}")
    backward = _DIRECTIONS.get(op.attribute("direction", "forward"))
    if backward is None:
        raise CompileError(f"{op.type}: direction '{op.attribute('direction')}' is unknown", op.source)
    time = int(op.attribute("layout", 0))
    hidden = op.attribute("hidden_size") or whole_number(op, op.input(2).dims[-1], "the size of its state")
    _check(op, x, len(backward), hidden, time)
    functions = activations_of(op, len(backward))
    finished = []
    for direction, reverse in enumerate(backward):
        cell = _Cell(op, direction, x.shape[1 - time], hidden, functions[direction])
        gates = _stored(op, f"gates{direction}", _projected(cell, x))
        first = [_initial(cell, index, time) for index in ((5, 6) if op.type == "LSTM" else (5,))]
        states = [_stored(op, f"first{direction}_{at}", each) for at, each in enumerate(first)]
        finished.append(_scan(cell, gates, states, time, reverse))
    return _results(op, finished, time)


def _check(op: Operator, x: Value, directions: int, hidden: int, time: int) -> None:
    """Deduce the sizes of all inputs."""
    gates, batch = _GATES[op.type] * hidden, x.shape[1 - time]
    same_dims(op, op.input(1).dims, (directions, gates, x.shape[2]))
    same_dims(op, op.input(2).dims, (directions, gates, hidden))
    states = (directions, batch, hidden) if time == 0 else (batch, directions, hidden)
    wanted: Mapping[int, tuple[Dim, ...]] = {
        3: (directions, 2 * gates), 4: (batch,), 5: states, 6: states, 7: (directions, 3 * hidden),
    }  # fmt: skip
    for index, dims in wanted.items():
        if op.has(index):
            same_dims(op, op.input(index).dims, dims)


def _projected(cell: _Cell, x: Value) -> Value:
    """What the inputs of all time steps add to the gates, with the biases that are added without more ado; fp32."""
    op, k = cell.op, cell.op.k
    found = k.matmul(x, k.index(op.value(1), cell.direction), transpose_b=True, dtype="fp32")
    if not op.has(3):
        return found
    biases = k.cast(k.index(op.value(3), cell.direction), "fp32")
    count = _GATES[op.type] * cell.hidden
    known, recurrent = k.index(biases, slice(0, count)), k.index(biases, slice(count, 2 * count))
    if cell.reset_later:
        recurrent = k.pad(k.index(recurrent, slice(0, 2 * cell.hidden)), {0: (0, cell.hidden)})
    return found + known + recurrent


def _initial(cell: _Cell, index: int, time: int) -> Value:
    op, k = cell.op, cell.op.k
    if op.has(index):
        given = op.value(index)
        return k.index(given, cell.direction if time == 0 else (slice(None), cell.direction))
    return k.broadcast_to(k.const(0.0, carrier_of(cell.dtype)), cell.state)


def _stored(op: Operator, label: str, value: Value) -> Entry:
    """A value of the region that the session keeps; gates are fp32, whatever the operator's dtype is."""
    entry = op.entry(value, "float32" if value.dtype == "fp32" else None)
    entry.name = fresh(op, label)
    op.lowering.define(entry)
    return entry


def _scan(cell: _Cell, gates: Entry, states: Sequence[Entry], time: int, reverse: int) -> list[Entry]:
    """The step of one direction. Results: the last states, then those of all time steps, there for the next region."""
    op, lowering = cell.op, cell.op.lowering
    level = op.region + 1
    body = _Body(cell)
    scanned, captured = [gates], {"r": op.input(2)}
    if op.has(4):
        length = gates.dims[time]
        numbers = _stored(op, f"steps{cell.direction}", op.k.iota((length,)))
        numbers.dtype = "int32"
        scanned.append(lowering.define(numbers))
        captured["lengths"] = op.input(4)
    if op.has(7):
        captured["p"] = op.input(7)
    if cell.reset_later and op.has(3):
        captured["b"] = op.input(3)
    count = gates.dims[time]
    each = (count, *cell.state) if time == 0 else (cell.batch, count, cell.hidden)
    shapes = [*[cell.state] * len(states), each]
    made = [
        lowering.define(Entry(fresh(op, f"result{cell.direction}_{at}"), cell.dtype, shape, level=level))
        for at, shape in enumerate(shapes)
    ]
    step = ScanStep(
        body.model(len(states), captured),
        tuple(lowering.stored(each) for each in states),
        tuple(lowering.stored(each) for each in scanned),
        (time, 0)[: len(scanned)],
        (reverse, reverse)[: len(scanned)],
        {inner: lowering.stored(entry) for inner, entry in captured.items()},
        tuple(each.name for each in made),
        (time,),
        (reverse,),
        op.source,
    )
    lowering.add_step(level, step)
    return made


def _results(op: Operator, finished: Sequence[Sequence[Entry]], time: int) -> list[Entry | None]:
    """The operator's outputs, put together in the region behind the scans."""
    region = op.region + 1
    k = op.lowering.builder(region)
    with k.source(op.source):
        every, *last = [
            _joined(op, [each[at] for each in finished], region, axis)
            for at, axis in ((-1, 1 if time == 0 else 2), *((at, time) for at in range(len(finished[0]) - 1)))
        ]
    return [every, *last]


def _joined(op: Operator, parts: Sequence[Entry], region: int, axis: int) -> Entry:
    """Results of the directions along a new dim."""
    lowering = op.lowering
    value = lowering.builder(region).stack([lowering.value(each, region) for each in parts], axis)
    made = Entry("", parts[0].dtype, value.shape, level=region, computed=True)
    made.on_device[region] = value
    return made


class _Body:
    """The region of one time step: `h` and for an LSTM `c`, the gates `x`, maybe the step's number, then what is captured."""

    def __init__(self, cell: _Cell) -> None:
        self.cell = cell
        self.types: dict[str, ValueType] = {}
        self.k = KernelBuilder(Graph("step"))

    def load(self, name: str, dtype: str, shape: tuple[Dim, ...]) -> Value:
        """An input of the body."""
        self.types[name] = ValueType(dtype, shape)
        kind = TensorType(carrier_of(dtype), shape)
        self.k.graph.params += (Param(name, kind),)
        return self.k.load(ParamRef(name, kind))

    def model(self, states: int, captured: Mapping[str, Entry]) -> Model:
        """The body; its results are the states, and the state `h` again for all time steps."""
        cell, k = self.cell, self.k
        with k.source(cell.op.source):
            given = [self.load(name, cell.dtype, cell.state) for name in ("h", "c")[:states]]
            gates = self.load("x", "float32", (cell.batch, _GATES[cell.op.type] * cell.hidden))
            step = self.load("step", "int32", ()) if "lengths" in captured else None
            constants = {name: self.load(name, each.dtype, each.dims) for name, each in captured.items()}
            wide = [k.cast(each, "fp32") for each in given]
            made = _STEPS[cell.op.type](self, wide, gates, constants)
            carrier = carrier_of(cell.dtype)
            found = [k.cast(each, carrier) for each in made]
            every = found[0]
            if step is not None:
                active = k.reshape(k.gt(constants["lengths"], step), (cell.batch, 1))
                found = [k.select(active, new, old) for new, old in zip(found, given, strict=True)]
                every = k.select(active, every, 0.0)
        outputs = {f"{name}_next": each for name, each in zip("hc", found, strict=False)}
        outputs["y"] = every
        for name, each in outputs.items():
            k.store(each, name)
            self.types[name] = ValueType(cell.dtype, cell.state)
        inputs = tuple(param.name for param in k.graph.params)
        model = Model(f"{cell.op.type}_step", inputs, {name: name for name in outputs}, self.types)
        graph = DeviceStep(k.graph.name, k.graph, {name: name for name in inputs}, {name: name for name in outputs})
        model.steps.append(graph)
        return model

    def product(self, state: Value, r: Value) -> Value:
        """What a state adds to gates, fp32."""
        return self.k.matmul(self.k.cast(state, r.dtype), r, transpose_b=True, dtype="fp32")

    def activated(self, number: int, x: Value) -> Value:
        """The function of that number, of gates held within the limits."""
        return self.function(number, self.clipped(x))

    def function(self, number: int, x: Value) -> Value:
        name, alpha, beta = self.cell.activations[number]
        return ACTIVATIONS[name](self.k, x, alpha, beta)

    def clipped(self, x: Value) -> Value:
        """Held within the operator's limits, if it has some."""
        limit = float(self.cell.op.attribute("clip", 0.0))
        return self.k.minimum(self.k.maximum(x, -limit), limit) if limit > 0 else x


def _rnn(body: _Body, states: Sequence[Value], gates: Value, given: Mapping[str, Value]) -> list[Value]:
    r = body.k.index(given["r"], body.cell.direction)
    return [body.activated(0, gates + body.product(states[0], r))]


def _gru(body: _Body, states: Sequence[Value], gates: Value, given: Mapping[str, Value]) -> list[Value]:
    k, cell, h = body.k, body.cell, states[0]
    size = cell.hidden
    r = k.index(given["r"], cell.direction)
    x_update, x_reset, x_new = k.split(gates, 3)
    if cell.reset_later:
        h_update, h_reset, h_new = k.split(body.product(h, r), 3)
    else:
        h_update, h_reset = k.split(body.product(h, k.index(r, slice(0, 2 * size))), 2)
    update, reset = body.activated(0, x_update + h_update), body.activated(0, x_reset + h_reset)
    if not cell.reset_later:
        h_new = body.product(reset * h, k.index(r, slice(2 * size, 3 * size)))
    elif "b" in given:
        bias = k.cast(k.index(given["b"], (cell.direction, slice(5 * size, 6 * size))), "fp32")
        h_new = reset * (h_new + bias)
    else:
        h_new = reset * h_new
    new = body.activated(1, x_new + h_new)
    return [(1.0 - update) * new + update * h]


def _lstm(body: _Body, states: Sequence[Value], gates: Value, given: Mapping[str, Value]) -> list[Value]:
    k, cell = body.k, body.cell
    h, c = states
    total = gates + body.product(h, k.index(given["r"], cell.direction))
    opened, shown, forgotten, new = k.split(total, 4)
    peep_in = peep_out = peep_forget = None
    if "p" in given:
        peep_in, peep_out, peep_forget = k.split(k.cast(k.index(given["p"], cell.direction), "fp32"), 3)
        opened, forgotten = opened + peep_in * c, forgotten + peep_forget * c
    taken = body.activated(0, opened)
    kept = 1.0 - taken if cell.op.attribute("input_forget", 0) else body.activated(0, forgotten)
    c_next = kept * c + taken * body.activated(1, new)
    output = body.activated(0, shown if peep_out is None else shown + peep_out * c_next)
    return [output * body.function(2, c_next), c_next]


_STEPS = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}

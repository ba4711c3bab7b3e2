"""Eager operators: issued one by one on tensors with data, gathered, and compiled together when a result is asked for."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import numpy.typing as npt

from npuvm.compiler import Allowance, CompileError, Graph, KernelBuilder, Node, ParamRef, Pins, Value
from npuvm.compiler.frontends.eager import Gathered, KernelStore
from npuvm.compiler.graph.ops import Attr
from npuvm.compiler.language.value import kernel_error, pass_over
from npuvm.hw.errors import DeviceError
from npuvm.runtime.device.device import Device
from npuvm.runtime.device.tensor import Tensor

__all__ = ["EagerQueue", "EagerValue"]

_MOST_GATHERED = 64

pass_over(__file__)


class _Held:
    """A tensor that values, or operations that were not run yet, still need; it is freed after the last of them."""

    __slots__ = ("__weakref__", "tensor")

    def __init__(self, tensor: Tensor, owned: bool) -> None:
        self.tensor = tensor
        if owned:
            weakref.finalize(self, tensor.device.free, tensor).atexit = False


class EagerValue(Value):
    """A tensor of an eager queue: computed, or still to be. It takes the operators of a kernel's values."""

    __slots__ = ("__weakref__", "_held", "_queue")

    def __init__(self, queue: EagerQueue, node: Node, held: _Held | None = None) -> None:
        super().__init__(queue, node)
        self._queue = queue
        self._held = held

    @property
    def pending(self) -> bool:
        """Whether it is still to be computed."""
        return self._held is None

    def numpy(self) -> npt.NDArray[Any]:
        """A copy on the host, as `EagerQueue.numpy` gives it."""
        return self._queue.numpy(self)


class EagerQueue(KernelBuilder):
    """Gathers operators and runs them as one kernel.

    All methods of a kernel's builder are there, on values that `tensor` and `wrap` give; sizes are numbers. What was gathered
    is compiled and run when `numpy` or `tensor_of` a value that is not computed yet is called, by `flush`, and when `limit`
    operations have come together. Values that nobody refers to any more by then are not stored, and not computed where no
    other needs them. The same operations on other sizes use the same plan. `stack` is that of `Pins`.

    Methods raise CompileError for operations that do not fit their operands, when they are issued, and whatever `Device.run`
    raises when they are run; the operations gathered so far are dropped then.
    """

    def __init__(self, device: Device, *, limit: int = _MOST_GATHERED, stack: str = "sequence") -> None:
        super().__init__(Graph("eager"))
        if limit < 1:
            raise DeviceError(f"an eager queue gathers {limit} operations; allowed: 1 or more")
        self.device = device
        self.limit = limit
        self.kernels = KernelStore(Pins(stack=stack))
        self._values: dict[int, weakref.ref[EagerValue]] = {}
        self._inputs: dict[int, _Held] = {}
        self._nodes_of: dict[int, Node] = {}
        self._depth = 0

    # Tensors.

    def tensor(self, array: npt.NDArray[Any]) -> EagerValue:
        """A value with the data of a host array."""
        return self._loaded(_Held(self.device.tensor(array), owned=True))

    def wrap(self, tensor: Tensor) -> EagerValue:
        """A value that is a tensor of the device, which stays the caller's: flush before it is freed or written to."""
        if tensor.device is not self.device:
            raise DeviceError("the tensor is on another device")
        return self._loaded(_Held(tensor, owned=False))

    def numpy(self, value: Value) -> npt.NDArray[Any]:
        """A copy of a value on the host; runs what was gathered where it needs it."""
        return self.tensor_of(value).numpy()

    def tensor_of(self, value: Value) -> Tensor:
        """The tensor of a value on the device, which lives as long as it; runs what was gathered where it needs it."""
        if not isinstance(value, EagerValue) or value.builder is not self:
            raise kernel_error(f"{value!r} is no value of this queue")
        if value.pending:
            self.flush()
        if value._held is None:
            raise DeviceError("the value was never computed: running what it was gathered with failed")
        return value._held.tensor

    def _loaded(self, held: _Held) -> EagerValue:
        return EagerValue(self, self._load_node(held), held)

    def _load_node(self, held: _Held) -> Node:
        """The load of a tensor among what is gathered."""
        node = self._nodes_of.get(id(held))
        if node is None:
            tensor = held.tensor
            attrs: dict[str, Attr] = {"param": f"p{len(self._inputs)}", "dtype": tensor.dtype, "shape": tensor.shape}
            node = self._nodes_of[id(held)] = self.graph.add("load", (), "", **attrs)
            self._inputs[node.id] = held
        return node

    # Running.

    @property
    def gathered(self) -> int:
        """Operations that were issued and not run yet."""
        return len(self.graph.nodes) - len(self._inputs)

    def flush(self) -> None:
        """Run what was gathered."""
        alive = [(node, value) for node, ref in self._values.items() if (value := ref()) is not None]
        nodes, inputs = self.graph.nodes, self._inputs
        self.graph = Graph("eager", allowed=self.graph.allowed)
        self._values, self._inputs, self._nodes_of = {}, {}, {}
        if not alive:
            return
        wanted = [nodes[node] for node, _ in alive]
        kernel, loads = self.kernels.get(Gathered(nodes, wanted, self.graph.allowed))
        tensors = {f"p{index}": inputs[load.id].tensor for index, load in enumerate(loads)}
        made = self.device.run(kernel, tensors, tag="eager")
        for index, (_, value) in enumerate(alive):
            value._held = _Held(made[f"out{index}"], owned=True)

    # What differs from a builder of kernels.

    def load(self, source: ParamRef, cache: str = "normal") -> NoReturn:
        """Not for eager values. CompileError."""
        raise kernel_error("an eager queue has no parameters; make values with tensor(array) or wrap(tensor)")

    def store(self, value: Value, name: str | None = None, cache: str = "normal") -> NoReturn:
        """Not for eager values. CompileError."""
        raise kernel_error("an eager queue has no outputs; ask it for the numpy(value) or tensor_of(value)")

    def pin(self, **pins: Any) -> NoReturn:
        """Not for eager values. CompileError."""
        raise kernel_error("an eager queue chooses what becomes a kernel; pins are for kernels")

    def allow(self, *, contract: bool = False, approx_ulp: float = 0.0) -> None:
        """Permit results that differ in rounding, from what is gathered on; see `Allowance`."""
        self.flush()
        try:
            self.graph.allowed = Allowance(contract, approx_ulp)
        except CompileError as error:
            raise kernel_error(error.message) from None

    def _value(self, op: str, value: object) -> Value:
        found = super()._value(op, value)
        if isinstance(found, EagerValue) and not self._is_gathered(found.node):
            if found._held is None:
                raise DeviceError("the value was never computed: running what it was gathered with failed")
            found.node = self._load_node(found._held)
        return found

    def _is_gathered(self, node: Node) -> bool:
        return node.id < len(self.graph.nodes) and self.graph.nodes[node.id] is node

    def _emit(self, op: str, inputs: Any, **attrs: Attr) -> Value:
        current = [self._value(op, each) if isinstance(each, Value) else each for each in inputs]
        value = EagerValue(self, super()._emit(op, current, **attrs).node)
        self._values[value.node.id] = weakref.ref(value)
        return value

    def _leave(self) -> None:
        """An operation is complete, which may have appended several nodes; only between two may the queue be cut."""
        if self.gathered >= self.limit:
            self.flush()


def _counted(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: EagerQueue, *args: Any, **kwargs: Any) -> Any:
        self._depth += 1
        try:
            result = method(self, *args, **kwargs)
        finally:
            self._depth -= 1
        if self._depth == 0:
            self._leave()
        return result

    return call


for _name, _method in inspect.getmembers(KernelBuilder, inspect.isfunction):
    if not _name.startswith("_") and _name not in vars(EagerQueue):
        setattr(EagerQueue, _name, _counted(_method))

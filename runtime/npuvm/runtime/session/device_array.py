"""Values of a model that stay on the device from run to run: weights that are inputs, a cache that grows."""

from __future__ import annotations

from npuvm.compiler.graph.model import Model
from npuvm.runtime.device.device import Device
from npuvm.runtime.session.carrying import Array, carried, carrier_of, restored
from npuvm.runtime.session.errors import SessionError
from npuvm.runtime.session.held import Held
from npuvm.runtime.session.runner import Runner

__all__ = ["DeviceArray", "check_stays", "device_input", "keep_output", "put_array"]


class DeviceArray:
    """A value on a device, in the memory of which it lives as long as anybody refers to it. It never changes."""

    __slots__ = ("_device", "_held", "name")

    def __init__(self, device: Device, held: Held, name: str) -> None:
        self._device, self._held = device, held
        self.name = name

    @property
    def dtype(self) -> str:
        """The dtype in the model, as `float32`."""
        return self._held.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of its dims."""
        return self._held.shape

    def numpy(self) -> Array:
        """A copy on the host, which waits for it. DeviceError on a device that simulates time only."""
        assert self._held.tensor is not None
        return restored(self._device.read(self._held.tensor, self.name), self.dtype)


def put_array(runner: Runner, held: Held, name: str) -> DeviceArray:
    """A value of the host, uploaded once; in the totals of transfers it is one that stays."""
    device = runner.device
    carrier = carrier_of(held.dtype, name)
    nbytes = max(1, held.size * device.isa.dtypes[carrier].itemsize)
    arena = runner.pool.take(nbytes)
    tensor = device.part(arena.memory, 0, held.shape, carrier)
    if held.array is None:
        device.transfer(tensor, "to_device", name, resident=True)
    else:
        device.write(tensor, carried(held.array, held.dtype, name), name, resident=True)
    return DeviceArray(device, Held(held.dtype, held.shape, None, tensor, arena), name)


def keep_output(runner: Runner, held: Held, name: str) -> DeviceArray:
    """An output that stays where a region has made it; one of the host, or a constant, gets a place of its own."""
    if held.tensor is None or held.uploaded or held.constant:
        return put_array(runner, held, name)
    return DeviceArray(runner.device, Held(held.dtype, held.shape, None, held.tensor, held.arena), name)


def device_input(device: Device, given: DeviceArray, name: str, model: Model) -> Held:
    """An input that is on the device. SessionError where it is on another one, or not what the model takes."""
    if given._device is not device:
        raise SessionError(f"input '{name}' is on another device; allowed: a value of this one", model.name)
    if given.dtype != model.values[name].dtype:
        raise SessionError(f"input '{name}' must be {model.values[name].dtype}, got {given.dtype}", model.name)
    check_stays(name, model)
    return Held(given.dtype, given.shape, None, given._held.tensor, given._held.arena)


def check_stays(name: str, model: Model) -> None:
    """SessionError for an input with integers that a run must see before it starts."""
    if name in model.taken:
        message = f"input '{name}' cannot stay on the device: runs look at its integers; allowed: a numpy array"
        raise SessionError(message, model.name)

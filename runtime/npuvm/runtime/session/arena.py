"""Memory of a run: one arena for what lives while a stage runs, and the weights, which stay."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass

from npuvm.hw.errors import OutOfMemoryError
from npuvm.runtime.device.device import Device
from npuvm.runtime.device.tensor import Tensor
from npuvm.runtime.session.carrying import Array, carried

__all__ = ["Arena", "ArenaPool", "Weights"]


class Arena:
    """Bytes of the device, `memory`, that go back to their pool when nobody refers to the arena any more."""

    __slots__ = ("__weakref__", "memory")

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory


class ArenaPool:
    """Memory that runs take and give back, kept between runs so that the next one finds it where the last one did.

    Each stream has memory of its own, since what runs on one must not wait for what another one still reads. `in_use_bytes`
    are those that runs have asked for, `peak_bytes` is the most of them at once. A closed pool, until it is asked again, keeps
    nothing: what comes back goes to the device.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._free: dict[str, list[Tensor]] = {}
        self._closed = False
        self.in_use_bytes = 0
        self.peak_bytes = 0

    def take(self, nbytes: int) -> Arena:
        """An arena of at least so many bytes, for the stream that the device is on.

        OutOfMemoryError when the device does not have them.
        """
        self._closed = False
        stream = self._device.log.stream
        free = self._free.setdefault(stream, [])
        fitting = [each for each in free if each.nbytes >= nbytes]
        if fitting:
            memory = min(fitting, key=lambda each: each.nbytes)
            free.remove(memory)
        else:
            if free:
                # What is too small once is too small again.
                self._device.free(free.pop())
            memory = self._new(nbytes)
        arena = Arena(memory)
        self.in_use_bytes += nbytes
        self.peak_bytes = max(self.peak_bytes, self.in_use_bytes)
        weakref.finalize(arena, self._give_back, stream, memory, nbytes).atexit = False
        return arena

    def _new(self, nbytes: int) -> Tensor:
        try:
            return self._device.empty((nbytes,), "int8")
        except OutOfMemoryError:
            if not any(self._free.values()):
                raise
            self.clear()  # what other streams keep
            return self._device.empty((nbytes,), "int8")

    def _give_back(self, stream: str, memory: Tensor, nbytes: int) -> None:
        self.in_use_bytes -= nbytes
        if self._closed:
            self._device.free(memory)
            return
        self._free.setdefault(stream, []).append(memory)

    def clear(self) -> None:
        """Give the device back what no run uses."""
        for free in self._free.values():
            while free:
                self._device.free(free.pop())
        self._free.clear()

    def close(self) -> None:
        """Give the device back what no run uses, and the rest once nobody refers to it any more."""
        self.clear()
        self._closed = True


@dataclass(slots=True)
class _Weight:
    array: Array
    tensor: Tensor


class Weights:
    """Constants on the device, each once, in the dtype that carries it. `uploaded_bytes` are those of all uploads so far."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._kept: dict[int, _Weight] = {}
        self.nbytes = 0
        self.uploaded_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, array: Array, name: str) -> Tensor:
        """The tensor of a constant, uploaded when it is first asked for."""
        found = self._kept.get(id(array))
        if found is None:
            tensor = self._device.tensor(carried(array, str(array.dtype), name), name, resident=True)
            # The array is kept, so that no other can have its id.
            found = self._kept[id(array)] = _Weight(array, tensor)
            self.nbytes += tensor.nbytes
            self.uploaded_bytes += tensor.nbytes
        return found.tensor

    def clear(self) -> None:
        """Give the device its memory back; what is asked for again is uploaded again."""
        self.keep(())

    def keep(self, arrays: Iterable[Array]) -> None:
        """Give back the memory of all constants but these."""
        wanted = {id(array) for array in arrays}
        for key in [key for key in self._kept if key not in wanted]:
            tensor = self._kept.pop(key).tensor
            self.nbytes -= tensor.nbytes
            self._device.free(tensor)

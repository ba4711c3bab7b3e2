"""The errors of the hardware room."""

from __future__ import annotations

from npuvm.isa.errors import NpuvmError

__all__ = ["ConfigError", "DeviceError", "OutOfMemoryError", "RtlError", "SimulationError", "TrapError"]


class ConfigError(NpuvmError):
    """A chip description is wrong.

    `problems` holds one line for each fault: file, line, field path, value and what is allowed. `str()` is all of them.
    """

    @property
    def problems(self) -> tuple[str, ...]:
        """Each fault as one complete line."""
        return tuple(str(self).splitlines())


class DeviceError(NpuvmError):
    """The simulated device cannot do what was asked: a trap, a launch that does not fit the chip."""

    exit_code = 1


class OutOfMemoryError(DeviceError):
    """Tensors do not fit the chip's global memory: the shapes, or the chip, are the user's to change."""

    exit_code = 2


class RtlError(NpuvmError):
    """A simulation of the hardware description could not be built or run, or failed; the message ends with its log."""

    exit_code = 1


class SimulationError(NpuvmError):
    """The simulation contradicts itself or its bounds: a deadlock, a result below a physical limit, a cycle limit hit."""

    exit_code = 1


class TrapError(DeviceError):
    """A launch ended in a trap of the instruction set; `trap` is its name there."""

    def __init__(self, trap: str, message: str, where: str | None = None) -> None:
        super().__init__(f"trap {trap}: {message}", where)
        self.trap = trap

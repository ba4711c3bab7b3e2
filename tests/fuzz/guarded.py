"""Three real images, and launches whose memory outside the windows is watched.

Whatever an image holds, loading, verifying and running it must end in one of the outcomes of `outcome_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, kernel
from npuvm.compiler.program.kinds import compile_kernel
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import DeviceError, TrapError
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.launch import capacity_limits
from npuvm.hw.simulator import simulate
from npuvm.isa import Image, Isa, IsaError, VerifyError, load_isa, verify

CHIP = "edge"
GUARD = 4096
"""Bytes before, between and behind the windows that nothing may change."""
_FILL = 0x3C


@kernel(x="fp32[M, N]", y="fp32[M, N]")
def chain(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    a, b = k.load(x), k.load(y)
    k.store(k.maximum(a * b + a, 0.0) - b)


@kernel(x="fp16[M, N]")
def softmax(k: KernelBuilder, x: ParamRef) -> None:
    wide = k.cast(k.load(x), "fp32")
    powers = k.exp(wide - k.max(wide, axes=-1, keepdims=True))
    k.store(k.cast(powers / k.sum(powers, axes=-1, keepdims=True), "fp16"))


@kernel(a="fp16[M, K]", b="fp16[K, N]")
def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(a), k.load(b)))


@cache
def the_isa() -> Isa:
    """The instruction set, loaded once."""
    return load_isa()


@cache
def the_chip(name: str = CHIP) -> NpuConfig:
    """A shipped chip, loaded once; by default that which the images are for."""
    return load_chip(name)


@dataclass(frozen=True)
class Launchable:
    """An image, the bytes of its arguments, and the cycles that it takes."""

    name: str
    image: Image
    arguments: tuple[bytes, ...]
    cycles: int


def memory_of(arguments: Sequence[bytes]) -> tuple[GlobalMemory, list[tuple[int, int]]]:
    """Global memory with the arguments in it, guards around each, and the windows (base, bytes)."""
    at, windows = GUARD, []
    for data in arguments:
        windows.append((at, len(data)))
        at = -(-(at + len(data)) // GUARD) * GUARD + GUARD
    memory = GlobalMemory(at)
    memory.reserve(at)
    memory.bytes[:] = _FILL
    for (base, _), data in zip(windows, arguments, strict=True):
        memory.write(base, np.frombuffer(data, dtype=np.uint8))
    return memory, windows


def guards_hold(memory: GlobalMemory, windows: Sequence[tuple[int, int]]) -> bool:
    """Whether every byte outside the windows is as it was."""
    outside = np.ones(len(memory.bytes), dtype=bool)
    for base, size in windows:
        outside[base : base + size] = False
    return bool((memory.bytes[outside] == _FILL).all())


def outcome_of(image: Image, arguments: Sequence[bytes], cycle_limit: int, chip_name: str = CHIP) -> str:
    """Verify an image for a chip and run it on these arguments: "refused WHY", "trap NAME", or "ran"; anything else is raised.

    What a launch leaves outside its windows is compared whether it ends well or traps.
    """
    isa, chip = the_isa(), the_chip(chip_name)
    try:
        verify(isa, image, capacity_limits(chip))
    except VerifyError as exc:
        return f"refused {exc.message.rpartition('[')[2].rstrip(']')}"
    memory, windows = memory_of(arguments)
    addresses = [base for base, _ in windows]
    try:
        simulate(
            chip,
            isa,
            image,
            memory=memory,
            addresses=addresses,
            windows=windows,
            cycle_limit=cycle_limit,
            hazards="off",
        )
    except TrapError as exc:
        assert exc.trap in isa.traps
        result = f"trap {exc.trap}"
    except DeviceError:
        assert image.n_args != len(arguments)
        result = "refused arguments"
    else:
        result = "ran"
    assert guards_hold(memory, windows), "bytes outside the windows have changed"
    return result


def outcome_of_bytes(data: bytes, launch: Launchable) -> str:
    """What `outcome_of` says of a serialised image; "refused by the loader" when it is no image."""
    try:
        image = Image.from_bytes(data)
    except IsaError:
        return "refused by the loader"
    assert image.to_bytes() == data, "an image that is read is not the one that is written"
    return outcome_of(image, launch.arguments, 20 * launch.cycles)


@cache
def launches() -> dict[str, Launchable]:
    """A chain of vector instructions, a softmax and a matrix product, compiled for the chip, with random arguments."""
    cases: list[tuple[str, Kernel, dict[str, tuple[int, ...]]]] = [
        ("chain", chain, {"x": (50, 70), "y": (50, 70)}),
        ("softmax", softmax, {"x": (110, 70)}),
        ("product", product, {"a": (130, 33), "b": (33, 70)}),
    ]
    return {name: _launch(name, kernel_, shapes) for name, kernel_, shapes in cases}


def _launch(name: str, source: Kernel, shapes: dict[str, tuple[int, ...]]) -> Launchable:
    compiled = compile_kernel(source, shapes, the_chip(), the_isa())
    (only,) = compiled.launches
    tensors = {tensor.name: tensor for tensor in compiled.tensors}
    rng = np.random.default_rng(len(name))
    arguments = []
    for argument in only.args:
        size = tensors[argument].nbytes
        values: npt.NDArray[np.uint8] = rng.integers(0, 256, size, dtype=np.uint8)
        arguments.append(values.tobytes() if tensors[argument].kind == "param" else b"\x4d" * size)
    memory, windows = memory_of(arguments)
    addresses = [base for base, _ in windows]
    result = simulate(the_chip(), the_isa(), only.image, memory=memory, addresses=addresses, windows=windows)
    return Launchable(name, only.image, tuple(arguments), result.cycles)

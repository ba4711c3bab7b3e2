"""Whether choices are made by machine code in this process."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from npuvm.compiler.errors import CompileError

__all__ = ["Native", "load_native", "loaded", "unload_native"]


class Native(NamedTuple):
    """The kernels, compiled, and what compiled them."""

    choose_block: Callable[..., bool]
    choose_tile: Callable[..., tuple[int, float, int, int]]
    choose_way: Callable[..., tuple[int, float, float, int, int]]
    choose_chunks: Callable[..., tuple[int, float, float, int, int, int, int, int]]
    choose_reduce: Callable[..., tuple[Any, ...]]
    choose_product_tile: Callable[..., tuple[int, float]]
    choose_product_part: Callable[..., int]
    choose_met_tile: Callable[..., tuple[int, float, float]]
    choose_met_tile_of_one: Callable[..., tuple[int, float, float]]
    choose_corner: Callable[..., tuple[int, float]]
    choose_conv_tile: Callable[..., tuple[int, ...]]
    fill: Callable[..., bool]
    label: str


_found: list[Native] = []


def load_native() -> Native:
    """Let machine code make the choices of kernels that are planned from now on in this process; the same choices in less time.

    Takes a second, and some forty the first time after an installation. CompileError without numba.
    """
    if not _found:
        try:
            names = [
                "block_kernel",
                "tile_kernel",
                "chunk_kernel",
                "product_kernel",
                "met_kernel",
                "corner_kernel",
                "conv_kernel",
                "field_kernel",
                "compiling",
            ]
            block, tile, chunk, product, met, corner, conv, field, compiling = (
                import_module(f"npuvm.compiler.native.{name}") for name in names
            )
        except ImportError as error:
            if error.name != "numba":
                raise
            raise CompileError("choices by machine code need numba; install npuvm[fast]") from None
        _found.append(
            Native(
                block.choose_block,
                tile.choose_tile,
                tile.choose_way,
                chunk.choose_chunks,
                chunk.choose_reduce,
                product.choose_product_tile,
                product.choose_product_part,
                met.choose_met_tile,
                met.choose_met_tile_of_one,
                corner.choose_corner,
                conv.choose_conv_tile,
                field.fill,
                compiling.LABEL,
            )
        )
    return _found[0]


def unload_native() -> None:
    """Let Python make the choices of kernels that are planned from now on."""
    _found.clear()


def loaded() -> Native | None:
    """The machine code, where the process has loaded it."""
    return _found[0] if _found else None

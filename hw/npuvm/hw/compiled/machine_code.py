"""What numba is told about the stores: an own type of array for each of them.

Indices are taken as they are: numba's arrays look at the sign of each, since Python's count from the end when negative. And an
access to one store is marked as such, so that what was read from another needs not be read again. Imported with numba only.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from npuvm.hw.compiled import loop

__all__ = ["StoreType", "discard", "fill", "run", "soon"]


class StoreType(types.Type):
    """A flat store of integers of `dtype`; read and written as 64-bit ones."""

    def __init__(self, dtype: types.Integer, store: str) -> None:
        self.dtype = dtype
        self.store = store
        super().__init__(f"Store({store}, {dtype})")


@register_model(StoreType)
class _StoreModel(models.PrimitiveModel):
    """A pointer to the first element."""

    def __init__(self, manager: Any, store: StoreType) -> None:
        super().__init__(manager, store, manager.lookup(store.dtype).get_data_type().as_pointer())


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    def generic(self, args: tuple[Any, ...], kws: Any) -> Any:
        if isinstance(args[0], StoreType) and isinstance(args[1], types.Integer):
            return types.int64(args[0], types.intp)
        return None


@infer_global(operator.setitem)
class _SetItem(AbstractTemplate):
    def generic(self, args: tuple[Any, ...], kws: Any) -> Any:
        if isinstance(args[0], StoreType) and isinstance(args[1], types.Integer):
            return types.none(args[0], types.intp, types.int64)
        return None


@lower_builtin(operator.getitem, StoreType, types.intp)
def _get(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    store = signature.args[0]
    value = builder.load(builder.gep(args[0], [args[1]], inbounds=True))
    _mark(builder.module, value, store)
    return context.cast(builder, value, store.dtype, types.int64)


@lower_builtin(operator.setitem, StoreType, types.intp, types.int64)
def _set(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    store = signature.args[0]
    value = context.cast(builder, args[2], types.int64, store.dtype)
    _mark(builder.module, builder.store(value, builder.gep(args[0], [args[1]], inbounds=True)), store)
    return context.get_dummy_value()


def _mark(module: ir.Module, access: ir.Instruction, store: StoreType) -> None:
    """Say which store is accessed: LLVM's metadata "tbaa", where siblings in the tree of types never overlap."""
    root = module.add_metadata(["npuvm"])
    kind = module.add_metadata([store.store, root])
    access.set_metadata("tbaa", module.add_metadata([kind, kind, ir.Constant(ir.IntType(64), 0)]))


def _as_store(name: str) -> Any:
    """A function that takes an array as the store of this name."""

    @intrinsic
    def as_store(typing: Any, array: Any) -> Any:
        def pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return context.make_array(signature.args[0])(context, builder, args[0]).data

        return StoreType(array.dtype, name)(array), pointer

    return as_store


_W, _M, _SITE, _COL, _TOK, _SLOT, _LOG, _DIR, _PAGE = map(
    _as_store, ("W", "M", "SITE", "COL", "TOK", "SLOT", "LOG", "DIR", "PAGE")
)


@intrinsic
def soon(typing: Any, store: Any, at: Any) -> Any:
    """`npuvm.hw.compiled.hints.soon` as an instruction of the host."""

    def prefetch(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        place = builder.bitcast(builder.gep(args[0], [args[1]]), byte)
        read, keep, data = number(0), number(3), number(1)
        builder.call(function, [place, read, keep, data])
        return context.get_dummy_value()

    return types.none(store, types.intp), prefetch


kernel: Callable[..., Any] = loop.run
"""What an entry calls; each is compiled with its own compiled kernel in this place."""


def run(W: Any, M: Any, SITE: Any, COL: Any, TOK: Any, SLOT: Any, LOG: Any, DIR: Any, PAGE: Any) -> Any:
    """`npuvm.hw.compiled.loop.run` on arrays."""
    return kernel(_W(W), _M(M), _SITE(SITE), _COL(COL), _TOK(TOK), _SLOT(SLOT), _LOG(LOG), _DIR(DIR), _PAGE(PAGE))


def discard(M: Any, SLOT: Any, LOG: Any, DIR: Any, PAGE: Any, first: int, last: int) -> Any:
    """`npuvm.hw.compiled.lines.discard` on arrays."""
    return kernel(_M(M), _SLOT(SLOT), _LOG(LOG), _DIR(DIR), _PAGE(PAGE), first, last)


def fill(M: Any, SLOT: Any, LOG: Any, DIR: Any, PAGE: Any, lines: Any, dirty: Any) -> Any:
    """`npuvm.hw.compiled.lines.fill` on arrays."""
    return kernel(_M(M), _SLOT(SLOT), _LOG(LOG), _DIR(DIR), _PAGE(PAGE), lines, dirty)

"""Freeze step: the resolved dictionary -> immutable objects."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np

from npuvm.isa.errors import IsaError
from npuvm.isa.model import BitField, DType, Instruction, Isa, OperandKind, OperandSpec, Space

__all__ = ["freeze"]


def freeze(resolved: dict[str, Any], digest: str) -> Isa:
    """Immutable instruction set from a resolved dictionary; `digest` is the hash of its canonical JSON."""
    kinds = {
        name: OperandKind(name, k["repr"], k.get("table"), k.get("prefix", ""))
        for name, k in resolved["operand_kinds"].items()
    }
    instructions = [_instruction(entry, kinds, resolved) for entry in resolved["instructions"]]
    return Isa(
        name=resolved["isa"],
        version=resolved["version"],
        extensions=tuple(resolved["extensions"]),
        hash=digest,
        max_operand_words=resolved["max_operand_words"],
        limits=MappingProxyType(resolved["limits"]),
        semaphore_scopes=MappingProxyType({k: (v[0], v[1]) for k, v in resolved["semaphore_scopes"].items()}),
        dtypes=MappingProxyType({name: _dtype(name, d) for name, d in resolved["dtypes"].items()}),
        spaces=MappingProxyType(
            {n: Space(n, s["code"], s["align_bytes"], s["doc"]) for n, s in resolved["spaces"].items()}
        ),
        units=MappingProxyType({name: unit["code"] for name, unit in resolved["units"].items()}),
        head=MappingProxyType({name: BitField(*bits) for name, bits in resolved["head"].items()}),
        predicates=MappingProxyType(resolved["predicates"]),
        features=MappingProxyType({name: f["default"] for name, f in resolved["features"].items()}),
        instructions=MappingProxyType({i.name: i for i in instructions}),
        by_opcode=MappingProxyType({i.opcode: i for i in instructions}),
        primitive_timing=MappingProxyType(resolved["primitive_timing"]),
        traps=MappingProxyType(resolved["traps"]),
        resolved=MappingProxyType(resolved),
    )


def _dtype(name: str, entry: dict[str, Any]) -> DType:
    numpy_name = entry["numpy"]
    if not hasattr(np, numpy_name) and not hasattr(ml_dtypes, numpy_name):
        raise IsaError(f"dtypes.{name}.numpy: {numpy_name!r} is neither a numpy nor an ml_dtypes type")
    scalar = np.dtype(numpy_name) if hasattr(np, numpy_name) else np.dtype(getattr(ml_dtypes, numpy_name))
    if scalar.itemsize * 8 != entry["bits"]:
        raise IsaError(f"dtypes.{name}.bits: is {entry['bits']}, {numpy_name} has {scalar.itemsize * 8}")
    return DType(name, entry["code"], entry["bits"], entry["kind"], scalar, entry["compute"], entry.get("acc"))


def _instruction(entry: dict[str, Any], kinds: dict[str, OperandKind], resolved: dict[str, Any]) -> Instruction:
    operands = tuple(_operand(spec, kinds) for spec in entry["operands"])
    dtype2 = BitField(*entry["dtype2_bits"]) if entry["dtype2_bits"] else None
    return Instruction(
        name=entry["name"],
        opcode=entry["opcode"],
        unit=entry["unit"],
        format=entry["format"],
        words=entry["words"],
        operands=operands,
        dtypes=tuple((first, second) for first, second in entry["dtypes"]),
        dtype2_bits=dtype2,
        timing=entry["timing"],
        semantics=entry["semantics"],
        function=entry["function"],
        traps=tuple(entry["traps"]),
        feature=entry["feature"],
        doc=entry["doc"],
        reserved=_reserved(entry, operands, dtype2, resolved["head"]),
        regions=tuple(o for o in operands if o.is_region),
        sizes=tuple(o for o in operands if o.kind.name == "size"),
    )


def _operand(spec: dict[str, Any], kinds: dict[str, OperandKind]) -> OperandSpec:
    return OperandSpec(
        name=spec["name"],
        bits=BitField(*spec["bits"]),
        kind=kinds[spec["kind"]],
        low=spec["min"],
        high=spec["max"],
        default=spec["default"],
        values=MappingProxyType(spec["values"]),
        role=spec["role"],
        spaces=tuple(spec["spaces"]),
        shape=tuple(spec["shape"]),
        dtype=spec["dtype"],
    )


def _reserved(
    entry: dict[str, Any],
    operands: tuple[OperandSpec, ...],
    dtype2: BitField | None,
    head: dict[str, list[int]],
) -> tuple[int, ...]:
    """Per word the bits that no field covers; they must be zero. An untyped instruction's type field is reserved too."""
    used = [0] * (entry["words"] + 1)
    for name, bits in head.items():
        if name != "dtype" or entry["dtyped"]:
            used[0] |= BitField(*bits).mask
    for bits_of in [o.bits for o in operands] + ([dtype2] if dtype2 else []):
        used[bits_of.word] |= bits_of.mask
    return tuple(~word & (1 << 64) - 1 for word in used)

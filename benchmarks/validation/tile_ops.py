"""Single tile operations on one core, each waiting for the one before, so that a whole operation is what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.validation.builders import ALIGNMENT, Case, Launch, builder
from benchmarks.validation.programs import core_of, image_of

from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["tile_op_case"]

REPEATS = 100
"""Operations of a launch; what the launch takes besides is a hundredth of its cycles in the result."""

SLOT = 0x4000
"""Bytes from one operand in UB to the next, as PTO's tests place them."""

BINARY = ("vadd", "vsub", "vmul")
ROW_REDUCES = ("vmaxl", "vsuml")
COLUMN_REDUCES = ("vmaxf", "vsumf")
IMMEDIATE = ("vadds", "vmins", "vmuls")
BYTES = {"fp32": 4, "fp16": 2, "int32": 4, "int8": 1}


@builder("tile_op")
def tile_op_case(chip: NpuConfig, isa: Isa, params: Mapping[str, Any]) -> Case:
    """The launch of one row, in cycles of one operation."""
    op = params["op"]
    if op == "mma":
        setup, line, unit = *_product(params), "cube"
    elif op == "ld":
        setup, line, unit = *_load(params), "vector"
    else:
        setup, line, unit = *_vector(op, params), "vector"
    body = [f"szc size=s0 full={REPEATS}", *setup, "loop loop=l0 trip=s0", f"  {line}", "endloop"]
    args = int(op == "ld")
    image = image_of(isa, f"{op}.{params['dtype']}", core_of(chip, unit), args, [()], "\n".join(body))
    return Case((Launch(image, (ALIGNMENT,) * args),), operations=REPEATS)


def _vector(op: str, params: Mapping[str, Any]) -> tuple[list[str], str]:
    """Operands stand SLOT bytes apart in the order a, b, result; in place, the result is a."""
    dtype, (rows, cols) = params["dtype"], params["shape"]
    pitch = BYTES[dtype] * cols
    operands = ["a", "b"] if op in BINARY else ["a"]
    slot = max(SLOT, rows * pitch)
    out_pitch = {**dict.fromkeys(ROW_REDUCES, 32)}.get(op, pitch)
    setup = [f"szc size=s1 full={rows}", f"szc size=s2 full={cols}"]
    setup += [f"desc desc=d{i} space=ub base={i * slot} pitch={pitch}" for i in range(len(operands))]
    result = 0 if params.get("in_place") else len(operands)
    if result:
        setup.append(f"desc desc=d{result} space=ub base={result * slot} pitch={out_pitch}")
    sources = " ".join(f"{name}=d{i}" for i, name in enumerate(operands))
    immediate = " imm=1" if op in IMMEDIATE else ""
    return setup, f"{op}.{dtype} dst=d{result} {sources} rows=s1 cols=s2{immediate} | order"


def _load(params: Mapping[str, Any]) -> tuple[list[str], str]:
    """A whole tensor of the shape; `padded` is the larger tile that it comes into."""
    dtype, (rows, cols) = params["dtype"], params["shape"]
    tile_rows, tile_cols = params.get("padded", params["shape"])
    item = BYTES[dtype]
    setup = [
        f"szc size=s1 full={tile_rows}",
        f"szc size=s2 full={tile_cols}",
        f"desc desc=d0 space=gm base=@arg0 pitch={item * cols}",
        f"dwin desc=d0 rows={rows} cols={cols}",
        f"desc desc=d1 space=ub base=0 pitch={item * tile_cols}",
    ]
    return setup, f"ld.{dtype} dst=d1 src=d0 rows=s1 cols=s2 | order"


def _product(params: Mapping[str, Any]) -> tuple[list[str], str]:
    """A product of m x k and k x n; the cube takes the next when it has issued the blocks of the last."""
    dtype, (m, k, n) = params["dtype"], params["shape"]
    item = BYTES[dtype]
    setup = [f"szc size=s{i} full={size}" for i, size in ((1, m), (2, n), (3, k))]
    for i, (space, cols) in enumerate((("l0a", item * k), ("l0b", item * n), ("l0c", 4 * n))):
        setup.append(f"desc desc=d{i} space={space} base=0 pitch={-(-cols // 32) * 32}")
    return setup, f"mma.{dtype} dst=d2 a=d0 b=d1 m=s1 n=s2 k=s3"

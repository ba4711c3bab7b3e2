from __future__ import annotations

import re
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from npuvm.hw.config import load_chip
from npuvm.hw.errors import DeviceError
from npuvm.hw.expansion.expand import Expansions
from npuvm.hw.expansion.stream import Stream
from npuvm.hw.functional.execute import Executor
from npuvm.hw.functional.state import GlobalMemory, Windows
from npuvm.isa import Insn, encode_program, load_isa, load_isa_text
from npuvm.isa.resources import find_resource

ISA = load_isa()
CHIP = load_chip("edge")
GM, UB, L1, L0A, L0B, L0C = range(6)
NUMPY = {name: dtype.numpy for name, dtype in ISA.dtypes.items()}
RNG = np.random.default_rng(11)


def make(op: str, dtype: str | None = None, dtype2: str | None = None, **args: int) -> Insn:
    return Insn(op, dtype, dtype2, args=args)


def sizes(*values: int) -> list[Insn]:
    return [make("szc", size=i, full=v) for i, v in enumerate(values)]


def desc(index: int, space: int, base: int, pitch: int) -> Insn:
    return make("desc", desc=index, space=space, base=base, pitch=pitch)


class Bench:
    """One core whose instructions are executed one after the other, without time."""

    def __init__(self, windows: list[tuple[int, int]] | None = None) -> None:
        self.memory = GlobalMemory(1 << 24)
        self.executor = Executor(ISA, CHIP, self.memory, windows or [(0, 1 << 16)], 2)

    def run(self, *insns: Insn, core: int = 1) -> None:
        words = encode_program(ISA, [*insns, make("halt")])
        for region in Expansions(ISA, words, CHIP).core(0):
            if isinstance(region, Stream):
                for row in range(len(region)):
                    self.executor.complete(self.executor.start(core, region, row))

    def put(self, space: str, address: int, values: np.ndarray, pitch: int | None = None) -> None:
        self.view(space, address, values.shape, values.dtype, pitch)[...] = values

    def view(
        self, space: str, address: int, shape: tuple[int, ...], dtype: Any, pitch: int | None = None
    ) -> np.ndarray:
        item = np.dtype(dtype).itemsize
        buffer = self.memory.bytes if space == "gm" else self.executor.cores[1].buffer(space)
        return np.ndarray(shape, dtype, buffer, address, (pitch or shape[1] * item, item))


def numbers(dtype: str, shape: tuple[int, int]) -> np.ndarray:
    kind = ISA.dtypes[dtype].kind
    if kind == "bool":
        return RNG.integers(0, 2, shape).astype(bool)
    if kind == "int":
        return RNG.integers(-100, 100, shape).astype(NUMPY[dtype])
    return RNG.uniform(0.25, 4, shape).astype(NUMPY[dtype])


def wide(values: np.ndarray) -> np.ndarray:
    """In the compute type."""
    kind = values.dtype.kind
    return values if kind == "b" else values.astype(np.int32 if kind == "i" else np.float32)


def pattern(dtype: str, value: float) -> int:
    if ISA.dtypes[dtype].kind == "float":
        return int(struct.unpack("<I", struct.pack("<f", value))[0])
    return int(value) & 0xFFFFFFFF


UNARY: dict[str, Any] = {
    "vmov": lambda a: a,
    "vneg": lambda a: -a,
    "vabs": np.abs,
    "vexp": lambda a: np.exp(a.astype(np.float64)),
    "vlog": lambda a: np.log(a.astype(np.float64)),
    "vsqrt": np.sqrt,
    "vrsqrt": lambda a: np.float32(1) / np.sqrt(a),
    "vrec": lambda a: np.float32(1) / a,
    "vrelu": lambda a: np.maximum(a, 0),
    "vfloor": np.floor,
    "vceil": np.ceil,
    "vrint": np.rint,
    "vtrunc": np.trunc,
    "vnot": np.invert,
}
BINARY: dict[str, Any] = {
    "vadd": np.add,
    "vsub": np.subtract,
    "vmul": np.multiply,
    "vdiv": np.divide,
    "vmax": np.maximum,
    "vmin": np.minimum,
    "vpow": lambda a, b: np.power(a.astype(np.float64), b),
    "vand": np.bitwise_and,
    "vor": np.bitwise_or,
    "vxor": np.bitwise_xor,
}
COMPARE: dict[str, Any] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
IMMEDIATE: dict[str, Any] = {
    "vadds": lambda a, i: a + i,
    "vmuls": lambda a, i: a * i,
    "vmaxs": np.maximum,
    "vmins": np.minimum,
    "vrsubs": lambda a, i: i - a,
    "vdivs": lambda a, i: a / i,
    "vrdivs": lambda a, i: i / a,
    "vpows": lambda a, i: np.power(a.astype(np.float64), i),
}
REDUCE: dict[str, Any] = {"vsum": np.add, "vmax": np.maximum, "vmin": np.minimum}


def cases(table: dict[str, Any]) -> list[tuple[str, str]]:
    return [(op, pair[0]) for op in table for pair in ISA.instruction(op).dtypes]


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    if values.dtype == np.float64:
        values = values.astype(np.float32)
    return values.astype(NUMPY[dtype])


@pytest.mark.parametrize(("op", "dtype"), cases(UNARY))
def test_unary(op: str, dtype: str) -> None:
    bench, a = Bench(), numbers(dtype, (3, 20))
    bench.put("ub", 4096, a, 128)
    bench.run(*sizes(3, 20), desc(0, UB, 0, 96), desc(1, UB, 4096, 128), make(op, dtype, dst=0, a=1, rows=0, cols=1))
    np.testing.assert_array_equal(bench.view("ub", 0, (3, 20), a.dtype, 96), rounded(UNARY[op](wide(a)), dtype))


@pytest.mark.parametrize(("op", "dtype"), cases(BINARY))
def test_binary_with_a_row_read_for_all_rows(op: str, dtype: str) -> None:
    bench, a, b = Bench(), numbers(dtype, (3, 20)), numbers(dtype, (1, 20))
    bench.put("ub", 4096, a, 128)
    bench.put("ub", 8192, b)
    insns = [desc(0, UB, 0, 96), desc(1, UB, 4096, 128), desc(2, UB, 8192, 0)]
    bench.run(*sizes(3, 20), *insns, make(op, dtype, dst=0, a=1, b=2, rows=0, cols=1))
    result = bench.view("ub", 0, (3, 20), a.dtype, 96)
    np.testing.assert_array_equal(result, rounded(BINARY[op](wide(a), wide(b)), dtype))


@pytest.mark.parametrize("name", COMPARE)
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "int32"])
def test_comparisons(name: str, dtype: str) -> None:
    bench, a, b = Bench(), numbers(dtype, (2, 20)), numbers(dtype, (2, 20))
    b[0] = a[0]
    bench.put("ub", 4096, a, 128)
    bench.put("ub", 8192, b, 128)
    insns = [desc(0, UB, 0, 32), desc(1, UB, 4096, 128), desc(2, UB, 8192, 128), desc(3, UB, 2048, 32)]
    value = float(a[1, 3])
    immediate = make(f"v{name}s", dtype, dst=3, a=1, imm=pattern(dtype, value), rows=0, cols=1)
    bench.run(*sizes(2, 20), *insns, make(f"v{name}", dtype, dst=0, a=1, b=2, rows=0, cols=1), immediate)
    np.testing.assert_array_equal(bench.view("ub", 0, (2, 20), bool, 32), COMPARE[name](wide(a), wide(b)))
    np.testing.assert_array_equal(bench.view("ub", 2048, (2, 20), bool, 32), COMPARE[name](wide(a), np.float32(value)))


@pytest.mark.parametrize(("op", "dtype"), cases(IMMEDIATE))
def test_immediates(op: str, dtype: str) -> None:
    bench, a = Bench(), numbers(dtype, (3, 20))
    bench.put("ub", 4096, a, 128)
    imm = make(op, dtype, dst=0, a=1, imm=pattern(dtype, 3), rows=0, cols=1)
    bench.run(*sizes(3, 20), desc(0, UB, 0, 96), desc(1, UB, 4096, 128), imm)
    three = wide(a).dtype.type(3)
    np.testing.assert_array_equal(
        bench.view("ub", 0, (3, 20), a.dtype, 96), rounded(IMMEDIATE[op](wide(a), three), dtype)
    )


@pytest.mark.parametrize("name", REDUCE)
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "int32"])
def test_reductions_and_reading_a_column_as_a_row(name: str, dtype: str) -> None:
    bench, a = Bench(), np.round(numbers(dtype, (5, 20)))
    a = a.astype(NUMPY[dtype])
    item = a.dtype.itemsize
    bench.put("ub", 4096, a, 128)
    insns = [
        desc(0, UB, 0, item),
        desc(1, UB, 4096, 128),
        desc(2, UB, 512, 0),
        desc(3, UB, 1024, 32),
        desc(4, UB, 0, 0),
    ]
    bench.run(
        *sizes(5, 20, 1),
        *insns,
        make(f"{name}l", dtype, dst=0, a=1, rows=0, cols=1),
        make(f"{name}f", dtype, dst=2, a=1, rows=0, cols=1),
        make("vmov", dtype, dst=3, a=4, rows=2, cols=0),  # the statistics, read as one row of five
    )
    by_row = REDUCE[name].reduce(wide(a), axis=1).astype(NUMPY[dtype])
    np.testing.assert_array_equal(bench.view("ub", 0, (1, 5), a.dtype)[0], by_row)
    np.testing.assert_array_equal(bench.view("ub", 1024, (1, 5), a.dtype)[0], by_row)
    by_column = REDUCE[name].reduce(wide(a), axis=0).astype(NUMPY[dtype])
    np.testing.assert_array_equal(bench.view("ub", 512, (1, 20), a.dtype)[0], by_column)


def test_broadcast_fill_select_and_isfinite() -> None:
    bench = Bench()
    column = np.arange(4, dtype=np.float16)[:, None]
    bench.put("ub", 0, column, 2)
    bench.run(
        *sizes(4, 16),
        *(desc(i, UB, 512 * i, 32) for i in range(1, 6)),
        desc(0, UB, 0, 2),
        make("vbrc", "fp16", dst=1, a=0, rows=0, cols=1),
        make("vdup", "fp16", dst=2, imm=pattern("fp16", float("inf")), rows=0, cols=1),
        make("vgts", "fp16", dst=3, a=1, imm=pattern("fp16", 1), rows=0, cols=1),
        make("vsel", "fp16", dst=4, a=1, b=2, c=3, rows=0, cols=1),
        make("visfin", "fp16", dst=5, a=4, rows=0, cols=1),
    )
    expected = np.where(column > 1, column, np.float16(np.inf)) * np.ones((1, 16), dtype=np.float16)
    np.testing.assert_array_equal(bench.view("ub", 2048, (4, 16), np.float16), expected)
    np.testing.assert_array_equal(bench.view("ub", 2560, (4, 16), bool, 32), np.isfinite(expected))


@pytest.mark.parametrize("pair", ISA.instruction("vcast").dtypes)
def test_casts(pair: tuple[str, str]) -> None:
    source, target = pair
    kinds = (ISA.dtypes[source].kind, ISA.dtypes[target].kind)
    values = {
        "float": [-2.5, -0.5, 0.0, 0.4, 1.75, 100.9],
        "int": [-300, -1, 0, 1, 100, 300],
        "bool": [0, 1, 1, 0, 0, 1],
    }
    with np.errstate(all="ignore"):
        a = np.array([values[kinds[0]]]).astype(NUMPY[source])
    bench = Bench()
    bench.put("ub", 0, a)
    bench.run(
        *sizes(1, 6), desc(0, UB, 512, 0), desc(1, UB, 0, 0), make("vcast", source, target, dst=0, a=1, rows=0, cols=1)
    )
    result = bench.view("ub", 512, (1, 6), NUMPY[target])
    exact = a.astype(np.float64)
    if kinds[1] == "int":
        limits = np.iinfo(NUMPY[target])
        expected = np.clip(np.trunc(exact), limits.min, limits.max)
    elif kinds[1] == "bool":
        expected = exact != 0
    else:
        expected = exact.astype(np.float32).astype(NUMPY[target])
    np.testing.assert_array_equal(result.astype(np.float64), expected.astype(np.float64))


def test_a_matrix_product_from_l1_to_global_memory() -> None:
    bench = Bench()
    a, b = numbers("fp16", (5, 40)), numbers("fp16", (7, 40))  # b is transposed on its way
    bias = numbers("fp16", (1, 7))
    bench.put("l1", 0, a, 96)
    bench.put("l1", 1024, b, 96)
    bench.put("l1", 2048, bias)
    bench.run(
        *sizes(5, 7, 40),
        desc(0, L1, 0, 96), desc(1, L1, 1024, 96), desc(2, L1, 2048, 0),
        desc(3, L0A, 0, 96), desc(4, L0B, 0, 32), desc(5, L0C, 0, 32), desc(6, GM, 4096, 14), desc(7, L1, 4096, 32),
        make("mvl0a", "fp16", dst=3, src=0, rows=0, cols=2),
        make("mvl0bt", "fp16", dst=4, src=1, rows=2, cols=1),
        make("mvl0c", "fp16", dst=5, src=2, rows=0, cols=1),
        make("mmac", "fp16", dst=5, a=3, b=4, m=0, n=1, k=2),
        make("mmac", "fp16", dst=5, a=3, b=4, m=0, n=1, k=2),
        make("fix", "fp32", "fp16", dst=6, src=5, rows=0, cols=1, act=1),
        make("fix", "fp32", "bf16", dst=7, src=5, rows=0, cols=1),
    )  # fmt: skip
    expected = 2 * (wide(a).astype(np.float64) @ wide(b).T) + bias
    result = bench.view("gm", 4096, (5, 7), np.float16)
    np.testing.assert_allclose(result, np.maximum(expected, 0), rtol=2e-3)
    np.testing.assert_allclose(
        bench.view("l1", 4096, (5, 7), ml_dtypes.bfloat16, 32).astype(float), expected, rtol=1e-2
    )
    bench.run(
        *sizes(5, 7, 40), desc(5, L0C, 0, 32), desc(3, L0A, 0, 96), desc(4, L0B, 0, 32),
        make("mma", "fp16", dst=5, a=3, b=4, m=0, n=1, k=2),
    )  # fmt: skip
    np.testing.assert_allclose(bench.view("l0c", 0, (5, 7), np.float32, 32), wide(a) @ wide(b).T, rtol=1e-5)


def test_load_and_store_strided_tiles() -> None:
    bench = Bench()
    tensor = numbers("fp32", (10, 30))
    bench.memory.write(256, tensor)
    bench.run(
        *sizes(4, 9), desc(0, UB, 64, 64), desc(1, GM, 256 + 2 * 120 + 3 * 4, 120), desc(2, GM, 8192, 40),
        make("ld", "fp32", dst=0, src=1, rows=0, cols=1), make("st", "fp32", dst=2, src=0, rows=0, cols=1),
    )  # fmt: skip
    np.testing.assert_array_equal(bench.view("gm", 8192, (4, 9), np.float32, 40), tensor[2:6, 3:12])
    assert not bench.view("gm", 8192 + 36, (4, 1), np.float32, 40).any()


@pytest.mark.parametrize("origin", [(0, 0), (-2, -3), (4, 6), (-9, 0), (6, 0), (0, 8), (5, -20), (-1, 7)])
def test_windows_pad_reads_and_drop_writes(origin: tuple[int, int]) -> None:
    bench = Bench()
    tensor = numbers("fp16", (6, 8))
    bench.memory.write(1024, tensor)
    before = numbers("fp16", (6, 8))
    bench.memory.write(4096, before)
    shift = origin[0] * 16 + origin[1] * 2

    def window(index: int) -> Insn:
        return make("dwin", desc=index, row0=origin[0], col0=origin[1], rows=6, cols=8)

    bench.run(
        *sizes(4, 5), desc(0, UB, 0, 32), desc(1, GM, 1024 + shift, 16), window(1),
        desc(2, GM, 4096 + shift, 16), window(2),
        make("ld", "fp16", dst=0, src=1, rows=0, cols=1, pad=pattern("fp16", -7.5)),
        make("st", "fp16", dst=2, src=0, rows=0, cols=1),
    )  # fmt: skip
    padded = np.full((60, 60), -7.5, dtype=np.float16)
    padded[20:26, 20:28] = tensor
    row, col = 20 + origin[0], 20 + origin[1]
    np.testing.assert_array_equal(bench.view("ub", 0, (4, 5), np.float16, 32), padded[row : row + 4, col : col + 5])
    inside = np.zeros((60, 60), dtype=bool)
    inside[row : row + 4, col : col + 5] = True
    expected = np.where(inside[20:26, 20:28], tensor, before)
    np.testing.assert_array_equal(bench.view("gm", 4096, (6, 8), np.float16), expected)


def test_atomic_adds_read_at_completion() -> None:
    bench = Bench()
    bench.memory.write(1024, np.full((2, 16), 10, dtype=np.int32))
    bench.put("ub", 0, np.arange(32, dtype=np.int32).reshape(2, 16))
    add = make("stadd", "int32", dst=1, src=0, rows=0, cols=1)
    words = encode_program(ISA, [*sizes(2, 16), desc(0, UB, 0, 64), desc(1, GM, 1024, 64), add, add, make("halt")])
    stream = next(r for r in Expansions(ISA, words, CHIP).core(0) if isinstance(r, Stream))
    pending = [bench.executor.start(1, stream, row) for row in range(2)]
    for item in pending:
        bench.executor.complete(item)
    expected = 10 + 2 * np.arange(32).reshape(2, 16)
    np.testing.assert_array_equal(bench.view("gm", 1024, (2, 16), np.int32), expected)


def test_a_vector_target_that_is_also_an_operand_is_read_at_completion() -> None:
    text = find_resource("isa", "npu_v1").read_text(encoding="utf-8")
    stanza = (
        "{name: vacc, opcode: 0xc0, format: vun, dtypes: [fp16], operands: {dst: {role: readwrite}}, "
        "semantics: 'dst = dst + 2 * a', doc: Accumulate.}"
    )
    isa = load_isa_text(text, [f"extension: acc\nversion: '1'\nextends: npu 1.0\ninstructions:\n  - {stanza}\n"])
    memory = GlobalMemory(1 << 20)
    executor = Executor(isa, CHIP, memory, [], 1)
    buffer = executor.cores[0].buffer("ub").view(np.float16)
    buffer[:16], buffer[256:272] = 1, np.arange(16)
    acc = make("vacc", "fp16", dst=0, a=1, rows=0, cols=1)
    words = encode_program(isa, [*sizes(1, 16), desc(0, UB, 0, 32), desc(1, UB, 512, 32), acc, acc, make("halt")])
    stream = next(r for r in Expansions(isa, words, CHIP).core(0) if isinstance(r, Stream))
    pending = [executor.start(0, stream, row) for row in range(2)]
    for item in pending:
        executor.complete(item)
    np.testing.assert_array_equal(buffer[:16], 1 + 4 * np.arange(16))


def test_results_appear_at_completion_and_operands_are_read_at_start() -> None:
    bench = Bench()
    bench.put("ub", 0, np.full((1, 16), 3, dtype=np.float32))
    copy = make("vmov", "fp32", dst=1, a=0, rows=0, cols=1)
    words = encode_program(ISA, [*sizes(1, 16), desc(0, UB, 0, 64), desc(1, UB, 512, 64), copy, make("halt")])
    stream = next(r for r in Expansions(ISA, words, CHIP).core(0) if isinstance(r, Stream))
    pending = bench.executor.start(1, stream, 0)
    assert np.isnan(bench.view("ub", 512, (1, 16), np.float32)).all()
    bench.view("ub", 0, (1, 16), np.float32)[...] = 9
    bench.executor.complete(pending)
    assert (bench.view("ub", 512, (1, 16), np.float32) == 3).all()


def test_empty_tiles_touch_nothing() -> None:
    bench = Bench()
    bad = desc(0, UB, 1 << 40, 64)
    bench.run(*sizes(0, 16), bad, make("vmov", "fp32", dst=0, a=0, rows=0, cols=1))
    bench.run(*sizes(4, 0), bad, make("vsuml", "fp32", dst=0, a=0, rows=0, cols=1))


TOP = CHIP.capacity_bytes("ub")


COPY = make("vmov", "fp32", dst=0, a=0, rows=0, cols=1)
LOAD = make("ld", "fp32", dst=0, src=1, rows=0, cols=1)
STORE = make("st", "fp32", dst=1, src=0, rows=0, cols=1)
TILE = desc(0, UB, 0, 64)


@pytest.mark.parametrize(
    ("where", "insn", "message"),
    [
        (
            [desc(0, UB, 16, 64)],
            COPY,
            "trap alignment: core 1, unit vector, vmov at word 7: operand dst at 0x10 in ub",
        ),
        ([desc(0, UB, 0, 40)], COPY, "with 40 bytes between rows; allowed are multiples of 32"),
        ([desc(0, UB, 0, 32)], COPY, "is written in rows of 40 bytes that are 32 apart"),
        (
            [desc(0, UB, TOP - 128, 64)],
            COPY,
            f"trap buffer_range: core 1, unit vector, vmov at word 7: operand dst is {TOP - 128:#x}",
        ),
        (
            [TILE, desc(1, GM, 65536 - 80, 40)],
            LOAD,
            "trap gm_range: core 1, unit load, ld at word 10: operand src is 0xffb0 to 0x10028; "
            "the launch may touch 0x0 to 0x10000",
        ),
        ([TILE, desc(1, GM, 2, 40)], LOAD, "trap alignment: core 1, unit load"),
        ([TILE, desc(1, GM, 0, 42)], STORE, "trap alignment: core 1, unit store"),
    ],
)
def test_traps_name_core_unit_instruction_and_address(where: list[Insn], insn: Insn, message: str) -> None:
    with pytest.raises(DeviceError, match=re.escape(message)):
        Bench().run(*sizes(3, 10), *where, insn)


def test_scalar_loads() -> None:
    bench = Bench([(1024, 8)])
    bench.memory.write(1024, np.array([-5, 7], dtype=np.int32))
    assert [bench.executor.load_scalar(1024, 4), bench.executor.load_scalar(1028, 4)] == [-5, 7]
    with pytest.raises(DeviceError, match=r"trap alignment: scalar load at 0x402"):
        bench.executor.load_scalar(1026, 4)
    with pytest.raises(DeviceError, match=r"trap gm_range: scalar load at 0x408; the launch may touch 0x400 to 0x408"):
        bench.executor.load_scalar(1032, 4)


def test_windows_do_not_join() -> None:
    windows = Windows([(512, 100), (612, 100)])
    assert windows.allows(512, 612)
    assert windows.allows(612, 700)
    assert not windows.allows(600, 620)
    assert not windows.allows(0, 1)
    assert not Windows([]).allows(0, 1)


def test_windows_that_share_bytes_are_one() -> None:
    windows = Windows([(600, 200), (512, 1000), (700, 10), (1500, 100), (3000, 0)])
    assert windows.allows(512, 1600)
    assert not windows.allows(512, 1601)
    assert not windows.allows(511, 600)
    assert windows.end == 3000


def test_global_memory_grows_to_its_capacity() -> None:
    memory = GlobalMemory(1 << 22)
    memory.write(3 << 20, np.arange(4, dtype=np.int32))
    assert memory.read(3 << 20, 16).view(np.int32).tolist() == [0, 1, 2, 3]
    with pytest.raises(DeviceError, match=r"address 0x400003 is past the 4194304 bytes"):
        memory.write((1 << 22) - 12, np.zeros(4, dtype=np.int32))

"""The measured matrix products: tiny versions of every row against numpy, and what full-size programs consist of."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import Any

import numpy as np
import pytest
from benchmarks.validation.builders import Case
from benchmarks.validation.matmul import matmul_case, matmul_pins
from benchmarks.validation.rows import Row, load_rows

from npuvm.hw.config import load_chip
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.launch import capacity_limits
from npuvm.hw.simulator import simulate
from npuvm.isa import Insn, decode_program, load_isa
from npuvm.isa.verifier import verify

ISA = load_isa()
CHIP = load_chip("ascend_910b1")
ROWS = {row.id: row for row in load_rows() if row.kernel == "matmul"}


def params_of(row: Row) -> dict[str, Any]:
    return dict(row.params or {})


def tiny(params: dict[str, Any]) -> dict[str, Any]:
    """The same structure with small tiles, two by two of them (and a rest, where columns are unaligned) for each core."""
    m, n, k = base = (32, 32, 16)
    rows, cols = (min(size, most) for size, most in zip(params["grid"], (1, 2), strict=True))
    rest = 11 if params["single"][1] % params["base"][1] else 0
    single = [2 * m, 2 * n + rest]
    return params | {
        "base": base,
        "single": single,
        "grid": [rows, cols],
        "cores": rows * cols,
        "m": single[0] * rows * params["m_splits"],
        "n": single[1] * cols - (4 if rest else 0),
        "k": 2 * k * max(params["step_ka"], params["step_kb"]),
        "scalar": None,
    }


def words_of(case: Case) -> list[Insn]:
    return [insn for _, insn in decode_program(ISA, case.launches[0].image.words)]


def different() -> list[str]:
    """Rows whose tiny versions differ; the first of those that do not."""
    found = {repr(sorted(tiny(params_of(row)).items())): name for name, row in reversed(ROWS.items())}
    return sorted(found.values())


@pytest.mark.parametrize("name", different())
def test_a_tiny_version_computes_the_product(name: str) -> None:
    params = tiny(params_of(ROWS[name]))
    (launch,) = matmul_case(CHIP, ISA, params).launches
    m, n, k = params["m"], params["n"], params["k"]
    out = np.dtype({"fp16": np.float16, "fp32": np.float32}[params["out"]])
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((m, k)).astype(np.float16), rng.standard_normal((k, n)).astype(np.float16)
    stored = [a, np.ascontiguousarray(b.T) if params["transpose_b"] else b, np.zeros((m, n), dtype=out)]
    memory = GlobalMemory(1 << 26)
    memory.reserve(launch.addresses[-1] + stored[-1].nbytes)
    for address, array in zip(launch.addresses, stored, strict=True):
        memory.write(address, array)
    windows = [(address, array.nbytes) for address, array in zip(launch.addresses, stored, strict=True)]
    verify(ISA, launch.image, capacity_limits(CHIP), argument_bytes=[nbytes for _, nbytes in windows])
    simulate(CHIP, ISA, launch.image, memory=memory, addresses=launch.addresses, windows=windows)
    got = memory.read(launch.addresses[2], m * n * out.itemsize).view(out).reshape(m, n)
    want = a.astype(np.float64) @ b.astype(np.float64)
    limit = 2.0**-10 * np.abs(want) + k * 2.0**-20
    assert (np.abs(got - want) <= limit).all()


@pytest.mark.parametrize("name", ["matmul-910b1-2", pytest.param("matmul-910b1-8", marks=pytest.mark.slow)])
def test_full_size_programs_are_legal(name: str) -> None:
    case = matmul_case(CHIP, ISA, params_of(ROWS[name]))
    verify(ISA, case.launches[0].image, capacity_limits(CHIP))


@pytest.mark.parametrize(
    ("name", "tiles"),
    [
        ("matmul-910b1-0", {128 * 128: 1}),
        ("matmul-910b1-2", {32 * 3: 24}),
        # Five columns of cores have 6 tiles of 256 columns, the last one has 2.
        ("matmul-910b1-3", {16 * 6: 20, 16 * 2: 4}),
        ("matmul-910b1-8", {2 * 8 * 6: 20, 2 * 8 * 2: 4}),
        ("matmul-a3-1536", {3: 24}),
    ],
)
def test_tiles_of_each_core(name: str, tiles: dict[int, int]) -> None:
    image = matmul_case(CHIP, ISA, params_of(ROWS[name])).launches[0].image
    assert Counter(sum(stop - start for start, stop in entry.ranges) for entry in image.entries) == tiles


@pytest.mark.parametrize("name", ROWS)
def test_loads_and_buffers_are_those_of_the_row(name: str) -> None:
    """One load of A and one of B for every step_k base blocks, into as many slots as L1 holds of such loads."""
    params = params_of(ROWS[name])
    m, n, k = params["base"]
    pins = matmul_pins(params)
    assert pins.l1_k == {"a": k * params["step_ka"], "b": k * params["step_kb"]}
    base = {"a": m * k, "b": n * k}
    for operand in ("a", "b"):
        held = pins.ring_depth[f"l1.{operand}"] * pins.l1_k[operand] // k
        assert held == params[f"depth_{operand}"]
        assert prod((m, pins.l1_k["a"])) * 2 <= 512 * 1024
    assert sum(base[each] * params[f"depth_{each}"] * 2 for each in base) <= 512 * 1024


def test_the_unit_flag_takes_the_accumulators_apart() -> None:
    plain, flagged = (
        Counter(insn.op for insn in words_of(matmul_case(CHIP, ISA, params_of(ROWS[name]))))
        for name in ("matmul-910b1-7", "matmul-910b1-8")
    )
    assert (plain["fix"], flagged["fix"]) == (2, 16), "two products: whole parts and those that are left over"

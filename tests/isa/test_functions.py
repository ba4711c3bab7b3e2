from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from npuvm.isa.errors import IsaError
from npuvm.isa.functions import FUNCTIONS, tile_function
from npuvm.isa.load import load_isa

ISA = load_isa()
RNG = np.random.default_rng(7)


def test_the_isa_names_only_functions_that_exist() -> None:
    assert {i.function for i in ISA.instructions.values() if i.function} == set(FUNCTIONS)


def test_unknown_function_lists_the_known() -> None:
    with pytest.raises(IsaError, match=r"no function 'conv'; there are: atomic_add_tile, copy_tile"):
        tile_function("conv")


def test_copy_and_transpose() -> None:
    src = np.arange(6, dtype=np.float16).reshape(2, 3)
    same = tile_function("copy_tile")({"src": src}, {}, ISA.dtypes["fp16"])
    np.testing.assert_array_equal(same, src)
    turned = tile_function("transpose_tile")({"src": src}, {}, ISA.dtypes["fp16"])
    np.testing.assert_array_equal(turned, src.T)
    wide = tile_function("copy_tile")({"src": src}, {}, ISA.dtypes["fp32"])
    assert wide.dtype == np.float32


@pytest.mark.parametrize("name", ["fp16", "bf16", "fp32", "fp8_e4m3"])
def test_products_of_floats(name: str) -> None:
    kind = ISA.dtypes[name].numpy
    a, b = RNG.standard_normal((5, 9)).astype(kind), RNG.standard_normal((9, 4)).astype(kind)
    old = RNG.standard_normal((5, 4)).astype(np.float32)
    exact = np.array([[sum(float(x) * float(y) for x, y in zip(row, col, strict=True)) for col in b.T] for row in a])
    tiles = {"a": a, "b": b, "dst": old}
    out = ISA.dtypes["fp32"]
    result = tile_function("matmul")(tiles, {}, out)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, exact, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(tile_function("matmul_accumulate")(tiles, {}, out), old + exact, rtol=1e-6, atol=1e-6)


def test_products_of_int8_are_exact_and_wrap() -> None:
    a = RNG.integers(-128, 128, (3, 70), dtype=np.int8)
    b = RNG.integers(-128, 128, (70, 2), dtype=np.int8)
    old = np.full((3, 2), 2**31 - 1, dtype=np.int32)
    exact = a.astype(np.int64) @ b.astype(np.int64)
    out = ISA.dtypes["int32"]
    np.testing.assert_array_equal(tile_function("matmul")({"a": a, "b": b}, {}, out), exact)
    wrapped = (old + exact + 2**31) % 2**32 - 2**31
    np.testing.assert_array_equal(tile_function("matmul_accumulate")({"a": a, "b": b, "dst": old}, {}, out), wrapped)


def test_fixpipe_casts_and_activates() -> None:
    fix = tile_function("fixpipe_tile")
    src = np.array([[-2.5, 0.1, 300.7, np.nan]], dtype=np.float32)
    assert fix({"src": src[:, :3]}, {"act": 1}, ISA.dtypes["fp16"]).tolist() == [
        [0.0, float(np.float16(0.1)), float(np.float16(300.7))]
    ]
    assert fix({"src": src}, {"act": 0}, ISA.dtypes["int8"]).tolist() == [[-2, 0, 127, 0]]
    sums = np.array([[-1000, 5, 1000]], dtype=np.int32)
    assert fix({"src": sums}, {}, ISA.dtypes["int8"]).tolist() == [[-128, 5, 127]]
    assert fix({"src": sums}, {"act": 1}, ISA.dtypes["int32"]).tolist() == [[0, 5, 1000]]


def test_atomic_adds_round_once() -> None:
    fp16 = ISA.dtypes["fp16"]
    old = np.array([[2048.0, 1.0]], dtype=np.float16)
    # 2048 + 1.5 = 2049.5 lies between 2048 and 2050; an addend rounded to fp16 first would give the same, so use one that
    # would not: 1.00048828125 is a tie in fp16 and goes down to 1.0.
    addend = np.array([[1.5, 0.00048828125]], dtype=np.float32)
    result = tile_function("fixpipe_add_tile")({"dst": old, "src": addend}, {}, fp16)
    assert result.dtype == np.float16
    assert result.tolist() == [[2050.0, 1.0]]
    top = np.array([[2**31 - 1]], dtype=np.int32)
    one = np.array([[1]], dtype=np.int32)
    assert tile_function("atomic_add_tile")({"dst": top, "src": one}, {}, ISA.dtypes["int32"]).tolist() == [[-(2**31)]]


def test_rows_are_gathered_by_index() -> None:
    table = np.arange(12, dtype=np.float16).reshape(4, 3)
    index = np.array([[3], [0], [3]], dtype=np.int32)
    found = tile_function("gather_rows")({"src": table, "index": index}, {}, ISA.dtypes["fp16"])
    assert found.tolist() == [[9, 10, 11], [0, 1, 2], [9, 10, 11]]


def test_of_rows_scattered_to_one_place_the_last_counts() -> None:
    table = np.zeros((4, 2), dtype=np.int8)
    tiles: dict[str, npt.NDArray[Any]] = {
        "dst": table,
        "src": np.array([[1, 2], [3, 4], [5, 6]], dtype=np.int8),
        "index": np.array([[2], [0], [2]], dtype=np.int32),
    }
    found = tile_function("scatter_rows")(tiles, {}, ISA.dtypes["int8"])
    assert found.tolist() == [[3, 4], [0, 0], [5, 6], [0, 0]]
    assert not table.any()


def test_rows_added_to_one_place_add_up_one_after_the_other() -> None:
    """In fp16, where 2048 + 1 rounds back to 2048, order and rounding show: a sum of the addends first would be 2050."""
    tiles: dict[str, npt.NDArray[Any]] = {
        "dst": np.array([[2048.0], [1.0]], dtype=np.float16),
        "src": np.array([[1.0], [0.5], [1.0]], dtype=np.float16),
        "index": np.array([[0], [1], [0]], dtype=np.int32),
    }
    assert tile_function("scatter_add_rows")(tiles, {}, ISA.dtypes["fp16"]).tolist() == [[2048.0], [1.5]]
    rng = np.random.default_rng(4)
    tiles = {
        "dst": rng.integers(-(2**31), 2**31, (7, 5)).astype(np.int32),
        "src": rng.integers(-(2**31), 2**31, (40, 5)).astype(np.int32),
        "index": rng.integers(0, 7, (40, 1)).astype(np.int32),
    }
    expected = tiles["dst"].copy()
    for row, at in enumerate(tiles["index"][:, 0]):
        expected[at] += tiles["src"][row]
    np.testing.assert_array_equal(tile_function("scatter_add_rows")(tiles, {}, ISA.dtypes["int32"]), expected)


def test_convolution_windows_of_an_image() -> None:
    """An image of 3 x 4 pixels with 2 channels, 3 elements apart: windows by hand, and zeros beyond the image."""
    image = np.arange(36, dtype=np.float16).reshape(3, 12)
    plain = {"rows": 6, "cols": 8, "start": 1, "width": 3, "apart": 3, "channels": 2, "kernel_w": 2}
    plain |= {"stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1}
    found = tile_function("im2col_tile")({"src": image}, plain, ISA.dtypes["fp16"])
    assert found[0].tolist() == [0, 1, 3, 4, 12, 13, 15, 16]
    assert found[4].tolist() == [15, 16, 18, 19, 27, 28, 30, 31]
    far = plain | {"start": 4, "cols": 3, "stride_h": 2, "stride_w": 2, "dilation_w": 2}
    found = tile_function("im2col_tile")({"src": image}, far, ISA.dtypes["fp16"])
    assert found[0].tolist() == [7, 12, 13]
    assert found[1].tolist() == [0, 18, 19]
    assert found[3].tolist() == [31, 0, 0]
    turned = tile_function("im2col_transposed_tile")({"src": image}, plain | {"rows": 8, "cols": 6}, ISA.dtypes["fp16"])
    assert turned[:, 4].tolist() == [15, 16, 18, 19, 27, 28, 30, 31]


def test_convolution_windows_of_planes() -> None:
    """Two channels of 3 x 4 pixels, one column of zeros before them: windows by hand."""
    image = np.arange(1, 25, dtype=np.float16).reshape(2, 12)
    plain = {
        "rows": 8,
        "cols": 8,
        "start": 1,
        "width": 4,
        "apart": 4,
        "kernel_h": 2,
        "kernel_w": 2,
        "left": 1,
        "layout": 1,
    }
    plain |= {"stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1}
    found = tile_function("im2col_tile")({"src": image}, plain, ISA.dtypes["fp16"])
    assert found[0].tolist() == [0, 1, 0, 5, 0, 13, 0, 17]
    assert found[6].tolist() == [6, 7, 10, 11, 18, 19, 22, 23]
    part = tile_function("im2col_tile")({"src": image}, plain | {"start": 4, "cols": 3}, ISA.dtypes["fp16"])
    assert part[6].tolist() == [11, 18, 19]

"""ONNX's tests of operators through a session on the simulated device: none is wrong, and most run wholly on the device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from benchmarks.onnx_nodes import NodeTest, Outcome, difference, node_tests, prepared, run_test, share
from onnx import helper

from npuvm.hw.config import load_chip

SHARE = 0.87
"""Of the tests that are applicable; benchmarks/onnx_nodes.py prints it, by operator."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Expected values, and operators on the host, divide by zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _test(name: str) -> NodeTest:
    return next(each for each in node_tests() if each.name == name)


ON_DEVICE = (
    "test_add_bcast", "test_add_uint8", "test_attention_3d_gqa_with_past_and_present",
    "test_attention_4d_attn_mask_3d_causal", "test_batchnorm_example", "test_cast_FLOAT_to_FLOAT4E2M1",
    "test_cast_FLOAT_to_FLOAT8E4M3FNUZ", "test_cast_FLOAT_to_INT4", "test_clip_default_int8_min", "test_cos",
    "test_depthtospace_example", "test_div_int16", "test_gemm_all_attributes", "test_group_normalization_example",
    "test_hardmax_one_hot", "test_layer_normalization_4d_axis1", "test_logsoftmax_large_number", "test_matmulinteger",
    "test_mod_mixed_sign_int8", "test_nllloss_NCd1d2_with_weight_reduction_mean", "test_qlinearmatmul_2D_uint8_float32",
    "test_reduce_log_sum_exp_empty_set", "test_reduce_max_bool_inputs", "test_reflect_pad", "test_rotary_embedding",
    "test_sce_mean_weight_ii_3d", "test_slice_negative_axes", "test_softmax_axis_0", "test_split_variable_parts_2d_opset18",
    "test_transpose_all_permutations_3", "test_where_long_example",
)  # fmt: skip


@pytest.mark.parametrize("name", ON_DEVICE)
def test_an_operator_runs_on_the_device(name: str) -> None:
    assert run_test(_test(name), load_chip("edge")).outcome == "device"


def test_an_operator_of_float64_runs_on_the_host_and_says_why() -> None:
    outcome = run_test(_test("test_einsum_batch_matmul"), load_chip("edge"))
    assert outcome.outcome == "host"
    assert outcome.reasons == ("Einsum: Einsum of float64 is not computed on the device",)


@pytest.mark.parametrize("name", ["test_attention_4d_gqa", "test_gemm_default_matrix_bias", "test_softmax_axis_1"])
def test_an_operator_runs_on_the_device_when_its_sizes_are_symbols(name: str) -> None:
    assert run_test(_test(name), load_chip("edge"), symbolic=True).outcome == "device"


def test_parameters_become_initializers_and_dims_symbols() -> None:
    model, feeds = prepared(_test("test_slice"), symbolic=True)
    assert list(feeds) == ["x"]
    assert {each.name for each in model.graph.initializer} == {"starts", "ends", "axes", "steps"}
    assert [dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim] == ["x_0", "x_1", "x_2"]


def test_a_wrong_output_is_told() -> None:
    ones = np.ones(3, np.float32)
    assert difference(ones, ones, 1e-3, 1e-7) is None
    assert difference(ones, ones.astype(np.float16), 1e-3, 1e-7) == "float32[3] instead of float16[3]"
    assert difference(ones, np.array([1, 2, 1], np.float32), 1e-3, 1e-7) == "1 of 3 elements, 1.0 instead of 2.0"
    test = NodeTest("test_neg_wrong", _negation(), [ones], [ones], 1e-3, 1e-7)
    outcome = run_test(test, load_chip("edge"))
    assert outcome == Outcome("test_neg_wrong", "Neg", "wrong", ("y: 3 of 3 elements, -1.0 instead of 1.0",))


def _negation() -> onnx.ModelProto:
    kind = onnx.TensorProto.FLOAT
    given, made = (helper.make_tensor_value_info(name, kind, [3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negation", [given], [made])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


@pytest.mark.slow
def test_no_test_of_an_operator_is_wrong_and_most_run_wholly_on_the_device() -> None:
    chip = load_chip("ascend_910b1")
    outcomes = [run_test(each, chip) for each in node_tests()]
    assert [each for each in outcomes if each.outcome in ("wrong", "error")] == []
    on_device, applicable = share(outcomes)
    assert on_device >= SHARE * applicable

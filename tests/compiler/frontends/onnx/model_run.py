"""Runs a model step by step, its regions in the interpreter or on a chip, and compares it with onnxruntime."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.backend.test.case import node
from onnx.backend.test.case.test_case import TestCase
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplementedByRuntime

from npuvm.compiler import DTYPES
from npuvm.compiler.frontends.onnx import import_model
from npuvm.compiler.graph.carriers import CARRIERS
from npuvm.compiler.graph.model import SIZES, DeviceStep, HostStep, Model, ScanStep, SizesStep
from npuvm.compiler.interpreter.interpret import interpret
from npuvm.compiler.language.kernel import Kernel
from npuvm.runtime import Device

__all__ = ["Array", "Given", "check", "node_case", "node_cases", "one_node", "run_model", "same", "the_device"]

Array = npt.NDArray[Any]
Given = Array | tuple[str, Sequence[int | str]]


def one_node(
    op: str,
    inputs: Mapping[str, Given],
    outputs: Sequence[str] = ("y",),
    opset: int = 21,
    order: Sequence[str] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one operator: arrays are constants, `(dtype, dims)` inputs. `order` names inputs, "" those left out."""
    made_node = helper.make_node(op, list(order or inputs), list(outputs), name=op, **attributes)
    constants = [numpy_helper.from_array(each, name) for name, each in inputs.items() if isinstance(each, np.ndarray)]
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(each[0])), list(each[1]))
        for name, each in inputs.items()
        if not isinstance(each, np.ndarray)
    ]
    results = [onnx.ValueInfoProto(name=name) for name in outputs if name]
    graph = helper.make_graph([made_node], op, given, results, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(made)
    return made if any(not each.type.WhichOneof("value") for each in inferred.graph.output) else inferred


def run_model(model: Model, feeds: Mapping[str, Array], device: Device | None = None) -> dict[str, Array]:
    """Outputs by name. Regions are computed by the interpreter, or on a device; what is for the host by onnxruntime."""
    values: dict[str, Array] = {**model.constants, **{name: np.asarray(feeds[name]) for name in model.inputs}}
    for name, (least, largest) in model.taken.items():
        assert values[name].min(initial=0) >= least and values[name].max(initial=0) <= largest, name
    binding: dict[str, int] = {}
    for name in model.inputs:
        _bind(model, name, values[name], binding)
    _derive(model, binding)
    for step in model.steps:
        match step:
            case SizesStep():
                numbers = [each.value(binding) for each in step.sizes]
                values[step.output] = np.array(numbers, model.values[step.output].dtype).reshape(step.shape)
            case DeviceStep():
                values |= _region(model, step, values, binding, device)
            case HostStep():
                values |= _host(step, values)
                for name in filter(None, step.outputs):
                    _bind(model, name, values[name], binding)
                _derive(model, binding)
            case ScanStep():
                values |= _scan(step, values, device)
            case _:
                raise AssertionError(f"no meaning for {type(step).__name__}")
    assert all(each.holds(binding) for each in model.guards), "a guard does not hold"
    return {name: values[source] for name, source in model.outputs.items()}


def _bind(model: Model, name: str, array: Array, binding: dict[str, int]) -> None:
    kind = model.values[name]
    assert not kind.dtype or str(array.dtype) == kind.dtype, (name, array.dtype, kind)
    if kind.shape is None:
        return
    assert array.ndim == len(kind.shape), (name, array.shape, kind)
    for dim, size in zip(kind.shape, array.shape, strict=True):
        if isinstance(dim, str):
            assert binding.setdefault(dim, size) == size, (name, dim, binding[dim], size)
        else:
            assert dim == size, (name, array.shape, kind)


def _derive(model: Model, binding: dict[str, int]) -> None:
    for each in model.derived:
        try:
            binding[each.name] = each.value(binding)
        except KeyError:  # it follows from sizes that the host makes later
            continue


def _region(
    model: Model, step: DeviceStep, values: Mapping[str, Array], binding: Mapping[str, int], device: Device | None
) -> dict[str, Array]:
    feeds: dict[str, Array] = {}
    for param in step.graph.params:
        if param.name == SIZES:
            dims = [binding[each] if isinstance(each, str) else each for each in param.type.shape]
            feeds[SIZES] = np.broadcast_to(np.int8(0), dims)
        else:
            feeds[param.name] = _carried(values[step.inputs[param.name]])
    made = interpret(step.graph, feeds) if device is None else _on(device, step, feeds)
    found = {}
    for output, name in step.outputs.items():
        kind = model.values[name]
        assert kind.shape is not None
        shape = tuple(binding[each] if isinstance(each, str) else each for each in kind.shape)
        assert made[output].shape == shape, (name, made[output].shape, kind)
        assert made[output].dtype == DTYPES[CARRIERS[kind.dtype]].numpy, (name, made[output].dtype, kind)
        found[name] = made[output].astype(np.dtype(kind.dtype))
        if found[name].dtype != made[output].dtype:
            assert np.array_equal(found[name].astype(made[output].dtype), made[output])
    return found


def _carried(array: Array) -> Array:
    carrier = DTYPES[CARRIERS[str(array.dtype)]].numpy
    if array.dtype.kind in "iu" and array.size:
        assert np.iinfo(carrier).min <= array.min() and array.max() <= np.iinfo(carrier).max
    return array.astype(carrier)


def _on(device: Device, step: DeviceStep, feeds: Mapping[str, Array]) -> dict[str, Array]:
    made = device.run(Kernel(step.graph), {name: device.tensor(np.array(each)) for name, each in feeds.items()})
    return {name: device.read(each) for name, each in made.items()}


def _host(step: HostStep, values: Mapping[str, Array]) -> dict[str, Array]:
    feeds = {f"i{at}": values[name] for at, name in enumerate(step.inputs) if name}
    proto = onnx.load_from_string(step.node)
    proto.ir_version = 10  # onnxruntime knows none of the newest
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        made = session.run(None, feeds)
    except (Fail, NotImplementedByRuntime):
        made = ReferenceEvaluator(proto).run(None, feeds)
    return dict(zip(filter(None, step.outputs), map(np.asarray, made), strict=True))


def _scan(step: ScanStep, values: Mapping[str, Array], device: Device | None) -> dict[str, Array]:
    carried = [values[name] for name in step.carried]
    captured = {inner: values[outer] for inner, outer in step.captured.items()}
    trips = values[step.scanned[0]].shape[step.axes[0]]
    collected: list[list[Array]] = [[] for _ in step.out_axes]
    for trip in range(trips):
        slices = [
            np.take(values[name], trips - 1 - trip if backward else trip, axis)
            for name, axis, backward in zip(step.scanned, step.axes, step.directions, strict=True)
        ]
        feeds = dict(zip(step.body.inputs, [*carried, *slices], strict=False)) | captured
        made = list(run_model(step.body, feeds, device).values())
        carried = made[: len(carried)]
        for kept, each in zip(collected, made[len(carried) :], strict=True):
            kept.append(each)
    ordered = [each[::-1] if backward else each for each, backward in zip(collected, step.out_directions, strict=True)]
    stacked = [np.stack(each, axis) for each, axis in zip(ordered, step.out_axes, strict=True)]
    return dict(zip(step.outputs, [*carried, *stacked], strict=True))


@cache
def the_device(chip: str) -> Device:
    """A chip for many models."""
    return Device(chip)


def check(
    proto: onnx.ModelProto,
    feeds: Mapping[str, Array],
    *,
    host: Sequence[str] = (),
    expected: Sequence[Array] | None = None,
    chip: str | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> dict[str, Array]:
    """Import, run and compare with onnxruntime, or `expected`. `host` are the operators that may, and must, stay there."""
    model = import_model(proto)
    assert sorted(each.op for each in model.host_steps()) == sorted(host), [
        (each.op, each.reason) for each in model.host_steps()
    ]
    outputs = run_model(model, feeds, the_device(chip) if chip else None)
    if expected is None:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        expected = session.run(None, dict(feeds))
    for (name, found), wanted in zip(outputs.items(), expected, strict=True):
        same(name, found, np.asarray(wanted), rtol, atol)
    return outputs


def same(name: str, found: Array, wanted: Array, rtol: float, atol: float) -> None:
    """Same dtype, shape and elements; those of integers and bools exactly."""
    assert found.dtype == wanted.dtype, (name, found.dtype, wanted.dtype)
    assert found.shape == wanted.shape, (name, found.shape, wanted.shape)
    if wanted.dtype.kind in "iub":
        np.testing.assert_array_equal(found, wanted, err_msg=name)
    else:
        np.testing.assert_allclose(found.astype(np.float64), wanted.astype(np.float64), rtol, atol, err_msg=name)


@cache
def _module_cases(op: str) -> tuple[TestCase, ...]:
    """The cases that one of ONNX's modules for nodes has: all modules at once take seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some compute infinities on their way
        names = {each.name.replace("_", ""): each.name for each in iter_modules(node.__path__)}
        import_module(f"{node.__name__}.{names[op.lower()]}")
    return tuple(node._NodeTestCases)


def node_cases(*ops: str) -> list[str]:
    """Names of the cases in ONNX's data for nodes that have one node, of these types."""
    return sorted({case.name for op in ops for case in _module_cases(op) if _only(case) == op})


def _only(case: TestCase) -> str:
    assert case.model is not None
    nodes = case.model.graph.node
    return nodes[0].op_type if len(nodes) == 1 and not nodes[0].domain else ""


def node_case(name: str, constants: Sequence[str] = ()) -> tuple[onnx.ModelProto, dict[str, Array], list[Array]]:
    """The model of a case with names for its inputs' dims that are not 1, what to feed it, and what it gives.

    Inputs named in `constants` are constants of the model.
    """
    case = next(each for each in node._NodeTestCases if each.name == name)
    given, expected = case.data_sets[0]
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    feeds = {info.name: _array(each) for info, each in zip(proto.graph.input, given, strict=True)}
    kept = [info for info in proto.graph.input if info.name not in constants]
    proto.graph.initializer.extend(numpy_helper.from_array(feeds.pop(name), name) for name in constants)
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    for info in proto.graph.input:
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            if dim.dim_value != 1:
                dim.dim_param = f"{info.name}_{axis}"
    return proto, feeds, [_array(each) for each in expected]


def _array(given: Any) -> Array:
    return numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else np.asarray(given)

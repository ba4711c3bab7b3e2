"""Which of the onnx package's tests of single operators run on the device: all of them, through a session.

    python benchmarks/onnx_nodes.py [--chip ascend_910b1] [--only test_reduce]... [--symbolic] [--verbose] [--json FILE]

Each test is a model of one operator, or of the operators that define one, with inputs and outputs. It runs at the session's
interface on the simulated device, on data (engine "functional": without time). Inputs that say a shape, axes or a count
(`PARAMETERS`) are made initializers, as exporters write them; all others are tensors. With `--symbolic` every dim of the
other inputs is a symbol of its own when the model is read.

A test is one of:

* device: every operator ran on the device;
* folded: nothing was left to run, the results follow from constants and sizes;
* host: the outputs are right, and some operators ran on the host; the table says which and why;
* wrong, error: wrong outputs, and what was raised;
* not applicable: text, sequences and optional values, random numbers, training, files of images, Scan of operator set 8.

The share is (device + folded) / all that are applicable. Numbers are compared with the tolerance of the test, at least two
units in the last place of fp16 and bf16, whose expected values are rounded after every operation, and a millionth of the
largest expected number. Outputs that equal onnxruntime's for the whole model are right too; the tables name these tests.
The exit code is 1 when an output is wrong or a test raises an error.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from npuvm.compiler.graph.model import DeviceStep, HostStep, IfStep, LoopStep, Model, ScanStep
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.runtime.session import Session

Array = npt.NDArray[Any]

_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")

PARAMETERS: Mapping[str, tuple[int, ...]] = {
    **{f"Reduce{name}": (1,) for name in _REDUCTIONS},
    **dict.fromkeys(("AffineGrid", "CenterCropPad", "CumProd", "CumSum", "Expand", "OneHot", "Reshape", "Split"), (1,)),
    **dict.fromkeys(("Squeeze", "Tile", "TopK", "Trilu", "Unsqueeze", "Upsample"), (1,)),
    **dict.fromkeys(("BlackmanWindow", "ConstantOfShape", "HammingWindow", "HannWindow"), (0,)),
    "Col2Im": (1, 2),
    "DFT": (1, 2),
    "Dropout": (1, 2),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
}
"""Inputs of operators that say what the operator is, by their numbers."""

RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
TRAINING = {"Adagrad", "Adam", "Gradient", "Momentum"}

AS_ONNXRUNTIME = "as onnxruntime, not as the test expects"

OUTCOMES = ("device", "folded", "host", "wrong", "error", "not applicable")


@dataclass(frozen=True)
class NodeTest:
    """A test of the onnx package: a model, its inputs and expected outputs in their order, and tolerances."""

    name: str
    model: onnx.ModelProto
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    rtol: float
    atol: float

    @property
    def operator(self) -> str:
        """The operator that it is a test of: the only one of the model, or the one whose definition the model is."""
        types = list(dict.fromkeys(node.op_type for node in self.model.graph.node))
        if "_expanded" not in self.name and len(self.model.graph.node) < 3:
            return str(types[-1])
        return f"{types[0]}, ..." if "_expanded" not in self.name else f"{_expanded_of(self)} (expanded)"


@dataclass(frozen=True)
class Outcome:
    """What came of a test; `reasons` are those of operators on the host, or what is wrong."""

    test: str
    operator: str
    outcome: str
    reasons: tuple[str, ...] = ()


@cache
def node_tests() -> tuple[NodeTest, ...]:
    """All tests of single operators of the onnx package, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the computation of expected values
        from onnx.backend.test.loader import load_model_tests

        cases = load_model_tests(kind="node")
    found = []
    for case in cases:
        if case.model is not None and case.data_sets:
            given, wanted = ([_array(each) for each in part] for part in case.data_sets[0])
            found.append(NodeTest(case.name, case.model, given, wanted, case.rtol, case.atol))
    return tuple(sorted(found, key=lambda each: each.name))


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _expanded_of(test: NodeTest) -> str:
    """The operator that an expanded model defines: names of its inner values begin with it."""
    for node in test.model.graph.node:
        for name in (*node.output, *node.input):
            if "_test_" in name:
                return str(name).partition("_test_")[0]
    return str(test.model.graph.node[-1].op_type)


def excluded(test: NodeTest) -> str | None:
    """Why a test is not applicable; None if it is."""
    kinds = [*test.model.graph.input, *test.model.graph.output]
    if any(each.type.WhichOneof("value") != "tensor_type" for each in kinds):
        return "sequences and optional values"
    if any(each.type.tensor_type.elem_type == onnx.TensorProto.STRING for each in kinds):
        return "text"
    types = {node.op_type for node in test.model.graph.node} | {test.operator.removesuffix(" (expanded)")}
    if types & RANDOM or ("Dropout" in types and "training" in test.name and "zero_ratio" not in test.name):
        return "random numbers"
    if "Scan" in types and test.model.opset_import[0].version < 9:
        return "Scan of operator set 8"
    if types & TRAINING:
        return "training"
    if "ImageDecoder" in types:
        return "files of images"
    return "sequences and optional values" if any(each.startswith(("Sequence", "Optional")) for each in types) else None


def prepared(test: NodeTest, symbolic: bool = False) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model with its parameters as initializers, and the other inputs by name."""
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    names = {
        node.input[at]
        for node in model.graph.node
        for at in PARAMETERS.get(node.op_type, ())
        if at < len(node.input) and node.input[at]
    }
    if test.name.partition("_expanded")[1]:  # inputs are those of the operator, in their order
        given = [each.name for each in model.graph.input]
        names.update(given[at] for at in PARAMETERS.get(_expanded_of(test), ()) if at < len(given))
    feeds: dict[str, Array] = {}
    for info, array in zip(list(model.graph.input), test.inputs, strict=True):
        if info.name in names:
            model.graph.initializer.append(numpy_helper.from_array(array, info.name))
            model.graph.input.remove(info)
        else:
            feeds[info.name] = array
    if symbolic:
        for info in model.graph.input:
            for axis, dim in enumerate(info.type.tensor_type.shape.dim):
                if dim.dim_value > 1:
                    dim.dim_param = f"{info.name}_{axis}"
        del model.graph.value_info[:]
    return model, feeds


def difference(found: Array, wanted: Array, rtol: float, atol: float) -> str | None:
    """What is wrong with an output; None when it is right."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return f"{found.dtype}{list(found.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
    if wanted.dtype.kind in "iub":
        right = found == wanted
    else:
        rtol = max(rtol, {"float16": 2.0**-9, "bfloat16": 2.0**-6}.get(str(wanted.dtype), 0.0))
        wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
        found_wide, wanted_wide = found.astype(wide), wanted.astype(wide)
        largest = np.abs(wanted_wide[np.isfinite(wanted_wide)]).max(initial=0.0)
        right = np.isclose(found_wide, wanted_wide, rtol=rtol, atol=max(atol, 1e-6 * largest), equal_nan=True)
    if np.all(right):
        return None
    wrong = ~np.atleast_1d(right)
    first = np.atleast_1d(found)[wrong][0], np.atleast_1d(wanted)[wrong][0]
    return f"{int(wrong.sum())} of {wanted.size} elements, {first[0]} instead of {first[1]}"


def run_test(test: NodeTest, chip: NpuConfig, symbolic: bool = False) -> Outcome:
    """Run a test on the simulated device, and judge its outputs."""
    why = excluded(test)
    if why is not None:
        return Outcome(test.name, test.operator, "not applicable", (why,))
    model, feeds = prepared(test, symbolic)
    try:
        session = Session(model, chip, engine="functional")
        outputs = session.run(feeds)
    except Exception as error:  # noqa: BLE001 (whatever is raised is this test's outcome)
        return Outcome(test.name, test.operator, "error", (f"{type(error).__name__}: {error}",))
    wrong, notes = _wrong(test, outputs, test.outputs), list[str]()
    if wrong:
        wrong = _wrong(test, outputs, _of_onnxruntime(model, feeds) or test.outputs)
        notes.append(AS_ONNXRUNTIME)
    if wrong:
        return Outcome(test.name, test.operator, "wrong", (wrong,))
    if left := session.model.host_steps():
        reasons = dict.fromkeys(f"{each.op}: {each.reason}" for each in left)
        return Outcome(test.name, test.operator, "host", (*reasons, *notes))
    return Outcome(test.name, test.operator, "device" if any(_launches(session.model)) else "folded", tuple(notes))


def _wrong(test: NodeTest, outputs: Mapping[str, Array], wanted: Sequence[Any]) -> str | None:
    """What is wrong with the first output that is not as wanted."""
    for (name, found), each in zip(outputs.items(), wanted, strict=False):
        if isinstance(each, np.ndarray) and (wrong := difference(found, each, test.rtol, test.atol)) is not None:
            return f"{name}: {wrong}"
    return None


def _of_onnxruntime(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Any] | None:
    """Outputs of onnxruntime; None where it is not there, or cannot run the model."""
    try:
        import onnxruntime

        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return list(session.run(None, dict(feeds)))
    except Exception:  # noqa: BLE001 (then there is nothing to compare with)
        return None


def _launches(model: Model) -> Iterator[DeviceStep]:
    for step in model.steps:
        if isinstance(step, DeviceStep):
            yield step
        elif isinstance(step, IfStep):
            yield from (*_launches(step.then_body), *_launches(step.else_body))
        elif isinstance(step, LoopStep | ScanStep):
            yield from _launches(step.body)
        else:
            assert not isinstance(step, HostStep)


def share(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    """How many tests ran wholly on the device, and how many are applicable."""
    count = Counter(each.outcome for each in outcomes)
    return count["device"] + count["folded"], len(outcomes) - count["not applicable"]


def print_tables(outcomes: Sequence[Outcome], verbose: bool) -> None:
    """Outcomes by operator, then reasons by how many tests they keep from the device."""
    by_operator: dict[str, Counter[str]] = defaultdict(Counter)
    for each in outcomes:
        by_operator[each.operator][each.outcome] += 1
    print(f"{'operator':34}" + "".join(f"{each:>16}" for each in OUTCOMES))
    for operator, count in sorted(by_operator.items()):
        print(f"{operator:34}" + "".join(f"{count[each] or '':>16}" for each in OUTCOMES))
    total = Counter(each.outcome for each in outcomes)
    print(f"{'all':34}" + "".join(f"{total[each]:>16}" for each in OUTCOMES))
    for outcome in ("host", "not applicable"):
        listed = [
            {re.sub(r" ?\(?'[^']*'\)?", "", reason) for reason in each.reasons}
            for each in outcomes
            if each.outcome == outcome
        ]
        reasons = Counter(reason for each in listed for reason in each)
        print(f"\n{outcome}, tests by reason:")
        for reason, number in reasons.most_common(None if verbose else 40):
            print(f"{number:6}  {reason[:150]}")
    for each in outcomes:
        if each.outcome in ("wrong", "error") or (verbose and each.outcome == "host"):
            print(f"{each.outcome}: {each.test} ({each.operator}): {'; '.join(each.reasons)[:300]}")
        elif AS_ONNXRUNTIME in each.reasons:
            print(f"{each.outcome}: {each.test} ({each.operator}): {AS_ONNXRUNTIME}")
    on_device, applicable = share(outcomes)
    part = f" ({100 * on_device / applicable:.1f} %)" if applicable else ""
    print(f"\nwholly on the device: {on_device} of {applicable} applicable tests{part}")


def main() -> int:
    """Run the tests, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", default="ascend_910b1")
    parser.add_argument("--only", action="append", help="tests whose name contains this")
    parser.add_argument(
        "--symbolic", action="store_true", help="every dim of an input is a symbol when the model is read"
    )
    parser.add_argument("--verbose", action="store_true", help="list every test with operators on the host")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chip, begin = load_chip(options.chip), time.perf_counter()
    tests = [each for each in node_tests() if not options.only or any(part in each.name for part in options.only)]
    outcomes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of operators on the host
        for test in tests:
            outcomes.append(run_test(test, chip, options.symbolic))
    print_tables(outcomes, options.verbose)
    print(f"{time.perf_counter() - begin:.0f} s of host time (measured)")
    if options.json is not None:
        on_device, applicable = share(outcomes)
        report = {
            "chip": chip.name,
            "onnx": onnx.__version__,
            "symbolic": options.symbolic,
            "on_device": on_device,
            "applicable": applicable,
            "tests": [asdict(each) for each in outcomes],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any(each.outcome in ("wrong", "error") for each in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())

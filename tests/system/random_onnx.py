"""Runs random ONNX models in a session, and compares each run with onnxruntime's."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator
from tests.compiler.frontends.onnx.random_models import Array, RandomModel

from npuvm.isa.errors import NpuvmError
from npuvm.runtime.session import Session

__all__ = ["ACCEPTED", "Finding", "findings"]

TOLERANCE = 2e-4
"""Of an output's largest magnitude: fp32 in another order, through up to twenty operators."""


ACCEPTED = frozenset({"equal", "refused", "reference", "empty"})
"""The kinds of findings with which nothing is wrong."""


_EMPTY_PART = "Invalid num_outputs value"
"""What onnxruntime says where an axis is split into more parts than it has elements."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a run came to.

    `kind` is "equal"; "refused" by both; "reference" where onnxruntime differs and ONNX's reference agrees; "empty" where
    onnxruntime refuses arrays without elements, or gives them another shape, as ArgMax does; "wrong"; "alone" where only
    npuvm refuses; "lax" where it gives what neither onnxruntime nor ONNX's reference gives.
    """

    seed: int
    kind: str
    sizes: Mapping[str, int]
    text: str = ""

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.kind} at {dict(self.sizes)}: {self.text}"


class _Refused(Exception):
    """No oracle has an answer."""


def _needed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without operators that no output needs, but for those in bodies."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    used, kept = {each.name for each in proto.graph.output}, []
    for node in reversed(proto.graph.node):
        if not used.isdisjoint(node.output):
            used.update(node.input)
            for attribute in node.attribute:
                used.update(name for each in attribute.g.node for name in each.input)
            kept.append(node)
    del made.graph.node[:]
    made.graph.node.extend(kept[::-1])
    return made


def _session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Oracle:
    """onnxruntime, or ONNX's reference where that refuses."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto
        self._session = _session(proto)

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Outputs in order."""
        return self._outputs(self._session, feeds)

    def run_needed(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Outputs in order, without operators that no output needs: onnxruntime runs them, npuvm does not."""
        return self._outputs(_session(_needed(self._proto)), feeds)

    def _outputs(self, session: onnxruntime.InferenceSession, feeds: Mapping[str, Array]) -> list[Array]:
        try:
            return [np.asarray(each) for each in session.run(None, dict(feeds))]
        except Exception as error:  # noqa: BLE001 - onnxruntime has errors of many types
            raise _Refused(str(error)[:200]) from None

    def reference(self, feeds: Mapping[str, Array]) -> list[Array]:
        """What ONNX's reference gives."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return [np.asarray(each) for each in ReferenceEvaluator(self._proto).run(None, dict(feeds))]
        except Exception as error:  # noqa: BLE001
            raise _Refused(str(error)[:200]) from None


def findings(model: RandomModel, fusion: str | None = None) -> list[Finding]:
    """Read the model once and run it at all its sizes."""
    oracle = Oracle(model.proto)
    try:
        session = Session(model.proto, "edge", engine="functional", fusion=fusion)
    except NpuvmError as error:
        why = str(error)
        runs = [(sizes, model.feeds(sizes, number)) for number, sizes in enumerate(model.runs())]
        kinds = [_compared(oracle, feeds, None)[0] for _, feeds in runs]
        return [Finding(model.seed, kind, sizes, why) for kind, (sizes, _) in zip(kinds, runs, strict=True)]
    return [_run(model, session, oracle, sizes, number) for number, sizes in enumerate(model.runs())]


def _run(model: RandomModel, session: Session, oracle: Oracle, sizes: Mapping[str, int], number: int) -> Finding:
    feeds = model.feeds(sizes, number)
    made, why = None, ""
    try:
        made = list(session.run(feeds).values())
    except NpuvmError as error:
        why = str(error)
    kind, text = _compared(oracle, feeds, made)
    return Finding(model.seed, kind, sizes, text or why)


def _compared(oracle: Oracle, feeds: Mapping[str, Array], made: list[Array] | None) -> tuple[str, str]:
    """The kind of a finding, and what is to be said of it."""
    try:
        return _kind(oracle, feeds, made, oracle.run(feeds))
    except _Refused as refused:
        if made is None:
            return "refused", ""
        text = str(refused)
    try:
        return _kind(oracle, feeds, made, oracle.run_needed(feeds))
    except _Refused:
        if _agrees(oracle, feeds, made):
            return "reference", text
        nothing = any(0 in each.shape for each in (*feeds.values(), *made)) or _EMPTY_PART in text
        return "empty" if nothing else "lax", text


def _kind(oracle: Oracle, feeds: Mapping[str, Array], made: list[Array] | None, wanted: list[Array]) -> tuple[str, str]:
    text = "" if made is None else differences(made, wanted)
    if text is None:
        return "equal", ""
    if _agrees(oracle, feeds, made):
        return "reference", text
    if made is None:
        return "alone", text
    nothing = all(
        not left.size and not right.size for left, right in zip(made, wanted, strict=True) if difference(left, right)
    )
    return ("empty" if nothing else "wrong"), text


def _agrees(oracle: Oracle, feeds: Mapping[str, Array], made: list[Array] | None) -> bool:
    """Whether ONNX's reference gives the same, or refuses too."""
    try:
        wanted = oracle.reference(feeds)
    except _Refused:
        return made is None
    return made is not None and differences(made, wanted) is None


def differences(made: list[Array], wanted: list[Array]) -> str | None:
    """How two lists of outputs differ, if they do."""
    found = [difference(left, right) for left, right in zip(made, wanted, strict=True)]
    return next((f"output {at}: {each}" for at, each in enumerate(found) if each is not None), None)


def difference(made: Array, wanted: Array) -> str | None:
    """How two arrays differ, if they do; integers and bools must be the same."""
    if (made.dtype, made.shape) != (wanted.dtype, wanted.shape):
        return f"{made.dtype}{list(made.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
    if wanted.dtype.kind in "iub":
        same = made == wanted
    else:
        finite = np.abs(wanted[np.isfinite(wanted)])
        scale = max(1.0, float(finite.max(initial=0)))
        same = np.isclose(made, wanted, rtol=TOLERANCE, atol=TOLERANCE * scale, equal_nan=True)
    if same.all():
        return None
    at = tuple(int(each) for each in np.argwhere(~same)[0])
    return f"{int((~same).sum())} of {same.size} elements, {made[at]} instead of {wanted[at]} at {list(at)}"

"""Runs a model of the zoo at several sizes in one session, and holds what comes out to onnxruntime."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from benchmarks.zoo.entry import Feeds, Sizes, Variant
from benchmarks.zoo.gpt2 import Gpt2Config, empty_cache
from benchmarks.zoo.graph import Array

from npuvm.runtime.session import RunReport, Session

__all__ = ["Oracle", "Row", "Run", "decode", "largest_difference", "measure"]


class Oracle:
    """onnxruntime on the host's processor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Outputs by name."""
        return dict(zip(self._names, self._session.run(None, feeds), strict=True))


@dataclass
class Row:
    """One run. `difference` is the largest to onnxruntime over all outputs, as a part of the output's largest magnitude.

    `simulated_us` has the host's dispatch in it, `with_transfers_us` inputs and outputs on their way too. Measured host time:
    `compile_us` for these sizes, `verify_us` of the static verifier for programs that are new, `overhead_us` of all else but
    simulation and operators of the host.
    """

    sizes: dict[str, int]
    known: bool
    launches: int
    cycles: int
    simulated_us: float
    with_transfers_us: float
    difference: float | None
    compile_us: float
    verify_us: float
    overhead_us: float
    seconds: float
    reread: str


@dataclass
class Run:
    """A model in one session: what reading it took, what stays on the host, and a row for each run."""

    name: str
    nodes: int
    import_seconds: float
    host_operators: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def measure(
    name: str, variant: Variant[Any], shapes: Sequence[Sizes], chip: str, *, timing_only: bool = False
) -> Iterator[Run]:
    """Run a model at each of `shapes`, then at the first again; the run is given after each row, and grows."""
    model = variant.make()
    run, session = _open(name, model, chip, timing_only)
    yield run
    oracle = None if timing_only else Oracle(model)
    del model
    for sizes in [*shapes, shapes[0]]:
        feeds = variant.inputs(sizes)
        start = time.perf_counter()
        if oracle is None:
            report, difference = session.time({key: each.shape for key, each in feeds.items()}), None
        else:
            outputs, report = session.run(feeds), session.last
            difference = largest_difference(outputs, oracle.run(feeds))
        run.rows.append(_row(sizes, session, report, difference, time.perf_counter() - start))
        yield run


def decode(variant: Variant[Gpt2Config], chip: str, *, prompt: int, steps: int) -> Iterator[Run]:
    """Greedy decoding with a cache that grows: a prompt, then a token a step; onnxruntime goes its own way beside it.

    ValueError where a token of the session is not the one of onnxruntime.
    """
    model = variant.make()
    run, session = _open("gpt2 decode", model, chip, False)
    yield run
    oracle = Oracle(model)
    del model
    rng = np.random.default_rng(0)
    ids = rng.integers(0, variant.config.vocabulary, (1, prompt), dtype=np.int64)
    caches = [empty_cache(variant.config, 1) for _ in range(2)]
    past = 0
    for _ in range(steps + 1):
        total = past + ids.shape[1]
        shared = {
            "input_ids": ids,
            "attention_mask": np.ones((1, total), dtype=np.int64),
            "position_ids": np.arange(past, total, dtype=np.int64)[None],
        }
        start = time.perf_counter()
        got, want = session.run({**shared, **caches[0]}), oracle.run({**shared, **caches[1]})
        seconds = time.perf_counter() - start
        sizes = {"batch": 1, "sequence": ids.shape[1], "past": past}
        run.rows.append(_row(sizes, session, session.last, largest_difference(got, want), seconds))
        yield run
        caches = [{_past(key): each for key, each in outputs.items() if key != "logits"} for outputs in (got, want)]
        tokens = [int(outputs["logits"][0, -1].argmax()) for outputs in (got, want)]
        if tokens[0] != tokens[1]:
            raise ValueError(f"after {total} tokens the session decodes {tokens[0]}, onnxruntime {tokens[1]}")
        ids, past = np.array([tokens[:1]], dtype=np.int64), total


def largest_difference(got: dict[str, Array], want: dict[str, Array]) -> float:
    """The largest difference of all outputs, each as a part of the largest magnitude of what it should be.

    ValueError where names, shapes, dtypes or what is not finite differ.
    """
    if got.keys() != want.keys():
        raise ValueError(f"outputs are {', '.join(got)}; they must be {', '.join(want)}")
    worst = 0.0
    for name, right in want.items():
        made = got[name]
        if (made.shape, made.dtype) != (right.shape, right.dtype):
            raise ValueError(f"{name} is {made.dtype}{list(made.shape)}; it must be {right.dtype}{list(right.shape)}")
        if not np.isfinite(right).all() or not np.isfinite(made).all():
            raise ValueError(f"{name} is not finite")
        if right.size:
            scale = max(float(np.abs(right).max()), float(np.finfo(np.float32).tiny))
            worst = max(worst, float(np.abs(made.astype(np.float64) - right).max()) / scale)
    return worst


def _open(name: str, model: onnx.ModelProto, chip: str, timing_only: bool) -> tuple[Run, Session]:
    start = time.perf_counter()
    session = Session(model, chip, timing_only=timing_only)
    run = Run(name, len(model.graph.node), time.perf_counter() - start)
    run.host_operators = sorted(f"{step.op} ({step.source}): {step.reason}" for step in session.model.host_steps())
    return run, session


def _row(sizes: Sizes, session: Session, report: RunReport, difference: float | None, seconds: float) -> Row:
    return Row(
        dict(sizes),
        report.known_shape,
        report.launches,
        report.cycles,
        report.simulated_us,
        report.with_transfers_us,
        difference,
        report.compile_measured_us,
        report.verify_measured_us,
        session.stats.overhead_measured_us,
        seconds,
        report.reread,
    )


def _past(name: str) -> str:
    return name.replace("present", "past_key_values")

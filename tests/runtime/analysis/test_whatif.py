"""What-if tables: planted bottlenecks give way to the variant that removes them, and to no other."""

from __future__ import annotations

import json

import pytest

from npuvm.compiler import KernelBuilder, ParamRef, kernel
from npuvm.hw.config import load_chip
from npuvm.runtime.analysis.explained import explain_launches, explained_json
from npuvm.runtime.analysis.idealise import variant
from npuvm.runtime.analysis.recording import LaunchRecorder
from npuvm.runtime.analysis.whatif import what_if, whatif_json
from npuvm.runtime.device.device import Device, LaunchRecord

PLENTY = (
    "host.launch_us=0.1",
    "host.start_latency_us=0.1",
    "memory.hbm.bandwidth_gbps=400",
    "memory.l2.bandwidth_gbps=800",
    "core.vector.classes.vexp.cycles_per_repeat=0.5",
)


@kernel(x="fp32[M, N]")
def powers(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.exp(k.load(x)))


def launches(*overrides: str, times: int = 2) -> tuple[LaunchRecord, ...]:
    """A kernel on 256 x 512, a few times, on an edge chip with these overrides."""
    recorder = LaunchRecorder()
    device = Device(load_chip("edge", [*PLENTY, *overrides]), timing_only=True, observers=[recorder])
    x = device.empty((256, 512), "fp32")
    for _ in range(times):
        device.run(powers, {"x": x})["out0"].free()
    return tuple(recorder.records)


@pytest.mark.parametrize(
    ("planted", "cure", "others"),
    [
        ("memory.hbm.bandwidth_gbps=2", "infinite-hbm", ("free-vector", "deep-queues", "infinite-l2")),
        ("core.vector.classes.vexp.cycles_per_repeat=50", "free-vector", ("infinite-bandwidth", "free-decode")),
        (
            "core.sequencer.decode_cycles_per_word=64 core.ub_kib=4",
            "free-decode",
            ("infinite-bandwidth", "free-vector"),
        ),
        ("core.load.ub_bytes_per_cycle=2", "infinite-ports", ("infinite-hbm", "free-vector")),
    ],
)
def test_a_planted_bottleneck_gives_way_to_its_cure_alone(planted: str, cure: str, others: tuple[str, ...]) -> None:
    result = what_if(launches(*planted.split()), [variant(name) for name in (cure, *others)])
    by_name = {outcome.variant.name: result.speedup(outcome) for outcome in result.variants if outcome.variant}
    assert by_name[cure] > 2
    assert all(by_name[name] < 1.3 for name in others), by_name


def test_the_host_is_cured_by_zero_launch_in_the_time_of_the_stream_only() -> None:
    result = what_if(launches("host.launch_us=500"), [variant("zero-launch")])
    (outcome,) = result.variants
    assert result.real.bounded_by.rule == "host"
    assert "500 µs" in result.real.bounded_by.text
    assert outcome.bounded_by.rule != "host"
    assert result.speedup(outcome) < 1.1
    assert result.stream_speedup(outcome) > 5


def test_nothing_to_free_is_the_chip_as_it_is() -> None:
    seen: list[str] = []
    records = launches()
    result = what_if(
        records, [variant("no-bank-conflicts")], lambda done, total, label: seen.append(f"{done}/{total} {label}")
    )
    (outcome,) = result.variants
    assert (outcome.cycles, outcome.kernels) == (result.real.cycles, result.real.kernels)
    assert result.real.cycles == sum(record.result.cycles for record in records)
    assert result.real.kernels == {"powers": result.real.cycles}
    assert seen == ["0/2 the chip as it is", "1/2 no-bank-conflicts", "2/2 done"]


def test_what_helps_a_kernel_comes_best_first() -> None:
    result = what_if(
        launches("memory.hbm.bandwidth_gbps=2"),
        [variant("free-vector"), variant("infinite-hbm"), variant("deep-queues")],
    )
    (best, gain), *others = result.helps("powers")
    assert best.name == "infinite-hbm"
    assert gain == pytest.approx(result.speedup(result.variants[1]))
    assert all(1 < less <= gain for _, less in others)


def test_the_json_holds_the_table() -> None:
    result = what_if(launches(times=1), [variant("free-vector")])
    written = whatif_json(result)
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    real, free = written["outcomes"]
    assert (real["variant"], real["speedup"], real["stream_speedup"]) == (None, 1.0, 1.0)
    assert free["variant"] == "free-vector"
    assert free["speedup"] == pytest.approx(real["cycles"] / free["cycles"])


def test_explained_kernels_add_up_to_the_whole() -> None:
    run = explain_launches(launches(times=3))
    (each,) = run.kernels
    assert (each.name, each.breakdown.launches) == ("powers", 3)
    assert each.breakdown == run.whole.breakdown
    written = explained_json(run)
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert [kernel["name"] for kernel in written["kernels"]] == ["powers"]
    assert written["whole"]["cycles"] == sum(kernel["cycles"] for kernel in written["kernels"])
    assert written["stream_us"] == run.stream_us

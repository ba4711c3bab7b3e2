"""The verbs run and coverage, on a model with an operator for the host."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from npuvm.cli.main import main

MODELS = Path(__file__).resolve().parents[2] / "configs" / "models"
MODEL, BLOCK = str(MODELS / "scores.onnxtxt"), str(MODELS / "feed_forward.onnxtxt")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")


def output(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, without the breaks and lines of tables."""
    return " ".join(capsys.readouterr().out.split())


def test_several_sizes_in_one_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    words = ["--input", "x=2,?", "--input", f"x=@{tmp_path / 'x.npy'}", "--out", str(tmp_path / "out"), "--json"]
    assert main(["run", MODEL, *words, "--profile", "--fusion", "none"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["shapes"]["x"] for each in found["runs"]] == [[2, 4], [4, 4]]
    assert all(each["cycles"] > 0 and each["hosts"][0]["op"] == "NonZero" for each in found["runs"])
    assert [each["operators"] for each in found["kernels"]].count(["MatMul_product"]) == 1
    oracle = onnxruntime.InferenceSession(onnx.parser.parse_model(Path(MODEL).read_text()).SerializeToString())
    for wanted, name in zip(oracle.run(None, {"x": x}), ("probabilities", "likely"), strict=True):
        np.testing.assert_allclose(np.load(tmp_path / "out" / f"1-{name}.npy"), wanted, rtol=1e-6)


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", MODEL, "--input", "x=2,4:float32", "--data", "zeros", "--profile"]) == 0
    shown = output(capsys)
    for expected in (
        "scores on ascend_910b1",
        "x 2x4",
        "NonZero_likely",
        "onnxruntime",
        "Softmax_probabilities",
        "HBM KB",
    ):
        assert expected in shown


def test_many_launches_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten operators over one axis and the other in turn, each a program of its own."""
    chain = "".join(f"  t{at + 1} = Softmax <axis = {at % 2}> (t{at})\n" for at in range(10))
    text = f'<ir_version: 10, opset_import: ["" : 18]> chain (float[N, M] t0) => (float[N, M] t10) {{\n{chain}}}'
    (tmp_path / "chain.onnxtxt").write_text(text)
    words = ["run", str(tmp_path / "chain.onnxtxt"), "--input", "t0=100,3000", "--timing-only"]
    assert main([*words, "--set", "host.launch_us=500"]) == 0
    told = capsys.readouterr().err
    assert "of the simulated time is the host's, for " in told and "--fusion both makes fewer of them" in told
    assert main([*words, "--set", "host.launch_us=0"]) == 0
    assert main([*words, "--set", "host.launch_us=500", "--fusion", "both"]) == 0
    assert "of the simulated time" not in capsys.readouterr().err


def test_transfers_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NonZero takes a value of 4 x 3 flags from the device: over a slow link that is most of the time."""
    words = ["run", MODEL, "--input", "x=4,?", "--trace", str(tmp_path / "run.json")]
    slow = ["--set", "host.link.latency_us=100", "--profile"]
    assert main([*words, *slow]) == 0
    told = capsys.readouterr()
    assert "transfers for 1 operator of the host take 100.0 us, " in told.err
    assert "npuvm coverage says why they are there" in told.err
    shown = " ".join(told.out.split())
    assert "transfers by simulated time" in shown and "with transfers us" in shown
    assert main([*words, "--set", "host.link.latency_us=0", "--json", "--profile"]) == 0
    told = capsys.readouterr()
    assert "operator of the host" not in told.err
    found = json.loads(told.out)
    assert [(each["value"], each["direction"]) for each in found["transfers"] if not each["constant"]] == [
        ("x", "to_device"),
        ("probabilities", "to_host"),
        ("above", "to_host"),
    ]
    (run,) = found["runs"]
    assert run["simulated_us"] < run["with_transfers_us"] < run["simulated_us"] + run["upload_us"] + run["download_us"]
    events = json.loads((tmp_path / "run.json").read_text())["traceEvents"]
    assert {each["name"] for each in events if each["ph"] == "X"} == {"x", "scores_0", "above", "probabilities"}


def test_without_the_host_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", MODEL, "--input", "x=2,?", "--no-host"]) == 2
    error = capsys.readouterr().err
    assert (
        "operators would run on the host: NonZero (NonZero_likely): the size of its result follows from data" in error
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input", "y=2,?"], "the model has no input 'y'; inputs: x"),
        (["--input", "x=2"], "input 'x' is float32[batch, 4], of rank 2, not 1"),
        (["--input", "x=2,5"], "input 'x', dim 1 must be 4, got 5"),
        (["--input", "x=2,4:int64"], "input 'x' must be float32, not int64"),
        (["--input", "x=a"], "allowed: NAME=DIMS"),
        (["--input", "x=2,,4"], "dims are numbers or ?"),
        (["--input", "x=?,4"], "input 'x', dim 0 (batch) has no size; say it with --input x=.."),
        (["--input", "x=@nothing.npy"], "input 'x': no array can be read"),
        (["--range", "x=1"], "allowed: NAME=LOW:HIGH"),
        (["--input", "x=2,4:real"], "input 'x' must be float32, not real"),
        (["--input", "x=2147483648,4"], "input 'x', dim 0 is 2147483648; allowed: 0 to 2147483647"),
        (["--input", "x=2,?", "--range", "y=1:2"], "a range of 'y', but the model has no such input; inputs: x"),
        (["--input", "x=2,?", "--range", "x=1:2"], "a range of 'x', which is float32; allowed: inputs of integers"),
        (["--range", "x=1:1"], "there is no number from 1 on below 1"),
        (["--timing-only", "--out", "there"], "--timing-only gives no data; leave out --out"),
        (["--engine", "functional", "--profile"], "simulates no time; leave out --profile"),
        (["--engine", "functional", "--trace", "t.json"], "simulates no time; leave out --trace"),
        (["--timing-only", "--input", "x=2,?"], "run it with data"),
    ],
)
def test_what_cannot_be_run(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", MODEL, *words]) == 2
    assert message in capsys.readouterr().err


def test_a_plan_file_for_the_next_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--input", "x=3,?", "--engine", "functional", "--plan", str(tmp_path / "scores.plan"), "--json"]
    assert main(["run", MODEL, *words]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (tmp_path / "scores.plan").exists()
    assert main(["run", MODEL, *words]) == 0
    again = json.loads(capsys.readouterr().out)
    assert first["runs"][0]["shapes"] == again["runs"][0]["shapes"]
    assert main(["run", MODEL, *words, "--chip", "edge"]) == 2
    assert "was made for another chip" in capsys.readouterr().err


def test_coverage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coverage", MODEL, "--symbols"]) == 0
    shown = output(capsys)
    for expected in ("MatMul_product", "scores_0", "follows from data", "symbol batch", "5 operators, 1 on the host"):
        assert expected in shown
    assert main(["coverage", MODEL, "--only-host", "--no-host"]) == 1
    shown = output(capsys)
    assert "NonZero_likely" in shown
    assert "MatMul_product" not in shown
    assert main(["coverage", MODEL, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["type"]: each["where"] for each in found["operators"]}["Softmax"] == "device"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("npuvm.cli.model_files.find_spec", lambda name: None if name == "onnx" else object())
    assert main(["coverage", MODEL]) == 2
    assert "ONNX models need the package onnx; install: pip install npuvm[onnx]" in capsys.readouterr().err


def test_buffering_reaches_every_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", BLOCK, "--input", "x=300,256", "--chip", "edge", "--timing-only", "--json"]
    cycles = []
    for mode in ("auto", "double", "single"):
        assert main([*words, "--buffering", mode]) == 0
        cycles.append(json.loads(capsys.readouterr().out)["runs"][0]["cycles"])
    assert cycles[0] == cycles[1] < cycles[2]
    assert main([*words, "--buffering", "triple"]) == 2
    assert "'auto', 'single', 'double'" in capsys.readouterr().err

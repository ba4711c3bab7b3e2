"""The verb compile for stacks: what is written is what is linked and launched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from npuvm.cli.kernel_files import load_kernel, parse_shapes
from npuvm.cli.main import main
from npuvm.compiler import Stack, compile_stack
from npuvm.compiler.inspection.stack import inspect_stack
from npuvm.hw.config import load_chip
from npuvm.isa import assemble, load_isa
from npuvm.isa.codec import decode_program
from npuvm.runtime import Device

SOURCE = """
from npuvm.compiler import kernel, parallel, renamed, sequence

@kernel(x="fp16[M, K]", w="fp16[K, N]")
def product(k, x, w):
    k.store(k.matmul(k.load(x), k.load(w)), "y")

@kernel(x="fp16[M, N]")
def softmax(k, x):
    value = k.load(x)
    e = k.exp(value - k.max(value, -1, keepdims=True))
    k.store(e / k.sum(e, -1, keepdims=True), "y")

scores = sequence(renamed(product, x="a", w="b", y="h"), renamed(softmax, x="h", y="p"), name="scores")
both = parallel(scores, renamed(softmax, x="s", y="q"), name="both")
alone = parallel(softmax, name="alone")
"""
SHAPES = "a=128x64 b=64x256 s=100x300"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("COLUMNS", raising=False)
    path = tmp_path / "stacks.py"
    path.write_text(SOURCE, encoding="utf-8")
    return str(path)


def _stack(source: str) -> Stack:
    stack = load_kernel(source)
    assert isinstance(stack, Stack)
    return stack


def _dumped(source: str, shapes: str, chip: str, out: Path) -> dict[str, str]:
    """Texts of the phases without their numbers, in order."""
    assert main(["compile", source, "--shapes", shapes, "--chip", chip, "--dump", str(out)]) == 0
    return {path.stem.partition("-")[2]: path.read_text(encoding="utf-8") for path in sorted(out.iterdir())}


def test_a_dump_has_every_kernel_and_the_launch(source: str, tmp_path: Path) -> None:
    texts = _dumped(f"{source}:both", SHAPES, "edge", tmp_path / "out")
    names = list(texts)
    assert names[:5] == ["stack", "k0.k0.graph", "k0.k0.legal", "k0.k0.plan", "k0.k0.c0-product"]
    assert names[-1] == "k0.k0.c0+k1.v0+k0.k1.v0-assembly"
    for line in (
        "parallel both",
        "  k0 sequence scores",
        "x = k0.h, y = p; v0 on 1 cores",
        "workspace k0.h fp16[128, 256]",
    ):
        assert line in texts["stack"]
    (launch,) = compile_stack(_stack(f"{source}:both"), parse_shapes(SHAPES), load_chip("edge"), load_isa()).launches
    linked = assemble(load_isa(), texts[names[-1]])
    assert linked.words.tolist() == launch.image.words.tolist()
    assert tuple(linked.entries) == tuple(launch.image.entries)
    # One core runs all: the programs of the kernels, one behind the other in the order that the launch names.
    parts = [assemble(load_isa(), texts[f"{name}-assembly"]) for name in launch.segment.split("+")]
    between = ("barrier", "halt")
    ops = [[insn.op for _, insn in decode_program(load_isa(), image.words)] for image in (linked, *parts)]
    whole, *own = ([op for op in each if op not in between] for each in ops)
    assert whole == [op for each in own for op in each]


def test_what_a_dump_leaves_behind_goes(source: str, tmp_path: Path) -> None:
    _dumped(f"{source}:both", SHAPES, "edge", tmp_path / "out")
    texts = _dumped(f"{source}:softmax", "x=9x20", "edge", tmp_path / "out")
    assert len(texts) == 10
    assert not [name for name in texts if name.startswith("k") or name == "stack"]


@pytest.mark.parametrize("chip", ["ascend_910a", "ascend_910b1"])
def test_kernels_are_shown_on_the_cores_that_they_got(source: str, chip: str) -> None:
    found = inspect_stack(_stack(f"{source}:both"), parse_shapes(SHAPES), load_chip(chip), load_isa())
    (launch,) = found.compiled.launches
    used = 0
    for segment in found.segments:
        entries = segment.image.entries
        assert segment.kernel.walk.ranges == tuple(entry.ranges for entry in entries)
        busy = [pair for entry in entries for pair in entry.ranges]
        assert busy and sum(stop - start for start, stop in busy) == segment.kernel.walk.grids[0].tiles
        used = max(used, len(entries))
    assert [segment.name for segment in found.segments] == ["k0.k0.c0", "k0.k1.v0", "k1.v0"]
    assert used < len(launch.image.entries) <= len(load_chip(chip).core_types())
    assert found.binding == {
        "k0.k0.M": 128, "k0.k0.K": 64, "k0.k0.N": 256, "k0.k1.M": 128, "k0.k1.N": 256, "k1.M": 100, "k1.N": 300
    }  # fmt: skip


def test_a_stack_of_one_kernel_has_one_assembly(source: str, tmp_path: Path) -> None:
    texts = _dumped(f"{source}:alone", "x=100x300", "ascend_910b1", tmp_path / "out")
    shapes = {"x": (100, 300)}
    (launch,) = compile_stack(_stack(f"{source}:alone"), shapes, load_chip("ascend_910b1"), load_isa()).launches
    assert [name for name in texts if name.endswith("assembly")] == [f"{launch.segment}-assembly"]
    assert assemble(load_isa(), texts[f"{launch.segment}-assembly"]).words.tolist() == launch.image.words.tolist()


def test_explain_tells_the_cycles_of_the_whole(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", f"{source}:both", "--shapes", SHAPES, "--chip", "edge", "--explain"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    device = Device("edge")
    shapes = parse_shapes(SHAPES)
    device.run(_stack(f"{source}:both"), {name: device.tensor(np.zeros(shapes[name], np.float16)) for name in shapes})
    (launch,) = report["launches"]
    assert launch["cycles"] == device.launches[0].result.cycles
    assert [each["name"] for each in report["segments"]] == ["k0.k0.c0", "k0.k1.v0", "k1.v0"]
    assert main(words) == 0
    out = capsys.readouterr().out
    for expected in ("both on edge", "of its segments", f"{launch['cycles']:,}", "k0.k1.v0  tile"):
        assert expected in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stacks.py"], "stacks.py: 5 kernels; name one as stacks.py:KERNEL of: product, softmax, scores, both, alone"),
        (["stacks.py:scores", "--shapes", "a=3x4"], "no shape for parameter 'b'"),
        (["stacks.py:scores", "--shapes", "a=3x4 b=4x5 q=1"], "no parameter 'q'; parameters: a, b"),
        (["stacks.py:scores", "--shapes", "a=3x4 b=5x6"], "K is 4 from x[1] but 5 from w[0]"),
    ],
)
def test_wrong_input(
    words: list[str], message: str, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(source).parent)
    assert main(["compile", *words, "--dump", "out"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_stack_has_the_slots_of_the_option(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", f"{source}:both", "--shapes", SHAPES, "--chip", "edge", "--explain", "--json"]
    cycles = []
    for mode, most in (("double", 2), ("single", 1)):
        assert main([*words, "--buffering", mode]) == 0
        found = json.loads(capsys.readouterr().out)
        buffers = [each for segment in found["segments"] for each in segment["buffers"]]
        assert max(each["slots"] for each in buffers) == most
        cycles.append(found["launches"][0]["cycles"])
    assert cycles[0] < cycles[1]

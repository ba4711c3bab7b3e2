"""The verb compile: its files, its tables, and what wrong input gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from npuvm.cli.kernel_files import load_kernel, parse_shapes
from npuvm.cli.main import main
from npuvm.compiler import Kernel, compile_kernel
from npuvm.compiler.inspection.kernel import inspect_kernel
from npuvm.hw.config import load_chip
from npuvm.isa import assemble, load_isa
from npuvm.isa.errors import NpuvmError

SOURCE = """
from npuvm.compiler import kernel

@kernel(x="fp16[M, K]", w="fp16[K, N]")
def scores(k, x, w):
    k.pin(stack="launches")
    product = k.matmul(k.load(x), k.load(w), dtype="fp32")
    powers = k.exp(product - k.max(product, -1, keepdims=True))
    k.store(k.cast(powers / k.sum(powers, -1, keepdims=True), "fp16"))

@kernel(x="fp16[N]", s="fp16[]")
def scaled(k, x, s):
    k.store(k.load(x) * k.load(s))
"""
SHAPES = "x=40x64, w=64x48"
PHASES = [
    "01-graph", "02-legal", "03-plan",
    "04-c0-product", "05-c0-buffers", "06-c0-tile", "07-c0-walk", "08-c0-assembly",
    "09-v0-space", "10-v0-covered", "11-v0-program", "12-v0-buffers", "13-v0-tile", "14-v0-walk", "15-v0-assembly",
]  # fmt: skip


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("COLUMNS", raising=False)
    path = tmp_path / "kernels.py"
    path.write_text(SOURCE, encoding="utf-8")
    return str(path)


def _kernel(source: str) -> Kernel:
    kernel = load_kernel(source)
    assert isinstance(kernel, Kernel)
    return kernel


def test_a_dump_has_a_file_for_each_phase(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["compile", f"{source}:scores", "--shapes", SHAPES, "--chip", "edge", "--dump", str(out)]
    assert main(words) == 0
    assert f"{len(PHASES)} files in {out}" in capsys.readouterr().out
    texts = {path.stem: path.read_text(encoding="utf-8") for path in out.iterdir()}
    assert sorted(texts) == PHASES
    assert main(words) == 0
    assert texts == {path.stem: path.read_text(encoding="utf-8") for path in out.iterdir()}
    compiled = compile_kernel(_kernel(f"{source}:scores"), parse_shapes(SHAPES), load_chip("edge"), load_isa())
    for launch in compiled.launches:
        (text,) = (text for name, text in texts.items() if name.endswith(f"{launch.segment}-assembly"))
        again = assemble(load_isa(), text)
        assert again.words.tolist() == launch.image.words.tolist()
        assert tuple(again.entries) == tuple(launch.image.entries)


def test_a_dump_replaces_that_of_another_kernel(source: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["compile", f"{source}:scores", "--shapes", SHAPES, "--chip", "edge", "--dump", str(out)]) == 0
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(["compile", f"{source}:scaled", "--shapes", "x=100 s=", "--chip", "edge", "--dump", str(out)]) == 0
    names = sorted(path.name for path in out.iterdir())
    assert "notes.txt" in names
    assert len(names) == 11
    assert not [name for name in names if "-c0-" in name]


OTHERS = """
from npuvm.compiler import kernel

@kernel(x="fp16[N, 3, H, W]", w="fp16[8, 3, 3, 3]")
def convolved(k, x, w):
    k.pin(stack="launches")
    k.store(k.relu(k.conv2d(k.load(x), k.load(w), padding=1)))

@kernel(x="fp16[M, N]", i="int32[K]")
def picked(k, x, i):
    k.store(k.gather(k.load(x), k.load(i)))

@kernel(x="fp16[M, K]", w="fp16[K, N]")
def stacked(k, x, w):
    k.pin(stack="sequence")
    k.store(k.exp(k.matmul(k.load(x), k.load(w), dtype="fp32")))
    k.store(k.matmul(k.load(w), k.load(w), transpose_a=True), "other")

@kernel(x="fp16[M, K]", w="fp16[K, N]")
def mixed(k, x, w):
    k.store(k.exp(k.matmul(k.load(x), k.load(w), dtype="fp32")))

@kernel(x="fp16[M, K]", w="fp16[K, N]")
def relayed(k, x, w):
    k.pin(stack="mix")
    y = k.matmul(k.load(x), k.load(w), dtype="fp32")
    k.store(y - k.max(y, -1, keepdims=True))
"""


@pytest.mark.parametrize(
    ("words", "phase"),
    [
        (["convolved", "--shapes", "x=2x3x14x14 w=8x3x3x3"], "convolution"),
        (["picked", "--shapes", "x=50x40 i=9", "--indices", "uniform"], "rows"),
        (["stacked", "--shapes", "x=40x64 w=64x48"], "product"),
        (["mixed", "--shapes", "x=40x64 w=64x48"], "parts"),
        (["relayed", "--shapes", "x=40x64 w=64x48"], "parts"),
    ],
)
def test_segments_of_every_kind_are_shown(words: list[str], phase: str, tmp_path: Path) -> None:
    file, out = tmp_path / "others.py", tmp_path / "out"
    file.write_text(OTHERS, encoding="utf-8")
    kernel, *rest = words
    assert main(["compile", f"{file}:{kernel}", *rest, "--chip", "edge", "--dump", str(out), "--explain"]) == 0
    names = [path.name for path in out.iterdir()]
    assert any(name.endswith(f"-{phase}.txt") for name in names)
    joint = kernel in ("mixed", "relayed", "stacked")
    assert any(name.endswith("-c0+v0-assembly.txt") for name in names) == joint
    assert any(name.endswith("-c0+v0+c1-assembly.txt") for name in names) == (kernel == "stacked")
    source = tmp_path / "kernels.py"
    source.write_text(SOURCE, encoding="utf-8")
    assert main(["compile", f"{source}:scaled", "--shapes", "x=100 s=", "--chip", "edge", "--dump", str(out)]) == 0
    assert len(list(out.iterdir())) == 10


def test_explain_tells_the_estimate_and_the_cycles(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", f"{source}:scores", "--shapes", SHAPES, "--chip", "edge", "--explain"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    chip = load_chip("edge")
    assert report["ktype"] == "auto"
    for launch, segment in zip(report["launches"], report["segments"], strict=True):
        assert launch["name"] == segment["name"]
        assert launch["cycles"] >= launch["bound_cycles"] > 0
        assert segment["cycles_estimated"] > 0
        for space, use in segment["bytes"].items():
            own = [each for each in segment["buffers"] if each["space"] == space]
            assert 0 < use["used"] <= use["capacity"] == chip.capacity_bytes(space)
            assert use["used"] >= sum(each["slots"] * each["slot_bytes"] for each in own)
        assert all(each["value_bytes"] <= each["slot_bytes"] for each in segment["buffers"])
    assert main(words) == 0
    out = capsys.readouterr().out
    for launch in report["launches"]:
        assert f"{launch['cycles']:,}" in out
    for expected in (
        "m0 by cube",
        "l0a",
        "reuse: ",
        "values, in turn",
        "costs of tiles: block, l0, l1 by measurements of",
    ):
        assert expected in out


MORE = """
from npuvm.compiler import renamed, sequence

@kernel(x="fp16[N, 3, H, W]", w="fp16[8, 3, 3, 3]")
def blended(k, x, w):
    k.store(k.exp(k.conv2d(k.load(x), k.load(w), padding=1)))

both = sequence(renamed(mixed, x="a", w="b", out0="c"), mixed)
"""


@pytest.mark.parametrize(
    ("words", "costs"),
    [
        ("scores --shapes x=40x64,w=64x48", "by formulas; `npuvm tune` measures those of one core"),
        ("mixed --shapes x=40x64,w=64x48", "by formulas; `npuvm tune` measures those of one core"),
        ("both --shapes a=40x64,b=64x48,x=40x64,w=64x48", "by formulas; `npuvm tune` measures those of one core"),
        ("relayed --shapes x=40x64,w=64x48", "costs of tiles: formulas, on chips with a library as on others"),
        ("blended --shapes x=2x3x14x14,w=8x3x3x3", "blended on edge"),
        ("picked --shapes x=50x40,i=9 --indices uniform", "picked on edge"),
    ],
)
def test_a_chip_without_a_tile_library_is_told_once(
    words: str, costs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where products would ask it; relays, convolutions and what has no product never do."""
    monkeypatch.delenv("COLUMNS", raising=False)  # set where tests run in several processes
    file, note = tmp_path / "all.py", "this chip has no tile library; `npuvm tune` makes one"
    file.write_text(SOURCE + OTHERS + MORE, encoding="utf-8")
    kernel, *rest = words.split()
    asked = "by formulas" in costs
    command = ["compile", f"{file}:{kernel}", *rest, "--chip", "edge"]
    for more in ([], ["--explain"]):
        assert main([*command, *more, "--set", "core.l1_kib=72"]) == 0
        out = capsys.readouterr().out
        assert out.count(note) == asked
        assert costs in out or not more
        assert main([*command, *more]) == 0
        out = capsys.readouterr().out
        assert note not in out
        assert ("by measurements of" in out) == (asked and bool(more))
    assert main([*command, "--set", "core.l1_kib=72", "--json"]) == 0
    assert (note in json.loads(capsys.readouterr().out)["note"]) == asked


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.py"], "none.py: no such file"),
        (["kernels.py"], "kernels.py: 2 kernels; name one as kernels.py:KERNEL of: scores, scaled"),
        (["kernels.py:other"], "kernels.py: no kernel 'other'; kernels: scores, scaled"),
        (["kernels.py:scaled"], "no shape for parameter 'x'"),
        (["kernels.py:scaled", "--shapes", "x=4;5"], "--shapes: 'x=4;5' is no shape"),
        (["kernels.py:scaled", "--shapes", "x=4 x=5"], "--shapes: parameter 'x' is given twice"),
        (["kernels.py:scores", "--shapes", "x=4x5,w=6x7"], "K is 5 from x[1] but 6 from w[0]"),
        (["text.txt"], "text.txt: not a Python file"),
        (["wrong.py"], "wrong.py:2: ZeroDivisionError: division by zero"),
        (["syntax.py"], "syntax.py:1: SyntaxError"),
        (["refused.py"], "refused.py:5: "),
    ],
)
def test_wrong_input(
    words: list[str], message: str, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(source).parent
    monkeypatch.chdir(folder)
    files = {
        "text.txt": "",
        "wrong.py": "\n1 / 0\n",
        "syntax.py": "def\n",
        "refused.py": SOURCE.split("\n\n")[0]
        + "\n@kernel(x='fp16[N]')\ndef bad(k, x):\n    k.store(k.sum(k.load(x), 3))\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    before = set(folder.iterdir())
    assert main(["compile", *words, "--dump", "out"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert set(folder.iterdir()) == before


def test_a_dump_that_has_no_place_leaves_nothing(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "05-c0-buffers.txt").mkdir(parents=True)
    words = ["compile", f"{source}:scores", "--shapes", SHAPES, "--chip", "edge", "--dump", str(tmp_path / "out")]
    assert main(words) != 0
    assert "05-c0-buffers.txt" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["05-c0-buffers.txt"]


@pytest.mark.parametrize("chip", ["ascend_910a", "ascend_910b1", "edge"])
def test_what_is_shown_is_what_is_compiled(source: str, chip: str) -> None:
    """Tile, buffers and rings against the program itself: nothing overlaps, and the tile is the best of its candidates."""
    kernel = _kernel(f"{source}:scores")
    target, isa = load_chip(chip), load_isa()
    found = inspect_kernel(kernel, parse_shapes(SHAPES), target, isa)
    assert [each.image.words.tolist() for each in found.segments] == [
        each.image.words.tolist() for each in found.compiled.launches
    ]
    for segment in found.segments:
        assert segment.candidates[0].tile == segment.tile
        assert segment.cycles == pytest.approx(segment.candidates[0].cycles, abs=1)
        rings = [each.events for each in segment.buffers if each.events is not None]
        assert len({ring.ready for ring in rings} | {ring.free for ring in rings}) == 2 * len(rings)
        for ring in rings:
            assert ring.producers and ring.consumers and set(ring.producers).isdisjoint(ring.consumers)
            for other in rings:
                if other is not ring and other.space == ring.space:
                    end = other.address + other.slots * other.slot_bytes
                    assert ring.address >= end or ring.address + ring.slots * ring.slot_bytes <= other.address


@pytest.mark.parametrize("name", ["mixed", "relayed"])
@pytest.mark.parametrize("chip", ["ascend_910a", "ascend_910b1", "edge"])
def test_programs_that_segments_share_are_shown(name: str, chip: str, tmp_path: Path) -> None:
    """The buffers of each type of core: nothing overlaps, and every ring on chip has two units that are not the same."""
    file = tmp_path / "others.py"
    file.write_text(OTHERS, encoding="utf-8")
    kernel = load_kernel(f"{file}:{name}")
    assert isinstance(kernel, Kernel)
    target = load_chip(chip)
    found = inspect_kernel(kernel, parse_shapes("x=40x64 w=64x48"), target, load_isa())
    (segment,), (launch,) = found.segments, found.compiled.launches
    assert segment.image.words.tolist() == launch.image.words.tolist()
    cores = {"", "cube", "vector"} if chip == "ascend_910b1" else {""}
    for core in cores:
        own = [each for each in segment.buffers if each.name.rpartition(" ")[0] == core]
        rings = [each.events for each in own if each.events is not None and each.space != "gm"]
        assert bool(rings) == (core != "" or len(cores) == 1)
        for ring in rings:
            assert ring.producers and ring.consumers and set(ring.producers).isdisjoint(ring.consumers)
            for other in rings:
                if other is not ring and other.space == ring.space:
                    end = other.address + other.slots * other.slot_bytes
                    assert ring.address >= end or ring.address + ring.slots * ring.slot_bytes <= other.address
    for space, used in segment.space_bytes().items():
        assert 0 < used <= target.capacity_bytes(space)


def test_a_file_that_exists_is_no_file_and_kernel(tmp_path: Path) -> None:
    odd = tmp_path / "a:b.py"
    odd.write_text(SOURCE, encoding="utf-8")
    with pytest.raises(NpuvmError, match="2 kernels"):
        load_kernel(str(odd))


def test_the_fusion_report_names_operators(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", f"{source}:scores", "--shapes", SHAPES, "--chip", "edge", "--fusion-report"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "fusion of scores on edge" in text
    assert "matmul_" in text
    assert main([*words, "--json"]) == 0
    programs = json.loads(capsys.readouterr().out)["fusion"]["programs"]
    assert any("matmul" in name for program in programs for name in program["operators"])


def test_slots_are_those_of_the_option(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes, rings = "x=400x64, w=64x480", {"l0c", "l1.a", "l1.b", "l0a", "l0b", "ub.c", "ws0", "out0"}
    simulated = []
    for mode, most in (("double", 2), ("single", 1)):
        out = tmp_path / mode
        words = ["compile", f"{source}:scores", "--shapes", shapes, "--chip", "edge", "--buffering", mode]
        assert main([*words, "--explain", "--json", "--dump", str(out)]) == 0
        found = json.loads(capsys.readouterr().out)
        told = [line.split() for path in sorted(out.glob("*-buffers.txt")) for line in path.read_text().splitlines()]
        seen = {words[0]: int(words[3]) for words in told if words and words[0] in rings and words[2] != "of"}
        assert seen.keys() == rings and max(seen.values()) == most
        tile = (out / "06-c0-tile.txt").read_text()
        assert ("by measurements of" in tile) == (mode == "double")  # libraries are measured with two slots
        simulated.append(found["launches"][0]["cycles"])
    assert simulated[0] < simulated[1]

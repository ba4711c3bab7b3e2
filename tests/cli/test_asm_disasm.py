from __future__ import annotations

from pathlib import Path

import pytest

from npuvm.cli.main import main
from npuvm.isa import Image, assemble, load_isa

TEXT = """\
.image tiny
.args 1
.entry vector 0 0:4
desc desc=d0 space=gm base=@arg0+0x40 pitch=64
szc size=s1 full=4   # a constant
halt
"""

EXTENSION = """\
extension: twice
version: "1.0"
extends: npu 1.0
instructions:
  - {name: vtwice, opcode: 0xc0, format: vun, dtypes: [fp32], semantics: "dst = a + a", doc: "Twice a."}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.s"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_text_to_image_to_text_to_the_same_image(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["asm", str(source)]) == 0
    said = capsys.readouterr().out
    first = source.with_suffix(".npuimg")
    assert said.startswith(f"{first}: tiny, 6 words, 1 cores, 1 relocations")
    assert Image.from_bytes(first.read_bytes()).to_bytes() == assemble(load_isa(), TEXT).to_bytes()

    assert main(["disasm", str(first)]) == 0
    printed = capsys.readouterr().out
    again = source.with_name("again.s")
    assert main(["disasm", str(first), "-o", str(again)]) == 0
    assert capsys.readouterr().out == ""
    assert again.read_text(encoding="utf-8") == printed

    second = source.with_name("second.npuimg")
    assert main(["asm", str(again), "-o", str(second)]) == 0
    assert second.read_bytes() == first.read_bytes()


def test_offsets_are_comments(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = source.with_suffix(".npuimg")
    assert main(["asm", str(source)]) == 0
    capsys.readouterr()
    assert main(["disasm", "--offsets", str(image)]) == 0
    assert "halt  # 5" in capsys.readouterr().out.splitlines()


def test_an_extension_is_known_to_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extension, source, image = tmp_path / "twice.yaml", tmp_path / "t.s", tmp_path / "t.npuimg"
    extension.write_text(EXTENSION, encoding="utf-8")
    source.write_text(".entry vector 0\nvtwice.fp32 dst=d0 a=d1 rows=s0 cols=s1\nhalt\n", encoding="utf-8")
    assert main(["asm", str(source)]) == 2
    assert "t.s:2:1" in capsys.readouterr().err
    assert main(["asm", str(source), "-x", str(extension)]) == 0
    capsys.readouterr()
    assert main(["disasm", str(image), "-x", str(extension)]) == 0
    assert "vtwice.fp32 dst=d0 a=d1 rows=s0 cols=s1\n" in capsys.readouterr().out
    assert main(["disasm", str(image)]) == 2  # the plain instruction set is another one
    assert "instruction set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "content", "expected"),
    [
        ("asm", b"szc size=s1 fll=4\n", "in:1:13: szc has no operand 'fll'; there are: size, full"),
        ("asm", b"halt \xff\n", "in: not UTF-8 text: byte 5 is 0xff"),
        ("disasm", b"halt\n", "in: not a program image (wrong magic)"),
        ("disasm", b"", "in: not a program image (wrong magic)"),
    ],
)
def test_bad_input_is_one_line_and_exit_2_and_writes_nothing(
    verb: str, content: bytes, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in"
    path.write_bytes(content)
    assert main([verb, str(path), "-o", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"npuvm: {tmp_path}/{expected}\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["asm", "disasm"])
def test_a_missing_file_is_named(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert "nothing" in error and error.count("\n") == 1


def test_unknown_instruction_set_lists_what_exists(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["asm", str(source), "--isa", "z80"]) == 2
    assert capsys.readouterr().err == "npuvm: no isa named 'z80'; shipped are: npu_v1\n"


def test_a_chip_verifies_the_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, stuck = tmp_path / "good.s", tmp_path / "stuck.s"
    good.write_text(".entry unified 0\nhalt\n", encoding="utf-8")
    stuck.write_text(".entry unified 0\nusync unit=vector | wait m3\nhalt\n", encoding="utf-8")
    assert main(["asm", str(good), "--chip", "edge"]) == 0
    assert capsys.readouterr().out.endswith("verified for edge\n")
    assert main(["asm", str(stuck)]) == 0
    stuck.with_suffix(".npuimg").unlink()
    capsys.readouterr()
    assert main(["asm", str(stuck), "--chip", "edge"]) == 2
    error = capsys.readouterr().err
    assert "m3" in error or "semaphore 3" in error
    assert not stuck.with_suffix(".npuimg").exists()


def test_a_chip_leaves_no_choice_of_instruction_set(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["asm", str(source), "--chip", "edge", "--isa", "npu_v1"]) == 2
    assert "--chip brings its own instruction set" in capsys.readouterr().err

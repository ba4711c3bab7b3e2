from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from npuvm.cli import isa as module
from npuvm.cli.main import main
from npuvm.isa import load_isa

ROOT = Path(__file__).resolve().parents[2]


def test_check_passes_on_the_committed_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "generate", "--check"]) == 0
    assert capsys.readouterr().out == "7 files checked, 0 stale\n"


def test_generated_files_are_current_until_one_is_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["isa", "generate", "--extension", "fma", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    decoder = tmp_path / "hw" / "rtl" / "npu_decoder.sv"
    text = decoder.read_text(encoding="utf-8")
    assert "hit_vfma" in text
    decoder.write_text(text.replace("wire off ", "wire of "), encoding="utf-8")
    (tmp_path / "isa" / "generated" / "npu_v1.h").unlink()
    capsys.readouterr()
    assert main([*arguments, "--check"]) == 1
    captured = capsys.readouterr()
    assert "stale: hw/rtl/npu_decoder.sv\n" in captured.out
    assert "-  wire of = " in captured.out
    assert "+  wire off = " in captured.out
    assert "stale: isa/generated/npu_v1.h\ndoes not exist\n" in captured.out
    assert captured.out.endswith("7 files checked, 2 stale\n")
    assert captured.err == "npuvm: run `npuvm isa generate` to write them again\n"
    assert not (tmp_path / "isa" / "generated" / "npu_v1.h").exists()


@pytest.mark.parametrize("arguments", [["-x", "fma"], ["--isa", "npu_v1"], ["--check", "-x", "fma"]])
def test_other_sets_need_a_folder_of_their_own(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "generate", *arguments]) == 2
    assert "give --out" in capsys.readouterr().err


def test_an_installed_npuvm_has_nothing_to_overwrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "data_root", lambda: tmp_path)
    assert main(["isa", "generate"]) == 2
    assert "give --out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_show_tells_encoding_meaning_and_operands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "show", "vfma", "-x", "fma"]) == 0
    shown = capsys.readouterr().out
    assert "opcode   0xc0, 2 words, format vtri, unit vector" in shown
    assert "dst = a * b + c" in shown
    assert "word1[31:24]" in shown
    assert main(["isa", "show", "li"]) == 0
    assert "sign_extend(word1[47:0])" in capsys.readouterr().out
    assert main(["isa", "show", "vmerge"]) == 0
    assert "feature  sort, which is off" in capsys.readouterr().out


def test_show_of_what_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "show", "vfoo"]) == 2
    assert capsys.readouterr().err == "npuvm: no instruction 'vfoo' in npu 1.0\n"


def test_map_shows_every_instruction_in_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "map"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line[0]: line.split()[1:] for line in lines if line[1:4] == "_  "}
    assert len(rows) == 16
    assert all(len(cells) == 16 for cells in rows.values())
    for instruction in load_isa().instructions.values():
        assert rows[f"{instruction.opcode:02x}"[0]][instruction.opcode % 16].strip("()") == instruction.name
    assert rows["0"][0] == "-"
    assert (rows["a"][0], rows["c"][0], rows["b"][0]) == ("ldx", "+", ".")
    assert "free for extensions: 64 of 256 (0xc0-0xff)" in lines


@pytest.mark.parametrize("file", ["isa/npu_v1.yaml", "isa/extensions/fma.yaml"])
def test_lint_of_what_is_right(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "lint", str(ROOT / file)]) == 0
    assert "nothing wrong" in capsys.readouterr().out


def test_lint_names_the_place_of_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    shutil.copy(ROOT / "isa" / "extensions" / "fma.yaml", file)
    text = file.read_text(encoding="utf-8")
    line = next(i for i, each in enumerate(text.splitlines(), 1) if "name: vfma," in each)
    file.write_text(text.replace("opcode: 0xc0", "opcode: 0x58"), encoding="utf-8")
    assert main(["isa", "lint", str(file)]) == 2
    assert capsys.readouterr().err == f"npuvm: {file}:{line}:5: vfma: opcode 0x58 is taken by vadd\n"


def test_lint_says_what_loads_and_is_wrong_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    file = ROOT / "tests" / "isa" / "generate" / "tiny.yaml"  # an operand of it lists a value that its range excludes
    assert main(["isa", "lint", str(file)]) == 2
    captured = capsys.readouterr()
    assert [line.partition(": ")[0] for line in captured.out.splitlines()] == [
        "lint/put/stanza/operands",
        "lint/putn/stanza/operands",
    ]
    assert captured.err == f"npuvm: {file}: 2 checks failed\n"


def test_lint_of_a_base_takes_no_base(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "lint", str(ROOT / "isa" / "npu_v1.yaml"), "--isa", "npu_v1"]) == 2
    assert "--isa is for extensions" in capsys.readouterr().err
    assert main(["isa", "lint", "nothing.yaml"]) == 2
    assert capsys.readouterr().err == "npuvm: nothing.yaml: no such file\n"


def test_lint_says_what_cannot_be_generated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    text = (ROOT / "isa" / "npu_v1.yaml").read_text(encoding="utf-8")
    assert text.count("values: {core: 0, group: 1,") == 1
    file.write_text(text.replace("values: {core: 0, group: 1,", "values: {core: 0, Core: 1,"), encoding="utf-8")
    assert main(["isa", "lint", str(file)]) == 2
    message = "npuvm: two constants of the generated package would be called VALUE_SCOPE_CORE\n"
    assert capsys.readouterr().err == message


def test_nothing_is_generated_of_a_set_that_lint_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ROOT / "tests" / "isa" / "generate" / "tiny.yaml"
    assert main(["isa", "generate", "--isa", str(file), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "npuvm: tiny 2.1: 2 checks failed\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("blocked", ["docs", "docs/reference/opcodes.md/in_the_way"])
def test_a_file_that_cannot_be_written_leaves_the_others_as_they_are(
    blocked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decoder = tmp_path / "hw" / "rtl" / "npu_decoder.sv"
    for path in (decoder, tmp_path / blocked):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old", encoding="utf-8")
    assert main(["isa", "generate", "--extension", "fma", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "cannot be written: " in error
    assert error.count("\n") == 1
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {decoder, tmp_path / blocked}
    assert decoder.read_text(encoding="utf-8") == "old"


def test_check_of_files_that_are_no_text_or_end_lines_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["isa", "generate", "--extension", "fma", "--out", str(tmp_path)]
    assert main(arguments) == 0
    (tmp_path / "docs" / "reference" / "isa.md").write_bytes(b"\xff\xfe")
    page = tmp_path / "docs" / "reference" / "opcodes.md"
    page.write_bytes(page.read_bytes().replace(b"\n", b"\r\n"))
    capsys.readouterr()
    assert main([*arguments, "--check"]) == 1
    out = capsys.readouterr().out
    assert "stale: docs/reference/isa.md\n" in out
    assert "stale: docs/reference/opcodes.md\ndiffers in its line ends only\n" in out
    assert out.endswith("7 files checked, 2 stale\n")

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.progress import Progress

from npuvm.cli.output import DelayedBar, OutputError, json_text, wide_console, write_atomic


def test_text_and_bytes_are_written_and_nothing_is_left_beside(tmp_path: Path) -> None:
    write_atomic(tmp_path / "deep/er/a.json", json.dumps({"grösse": 1}, ensure_ascii=False))
    write_atomic(tmp_path / "deep/er/a.bin", b"\0\xff")
    assert (tmp_path / "deep/er/a.json").read_text(encoding="utf-8") == '{"grösse": 1}'
    assert (tmp_path / "deep/er/a.bin").read_bytes() == b"\0\xff"
    assert sorted(path.name for path in (tmp_path / "deep/er").iterdir()) == ["a.bin", "a.json"]


def test_a_failure_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "result.json"
    write_atomic(target, "old")

    def full_disk(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OutputError, match=r"result\.json: cannot be written: No space left on device"):
        write_atomic(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match=r"out/a\.json: cannot be written"):
        write_atomic(tmp_path / "out" / "a.json", "{}")


def test_json_is_utf8_and_strict() -> None:
    assert json_text({"µs": [1]}) == '{\n  "µs": [\n    1\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(float("nan"))


def test_what_goes_to_a_pipe_is_wide_unless_columns_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert wide_console().width == 200
    monkeypatch.setenv("COLUMNS", "70")
    assert wide_console().width == 70


@pytest.mark.parametrize(("now", "enabled", "shown"), [(1.9, True, False), (2.1, True, True), (2.1, False, False)])
def test_the_bar_appears_after_two_seconds(
    now: float, enabled: bool, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, now])
    started: list[bool] = []
    monkeypatch.setattr(Progress, "start", lambda self: started.append(True))
    with DelayedBar("run", enabled, lambda: next(clock)) as bar:
        bar.update(1, 4, "second")
    assert bool(started) == shown
    assert capsys.readouterr().out == ""

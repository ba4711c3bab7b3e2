from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import typer

import npuvm.cli.main as module
from npuvm.cli import output
from npuvm.cli.main import main
from npuvm.cli.version import __version__
from npuvm.isa.errors import IsaError, NpuvmError


class RunError(NpuvmError):
    exit_code = 1


def app_that_raises(error: BaseException) -> Callable[..., Any]:
    def app(arguments: list[str], **_: object) -> None:
        assert "--debug" not in arguments
        raise error

    return app


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"npuvm {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_verbs(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for verb in (
        "simulate",
        "explore",
        "explain",
        "whatif",
        "asm",
        "disasm",
        "schema",
        "conformance",
        "area",
        "tune",
        "isa",
    ):
        assert verb in shown


@pytest.mark.parametrize("arguments", [["nosuchverb"], ["--nosuchoption"], ["simulate"], ["schema", "nonsense"]])
def test_wrong_usage_is_one_line_and_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("npuvm: ")
    assert captured.err.count("\n") == 1
    assert "--help" in captured.err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (IsaError("no such field", "x.yaml:3:1"), 2, "npuvm: x.yaml:3:1: no such field\n"),
        (RunError("deadlock"), 1, "npuvm: deadlock\n"),
        (MemoryError("256 GiB"), 1, "npuvm: this machine has too little memory for it: 256 GiB\n"),
        (KeyboardInterrupt(), 130, "npuvm: interrupted\n"),
        (typer.Abort(), 130, "npuvm: interrupted\n"),
        (ZeroDivisionError("a\nb"), 1, "npuvm: internal error: ZeroDivisionError: a b; rerun with --debug\n"),
    ],
)
def test_every_error_is_one_line(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "app", app_that_raises(error))
    assert main(["simulate"]) == code
    assert capsys.readouterr().err == line
    assert main(["simulate", "--debug"]) == code
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback") and shown.endswith(line)


def test_a_reader_that_goes_away_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "app", app_that_raises(BrokenPipeError()))
    redirected: list[int] = []
    monkeypatch.setattr("os.dup2", lambda _source, target: redirected.append(target))
    assert main(["simulate"]) == 1
    assert redirected
    assert capfd.readouterr().err == ""


def test_exit_code_of_a_verb_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "app", lambda *_, **__: 3)
    assert main(["simulate"]) == 3


def test_output_error_is_user_input() -> None:
    assert output.OutputError.exit_code == 2

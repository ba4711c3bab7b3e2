"""The `npuvm` command: collects the verbs, and turns every error into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from npuvm.cli.area import area
from npuvm.cli.asm import asm
from npuvm.cli.compiling import compile_file
from npuvm.cli.conformance import conformance
from npuvm.cli.coverage import coverage
from npuvm.cli.disasm import disasm
from npuvm.cli.explain import explain
from npuvm.cli.explore import explore_app
from npuvm.cli.isa import isa_app
from npuvm.cli.run import run
from npuvm.cli.schema import schema
from npuvm.cli.simulate import simulate
from npuvm.cli.tune import tune
from npuvm.cli.version import __version__
from npuvm.cli.whatif import whatif
from npuvm.isa.errors import NpuvmError

__all__ = ["app", "main"]

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_DEBUG = "--debug"

app = typer.Typer(
    name="npuvm",
    help="Simulate, program and explore NPUs that are described by two YAML files.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


for _verb in (run, coverage, simulate, explain, whatif, asm, disasm, schema, conformance, area, tune):
    app.command()(_verb)
app.command("compile")(compile_file)
app.add_typer(isa_app, name="isa")
app.add_typer(explore_app, name="explore")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"npuvm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _debug: Annotated[bool, typer.Option(_DEBUG, help="Show the traceback of an error.")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Simulate, program and explore NPUs that are described by two YAML files."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of the process) and return its exit code.

    0: done; 2: the user's input is wrong; 1: the run failed; 130: interrupted. An error is one line on stderr; with
    `--debug`, anywhere among the arguments, its traceback stands before that line.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = _DEBUG in words
    verb_and_options = [word for word in words if word != _DEBUG] or ["--help"]
    try:
        result = app(verb_and_options, prog_name="npuvm", standalone_mode=False)
    except typer.TyperException as exc:
        context: typer.Context | None = getattr(exc, "ctx", None)
        command = context.command_path if context else "npuvm"
        return _fail(f"{_one_line(exc.format_message()).rstrip('.')} (see '{command} --help')", EXIT_USAGE)
    except NpuvmError as exc:
        _trace(debug)
        return _fail(str(exc), exc.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _trace(debug)
        return _fail("interrupted", EXIT_INTERRUPTED)
    except MemoryError as exc:
        _trace(debug)
        return _fail(f"this machine has too little memory for it: {_one_line(str(exc))}", EXIT_FAILURE)
    except BrokenPipeError:  # the reader of our output went away (`npuvm ... | head`); nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except Exception as exc:  # noqa: BLE001 - the last stop before a traceback that means nothing to a user
        _trace(debug)
        return _fail(f"internal error: {type(exc).__name__}: {_one_line(str(exc))}; rerun with --debug", EXIT_FAILURE)
    return result if isinstance(result, int) else 0


def _trace(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        typer.echo(f"npuvm: {line}", err=True)
    return code

"""The examples in the documents run, so that a reader who copies them is not misled."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml

from npuvm.cli.main import app, main
from npuvm.compiler.native.loading import unload_native
from npuvm.hw.config import load_chip
from npuvm.hw.rtl import find_simulator
from npuvm.hw.rtl.yosys import find_yosys
from npuvm.runtime.scenarios.report import Header, Progress, ScenarioReport
from npuvm.runtime.scenarios.schema import Scenario

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^```(?P<language>\w+) *(?P<about>[^\n]*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
_COMMAND = re.compile(r"\bnpuvm (?P<verb>(?:isa |explore (?=pick|compare|report))?[a-z]+)(?P<rest>[^\n`#]*)")
_VARIES = re.compile(r"\(measured\)|processes take about")
"""In lines that are not the same on every machine."""
_OPTION = re.compile(r"(?<![\w-])--?[a-z][\w-]*")


class Block(NamedTuple):
    """One fenced block: the page, the line of its first line of text, what stands behind the fence, and the text."""

    page: str
    line: int
    language: str
    about: str
    body: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start("body")) + 1
            yield Block(str(page.relative_to(ROOT)), line, match["language"], match["about"], match["body"])


def commands(block: Block) -> list[str]:
    """The `$ npuvm ...` lines of a console block, with lines that end in a backslash joined."""
    joined = block.body.replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ npuvm ")]


def shown_after(block: Block) -> Iterator[Block]:
    """What a page shows of a console block's results: text that is "printed", and files by their paths."""
    following = [each for each in blocks() if each.page == block.page and each.line > block.line]
    for each in takewhile(lambda each: each.language != "console", following):
        if each.about:
            yield each


def pieces(text: str) -> list[str]:
    """What is shown, however lines are broken, without empty lines and those that are not the same on every machine."""
    lines = ["\n" if _VARIES.search(line) else line for line in text.splitlines(keepends=True)]
    return [" ".join(piece.split()) for piece in re.split(r"\n\s*\n", "".join(lines)) if piece.strip()]


def is_part(part: Any, whole: Any) -> bool:
    """Whether a mapping has the keys of a part with values that have its values as parts."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(value, whole[key]) for key, value in part.items())
    return bool(part == whole)


PYTHON_PAGES = sorted({block.page for block in blocks() if block.language == "python"})
CONSOLE = [block for block in blocks() if block.language == "console" and commands(block)]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the clone to a command and takes what the command writes."""
    for name in ("configs", "isa"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = _LINK.findall(page.read_text(encoding="utf-8"))
    assert not [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", PYTHON_PAGES)
@pytest.mark.usefixtures("workplace")
def test_python_examples_run(page: str) -> None:
    """The blocks of a page run in order and share their names, as for someone who reads from the top."""
    names: dict[str, object] = {"__name__": "__example__"}
    try:
        for block in blocks():
            if block.page == page and block.language == "python":
                exec(compile("\n" * (block.line - 1) + block.body, str(ROOT / page), "exec"), names)
    finally:
        unload_native()


@pytest.mark.parametrize("block", CONSOLE, ids=str)
@pytest.mark.usefixtures("workplace")
def test_commands_run(block: Block, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command runs, but for the simulation itself: that its scenario, chip and overrides load is checked here.

    What the page shows as printed is printed, and what it shows of files stands in them.
    """
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # in this process, which has imported everything
    monkeypatch.setattr("npuvm.cli.simulate.run_scenario", load_only)
    monkeypatch.setattr("npuvm.cli.simulate_extras.Extras.finish", lambda *_: None)  # there are no launches
    for command in commands(block):
        if (missing := missing_tool(command)) is not None:
            pytest.skip(f"{command}: {missing}")
        words = shlex.split(command, comments=True)[1:]
        assert main([part for word in words for part in expand(word)]) == 0, command
    printed = " ".join(capsys.readouterr().out.split())
    for shown in shown_after(block):
        if shown.about == "printed":
            assert [piece for piece in pieces(shown.body) if piece not in printed] == [], str(shown)
        else:
            assert is_part(yaml.safe_load(shown.body), yaml.safe_load(Path(shown.about).read_text("utf-8"))), str(shown)


def missing_tool(command: str) -> str | None:
    """What a command of a page needs and this machine lacks."""
    if command.startswith(("npuvm isa area", "npuvm isa prove")):
        return find_yosys().missing
    return find_simulator("icarus").missing if "--target rtl" in command else None


def load_only(
    scenario: Scenario,
    chip: str | None,
    overrides: Sequence[str],
    timing_only: bool,
    _progress: Progress,
    **_options: object,
) -> ScenarioReport:
    loaded = load_chip(chip or scenario.chip, overrides)
    return ScenarioReport(Header(scenario.name, scenario.title, loaded.name, "", "", {}, timing_only))


def expand(word: str) -> list[str]:
    """A word as the shell gives it: the files that a pattern matches, or itself."""
    return sorted(str(path) for path in Path().glob(word)) if "*" in word else [word]


def options_of(command: Any, name: str = "") -> Iterator[tuple[str, set[str]]]:
    """The options of every verb; the command itself has the empty name."""
    yield name, {option for each in command.params for option in (*each.opts, *each.secondary_opts) if option[0] == "-"}
    for verb, each in getattr(command, "commands", {}).items():
        yield from options_of(each, f"{name} {verb}".strip())


OPTIONS = dict(options_of(typer.main.get_command(app)))
OPTIONS["explore"] |= OPTIONS["explore search"]  # what it does without a verb of its own


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_in_pages_are_those_of_the_verb(page: Path) -> None:
    """Also where the command is not run: in a sentence, or in a block that shows its form."""
    for found in _COMMAND.finditer(page.read_text(encoding="utf-8")):
        known = OPTIONS.get(found["verb"], set()) | OPTIONS[""] | {"--help", "-h"}
        assert found["verb"] not in OPTIONS or set(_OPTION.findall(found["rest"])) <= known, found[0]


def test_every_option_is_told_in_some_page() -> None:
    told = set(_OPTION.findall("\n".join(page.read_text(encoding="utf-8") for page in PAGES)))
    long = {option for options in OPTIONS.values() for option in options if option.startswith("--")}
    assert long - told - {"--units"} == set()  # what --no-units takes away


def test_the_readme_shows_the_two_commands() -> None:
    shown = "\n".join(block.body for block in blocks() if block.page == "README.md" and block.language == "console")
    assert "$ make simulate" in shown
    assert "$ make test" in shown

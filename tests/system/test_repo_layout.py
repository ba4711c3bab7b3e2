"""What must hold for the repository as a whole, whoever changes it."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PORTIONS = ("isa", "hw", "compiler", "runtime", "explore", "cli")
MAX_MODULE_LINES = 500

_MACHINE_PATH = re.compile(r"(?<![\w.$}~])/(?:home|root|Users|work|tmp|opt|mnt)/\w")
_REGISTRY = re.compile(
    r"https?://[^\s)\"']*(?:pypi|pythonhosted|registry|index)[^\s)\"']*|--(?:extra-)?index-url|--find-links"
)


def tracked_files() -> list[Path]:
    """Files that git tracks and that are there (one may be deleted and not yet committed)."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True, text=True
    ).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str | None:
    """The file's text, or None for a binary file."""
    data = path.read_bytes()
    return None if b"\0" in data else data.decode("utf-8")


def test_the_namespace_has_no_init() -> None:
    found = [path for portion in PORTIONS for path in (ROOT / portion).glob("npuvm/__init__.py")]
    assert not found, "an __init__.py in one portion hides the other five"


@pytest.mark.parametrize("portion", PORTIONS)
def test_every_portion_is_a_typed_package(portion: str) -> None:
    package = ROOT / portion / "npuvm" / portion
    assert (package / "__init__.py").is_file()
    assert (package / "py.typed").is_file()


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for portion in PORTIONS for path in (ROOT / portion / "npuvm" / portion).rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_the_compiler_is_found_by_its_folders() -> None:
    package = ROOT / "compiler" / "npuvm" / "compiler"
    assert {path.name for path in package.glob("*.py")} == {"__init__.py", "errors.py"}
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = page.split("## Find the place in the compiler")[1].split("\n## ")[0]
    told = re.findall(r"`(\w+)/`", "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|")))
    assert sorted(told) == sorted(folders), "the table of folders in CONTRIBUTING.md"


@pytest.mark.parametrize("portion", ["hw", "compiler", "runtime", "explore"])
def test_tests_lie_in_the_folders_of_what_they_test(portion: str) -> None:
    folders = {path.parent.name for path in (ROOT / portion / "npuvm" / portion).glob("*/__init__.py")}
    tests = {path.name for path in (ROOT / "tests" / portion).iterdir() if any(path.rglob("*.py"))}
    assert {name for name in tests if "." not in name} <= folders | {"properties"}


def test_modules_stay_small() -> None:
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in tracked_files()
        if path.suffix == ".py"
    }
    assert lines
    assert not {name: count for name, count in lines.items() if count > MAX_MODULE_LINES}


def test_no_file_names_a_machine_path_or_a_registry() -> None:
    offenders = []
    for path in tracked_files():
        text = text_of(path)
        if text is None or path == Path(__file__).resolve():
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if _MACHINE_PATH.search(line) or _REGISTRY.search(line):
                offenders.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not offenders


def test_constraints_are_pins_and_nothing_else() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert lines == sorted(lines, key=lambda line: line.partition("==")[0])
    assert not [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)]


def test_ci_entry_point_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_compiler_loads_without_the_simulator() -> None:
    """Compiling needs a chip's numbers; it must not pay for, or come to lean on, the simulation."""
    code = "import sys, npuvm.compiler; print([m for m in sys.modules if m.startswith(('simpy', 'npuvm.hw'))])"
    path = os.pathsep.join(str(ROOT / portion) for portion in PORTIONS)
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ).stdout
    assert "simpy" not in loaded
    assert "npuvm.hw.engine.chip" not in loaded


def test_no_public_name_hides_a_module() -> None:
    """A package that exports a function named like one of its modules makes the module unreachable as an attribute."""
    hidden = []
    for portion in PORTIONS:
        for init in (ROOT / portion / "npuvm" / portion).rglob("__init__.py"):
            package = init.relative_to(ROOT / portion).parent.as_posix().replace("/", ".")
            public = set(getattr(importlib.import_module(package), "__all__", ()))
            modules = {path.stem for path in init.parent.iterdir() if path.suffix == ".py" or path.is_dir()}
            hidden += [f"{package}.{name}" for name in sorted(public & modules)]
    assert not hidden

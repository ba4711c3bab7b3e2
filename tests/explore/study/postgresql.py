"""A PostgreSQL server of a test's own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["find_programs", "running_server"]

_USER = "nobody"
"""Who runs the server where the tests run as root, which it refuses."""


def find_programs() -> Path | None:
    """The folder of initdb, pg_ctl and postgres; Debian has them beside the path."""
    named = shutil.which("initdb")
    beside = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = [*([] if named is None else [Path(named).resolve()]), *beside]
    return found[-1].parent if found else None


@contextmanager
def running_server(programs: Path) -> Iterator[str]:
    """A server that listens at a socket in a folder of its own, as the URL of its only database; user and database "npuvm"."""
    # Not below tmp_path: the names of sockets have at most 107 bytes, and another user must get there.
    with tempfile.TemporaryDirectory(prefix="npuvm_") as name:
        as_user: dict[str, Any] = {"cwd": name}
        if os.geteuid() == 0:
            person = pwd.getpwnam(_USER)
            os.chown(name, person.pw_uid, person.pw_gid)
            as_user |= {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}

        def call(program: str, *words: str) -> None:
            done = subprocess.run([programs / program, *words], capture_output=True, text=True, check=False, **as_user)
            assert done.returncode == 0, done.stdout + done.stderr

        data = ["-D", f"{name}/data"]
        call("initdb", *data, "--username=npuvm", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
        options = f"-k {name} -c listen_addresses='' -F"
        call("pg_ctl", "start", *data, "--wait", f"--log={name}/log", f"--options={options}")
        try:
            call("createdb", f"--host={name}", "--username=npuvm", "npuvm")
            yield f"postgresql+psycopg://npuvm:secret@/npuvm?host={name}"
        finally:
            call("pg_ctl", "stop", *data, "--wait", "--mode=immediate")

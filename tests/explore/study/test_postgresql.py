"""Studies in a storage of which others than npuvm take care."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.explore.study.kit import TEXT, WANTED, Quick, fork, kept, search, small_space
from tests.explore.study.postgresql import find_programs, running_server

from npuvm.cli import explore
from npuvm.cli.main import main
from npuvm.explore.study import InProcess, Study, StudyError, read_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is missing (on Debian and Ubuntu: apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is missing (pip install 'npuvm[postgresql]')")
    with running_server(programs) as url:
        yield url


def test_a_search_that_is_killed_finds_what_one_finds_in_a_file(server: str, tmp_path: Path) -> None:
    whole = str(tmp_path / "whole.sqlite")
    search(whole, "nsga2")
    known: list[list[tuple[object, ...]]] = [[]]
    for _ in range(3):
        child = fork(lambda: search(server, "nsga2", 0.02))
        while len(now := kept(server)) == len(known[-1]):
            time.sleep(0.01)  # so that each of them gets on
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        known.append(now)
    assert len(known[-1]) < WANTED
    search(server, "nsga2")
    known.append(kept(server))
    assert known[-1] == kept(whole)
    assert all(set(before) <= set(after) for before, after in pairwise(known))


def test_the_command_goes_on_in_a_database(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(explore, "_executor", lambda *_: InProcess(Quick()))
    (tmp_path / "second.yaml").write_text(TEXT.replace("name: small", "name: second"), encoding="utf-8")
    begin = ["explore", "second.yaml", "--storage", server]
    assert main([*begin, "-q", "-n", "4"]) == 0
    assert main([*begin, "-n", "8"]) == 0
    assert "evaluated: 8" in capsys.readouterr().out
    assert main(["explore", "report", "--storage", server, "--study", "second"]) == 0
    assert "evaluated: 8" in capsys.readouterr().out
    assert main([*begin, "--seed", "9"]) == 2
    told = capsys.readouterr().err
    assert "npuvm:***@/npuvm" in told
    assert "the study there has seed 5; --fresh forgets it" in told
    assert main([*begin, "-q", "-n", "2", "--fresh"]) == 0
    assert len(read_study(server, "second").entries) == 2
    assert "secret" not in told


def test_a_database_that_is_not_there(server: str) -> None:
    for url, reason in (
        (server.replace("/npuvm?", "/other?"), r'database "other" does not exist'),
        (f"{server}/none", "No such file or directory"),
    ):
        for attempt in (lambda url=url: Study.open(small_space(), url), lambda url=url: read_study(url)):
            with pytest.raises(StudyError, match=f"no storage for a study: .*{reason}") as told:
                attempt()
            assert "secret" not in str(told.value)
            assert "sqlalche.me" not in str(told.value)

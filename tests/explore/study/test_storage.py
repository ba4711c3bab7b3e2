"""What can go wrong with the file or the database of a study, before a search and while it writes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.explore.study.kit import Quick, small_space

from npuvm.explore.study import Entry, InProcess, Study, StudyError, StudyFailure, read_study


def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mails.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table mails (text)")
    before = file.read_bytes()
    with pytest.raises(
        StudyError, match=r"mails.sqlite: the file is another program's database; give another --storage"
    ):
        Study.open(small_space(), str(file))
    with pytest.raises(StudyError, match="no study there"):
        read_study(str(file))
    assert file.read_bytes() == before


def test_all_signs_of_a_path_mean_themselves(tmp_path: Path) -> None:
    file = tmp_path / "a b?c#d%20{e}.sqlite"
    with Study.open(small_space(), str(file)) as study:
        study.run(1, InProcess(Quick()))
    assert file.is_file()
    assert len(read_study(str(file)).entries) == 1


def test_a_storage_that_takes_no_more_points_ends_the_search(tmp_path: Path) -> None:
    file = str(tmp_path / "small.sqlite")

    def fill(entry: Entry) -> None:
        if entry.number == 2:
            with study._storage.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA query_only = 1")

    with Study.open(small_space(), file) as study:
        message = r"small.sqlite: a point cannot be kept: attempt to write a readonly database; 3 points are kept"
        with pytest.raises(StudyFailure, match=message):
            study.run(8, InProcess(Quick()), fill)
    assert len(read_study(file).entries) == 3


def test_a_file_that_is_removed_ends_the_search(tmp_path: Path) -> None:
    file = tmp_path / "small.sqlite"
    with (
        Study.open(small_space(), str(file)) as study,
        pytest.raises(StudyFailure, match=r"small.sqlite: the file was removed while the search wrote it"),
    ):
        study.run(8, InProcess(Quick()), lambda entry: file.unlink())

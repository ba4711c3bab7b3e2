"""Coverage is off while an uncounted function runs, and on again after it, whatever it does."""

from __future__ import annotations

import sys
from pathlib import Path

import coverage
import pytest
from tests.compiler.uncounted import uncounted

SOURCE = """
def counted():
    return 1

def beside():
    return 2

def broken():
    raise ValueError("broken")

def counted_after():
    return 3
"""


def test_only_what_is_counted_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines_of_mine.py"
    path.write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    outer = coverage.Coverage.current()
    if outer is not None:
        outer.stop()
    counting = coverage.Coverage(data_file=None, include=[str(path)], config_file=False)
    counting.start()
    try:
        import lines_of_mine  # type: ignore[import-not-found]

        assert lines_of_mine.counted() + uncounted(lines_of_mine.beside)() == 3
        with pytest.raises(ValueError, match="broken"):
            uncounted(lines_of_mine.broken)()
        assert lines_of_mine.counted_after() == 3
    finally:
        counting.stop()
        sys.modules.pop("lines_of_mine", None)
        if outer is not None:
            outer.start()
    assert counting.get_data().lines(str(path)) is not None
    missing = counting.analysis(str(path))[2]
    assert missing == [6, 9]


def test_without_coverage_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage.Coverage, "current", lambda: None)
    assert uncounted(divmod)(7, 2) == (3, 1)

"""The plugin that counts lines finds those that coverage.py finds by tracing, and changes nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FunctionType, ModuleType

import coverage
import pytest
from tests.line_counts import Counting

SOURCE = '''"""A module with every kind of statement."""
from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import (
    cache,
    wraps,
)

TABLE = {
    "a": 1,
    "b": [each for each in range(3)
          if each],
}


def plain(function):
    @wraps(function)
    def inner(*args):
        """Text only."""
        return function(*args)
    return inner


@dataclass(frozen=True)
class Pair:
    """Two numbers."""

    left: int
    right: int = 0

    @property
    @plain
    def sum(self) -> int:
        """Their sum."""
        return self.left + self.right

    def never(self):
        return self.left


def fits(value):
    match value:
        case 0 | 1:
            return "small"
        case [first, *_] if first:
            return "list"
        case {"key": found}:
            return found
        case Pair(left=3):
            return "three"
        case _:
            return "none"


def fails(kind):
    try:
        if kind == 0:
            return {}[1]
        elif kind == 1:
            return [][1]
        elif kind == 2:
            raise ValueError(
                "two"
            )
        else:
            pass
    except KeyError:
        return "key"
    except (IndexError, AttributeError) as error:
        return str(error)
    except TypeError:
        return "type"
    except ValueError:
        try:
            raise
        except:
            return "bare"
    else:
        kind += 1
    finally:
        TABLE["c"] = kind
    return kind


def groups():
    try:
        raise ExceptionGroup("all", [KeyError(1)])
    except* TypeError:
        return_ = 1
    except* KeyError:
        return_ = 2
    return return_


def loops(count):
    total = 0
    for each in range(count):
        if each == 3:
            continue
        while total < each:
            total += 1
        else:
            total += 10
    else:
        total += 100
    with suppress(KeyError), suppress(
        IndexError
    ):
        del TABLE["d"]
        total = 0
    return lambda: (
        total
    )


def generates(count):
    seen = yield
    while True:
        if (yield from (each for each in range(count))):
            return
        if seen:
            break
    yield 1


async def waits():
    async with never():
        pass
    async for each in never():
        await each


def counter():
    total = 0

    def add():
        nonlocal total
        global TABLE
        total += 1
        return total

    return add


@cache
def squares(n: int) -> int: return n * n


if TABLE: ALSO = 1; BESIDE = 2
assert TABLE, "not empty"
'''
"""Some of it runs under `use`, some never."""


def use(module: ModuleType) -> list[object]:
    """What the module computes."""
    pair = module.Pair(1, 2)
    steps = module.generates(1)
    return [
        module.__doc__,
        module.Pair.__doc__,
        pair.sum,
        *(module.fits(value) for value in (1, [2], {"key": 7}, pair)),
        *(module.fails(kind) for kind in (0, 1, 2)),
        module.groups(),
        module.loops(5)(),
        [next(steps), next(steps)],
        module.counter()(),
        module.squares(3),
        module.ALSO,
        module.fits.__code__.co_firstlineno,
    ]


def missing(path: Path, lines: dict[str, list[int]]) -> list[int]:
    """The statements of a file that coverage.py misses among the lines that ran."""
    report = coverage.Coverage(data_file=None, config_file=False)
    report.get_data().add_lines(lines)
    return report.analysis(str(path))[2]


def load(path: Path, counting: Counting) -> ModuleType:
    module = ModuleType(path.stem)
    counting.run(path.read_bytes(), module, str(path))
    return module


def test_the_lines_are_those_of_a_tracer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines_of_mine.py"
    path.write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    tracer = coverage.Coverage(data_file=None, include=[str(path)], config_file=False)
    tracer.start()
    try:
        import lines_of_mine  # type: ignore[import-not-found]

        expected = use(lines_of_mine)
    finally:
        tracer.stop()
        sys.modules.pop("lines_of_mine", None)
    traced = tracer.analysis(str(path))[2]
    assert len(traced) > 10

    counting = Counting([tmp_path])
    sys.meta_path.insert(0, counting)
    try:
        import lines_of_mine

        assert use(lines_of_mine) == expected
    finally:
        sys.meta_path.remove(counting)
        sys.modules.pop("lines_of_mine", None)
    assert missing(path, counting.lines()) == traced


def test_only_the_rooms_are_counted(tmp_path: Path) -> None:
    counting = Counting([tmp_path / "counted"])
    for room in ("counted", "other"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "module.py").touch()
    assert counting.find_spec("module", [str(tmp_path / "other")]) is None
    found = counting.find_spec("module", [str(tmp_path / "counted")])
    assert found is not None and found.origin == str(tmp_path / "counted" / "module.py")


def test_a_module_that_runs_again_keeps_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "again.py"
    path.write_text("def first():\n    return 1\n\ndef second():\n    return 2\n", encoding="utf-8")
    counting = Counting([tmp_path])
    load(path, counting).first()
    assert missing(path, counting.lines()) == [5]
    load(path, counting).second()
    assert missing(path, counting.lines()) == []


def test_errors_name_the_line_of_the_source(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text("def wrong():\n    text = 'a'\n    return (\n        text.missing\n    )\n", encoding="utf-8")
    wrong: FunctionType = load(path, Counting([tmp_path])).wrong
    with pytest.raises(AttributeError) as caught:
        wrong()
    assert caught.traceback[-1].lineno == 3

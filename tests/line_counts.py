"""Counts the lines of the source rooms that tests run, for coverage: a plugin of pytest (`-p tests.line_counts`).

Every statement of a module is preceded by one that notes it, `__lines__[7] = True`, when the module is imported. That costs a
fifth of the time at most, where tracing, which Python 3.11 leaves to coverage.py, takes three times as long. Which lines
there are to run, and the table of them, is coverage.py's.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from io import StringIO
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

import coverage
import pytest

__all__ = ["Counting", "counted"]

_NAME = "__lines__"
"""The global of a counted module: for each of its lines whether it ran, from line 0 on."""

_COMPILING = ("npuvm.hw.compiled.machine_code", "npuvm.compiler.native.compiling")
"""The modules by which functions are compiled: they and what they call are given to numba as they stand in the source."""


class _Counter(ast.NodeTransformer):
    """Puts a note before every statement, in front of the classes of every `except` and the pattern of every `case`."""

    def notes(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        """The statements, each behind its note; imports from the future before theirs, and a docstring has none."""
        first = [part for at, part in enumerate(body) if _is_future(part) or (at == 0 and _is_text(part))]
        found = [*first, *(note for part in first if _is_future(part) for note in _notes(part))]
        for statement in body[len(first) :]:
            found += [*_notes(statement), self.visit(statement)]
        return found

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.expr):
            return node
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, name, self.notes(value))
            elif isinstance(value, list) and value and isinstance(value[0], ast.ExceptHandler):
                setattr(node, name, [self.handler(handler) for handler in value])
            elif isinstance(value, list) and value and isinstance(value[0], ast.match_case):
                setattr(node, name, [part for case in value for part in self.cases(case)])
        return node

    def handler(self, handler: ast.ExceptHandler) -> ast.ExceptHandler:
        """The handler; its line is noted when its classes are looked up, that of a bare `except` when it begins."""
        handler.body = self.notes(handler.body)
        if handler.type is None:
            handler.body.insert(0, _at(ast.Expr(_noting(handler)), handler))
        else:
            handler.type = _at(ast.BoolOp(ast.Or(), [_noting(handler), handler.type]), handler)
        return handler

    def cases(self, case: ast.match_case) -> list[ast.match_case]:
        """The case behind one that never fits and notes the line."""
        case.body = self.notes(case.body)
        pattern = case.pattern
        return [ast.match_case(_at(ast.MatchAs(), pattern), _noting(pattern), [_at(ast.Pass(), pattern)]), case]


def _at(node: Any, where: ast.stmt | ast.pattern | ast.ExceptHandler) -> Any:
    """The node and all that is new below it, said to stand where `where` begins."""
    for part in ast.walk(node):
        if "lineno" in part._attributes and not hasattr(part, "lineno"):
            part.lineno = part.end_lineno = where.lineno  # type: ignore[attr-defined]
            part.col_offset = part.end_col_offset = where.col_offset  # type: ignore[attr-defined]
    return node


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_future(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _lines(context: ast.expr_context) -> ast.Name:
    return ast.Name(_NAME, context)


def _notes(statement: ast.stmt) -> list[ast.stmt]:
    """`__lines__[line] = True` for the line where the statement begins, and before it for that of each decorator."""
    lines = [*(each.lineno for each in getattr(statement, "decorator_list", [])), statement.lineno]
    places = [ast.Subscript(_lines(ast.Load()), ast.Constant(line), ast.Store()) for line in lines]
    return [_at(ast.Assign([place], ast.Constant(True)), statement) for place in places]


def _noting(node: ast.pattern | ast.ExceptHandler) -> ast.expr:
    """`__lines__.__setitem__(line, True)`, an expression; None."""
    function = ast.Attribute(_lines(ast.Load()), "__setitem__", ast.Load())
    return cast("ast.expr", _at(ast.Call(function, [ast.Constant(node.lineno), ast.Constant(True)], []), node))


def counted(text: bytes, path: str) -> tuple[CodeType, int]:
    """The code of a module that notes its lines in its global `__lines__`, and how long that list has to be."""
    tree = ast.parse(text, path)
    tree.body = _Counter().notes(tree.body)
    return compile(tree, path, "exec", dont_inherit=True), text.count(b"\n") + 2


def _functions(code: CodeType) -> Iterator[CodeType]:
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield part
            yield from _functions(part)


class Counting(MetaPathFinder):
    """Imports the modules below some folders so that they note their lines."""

    def __init__(self, rooms: Sequence[Path]) -> None:
        self.rooms = [room.resolve() for room in rooms]
        self._noted: dict[str, list[bool]] = {}

    def lines(self) -> dict[str, list[int]]:
        """The lines that ran so far, for each file that was imported."""
        return {path: [line for line, ran in enumerate(noted) if ran] for path, noted in self._noted.items()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module as Python itself finds it, with a loader of ours; None for one that is not counted."""
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader or not self.counts(spec.loader.path):
            return None
        spec.loader = _Loader(self, spec.loader.name, spec.loader.path)
        return spec

    def counts(self, path: str) -> bool:
        """Whether the lines of this file are counted."""
        return any(Path(path).resolve().is_relative_to(room) for room in self.rooms)

    def run(self, text: bytes, module: ModuleType, path: str) -> None:
        """Run the text of a module with its lines noted; when it is imported again, beside those noted before."""
        code, size = counted(text, path)
        vars(module)[_NAME] = self._noted.setdefault(path, [False] * size)
        if module.__name__ in _COMPILING:
            self._give_sources_to_numba()
        exec(code, vars(module))

    def _give_sources_to_numba(self) -> None:
        import numba

        compiled = numba.njit

        def plain(function: FunctionType) -> FunctionType:
            if self.counts(function.__code__.co_filename):
                function.__code__ = _as_in_source(function.__code__)
            return function

        @wraps(compiled)
        def njit(given: Any = None, **options: Any) -> Any:
            if isinstance(given, FunctionType):
                return compiled(plain(given), **options)
            # Options, or the types of arguments, before the function.
            decorate = compiled(given, **options)
            return lambda function: decorate(plain(function))

        vars(numba)["njit"] = njit


class _Loader(SourceFileLoader):
    def __init__(self, counting: Counting, name: str, path: str) -> None:
        super().__init__(name, path)
        self.counting = counting

    def exec_module(self, module: ModuleType) -> None:
        self.counting.run(self.get_data(self.path), module, self.path)


def _as_in_source(code: CodeType) -> CodeType:
    """The code of the same function without notes."""
    path = code.co_filename
    (found,) = (
        part
        for part in _functions(compile(Path(path).read_bytes(), path, "exec", dont_inherit=True))
        if (part.co_qualname, part.co_firstlineno) == (code.co_qualname, code.co_firstlineno)
    )
    return found


class Plugin:
    """Counts in the process that runs tests, under xdist in each of them; the main one gathers and prints the table."""

    def __init__(self, root: Path) -> None:
        self._coverage = coverage.Coverage(config_file=str(root / "pyproject.toml"))
        self._rooms = [root / room for room in cast("list[str]", self._coverage.get_option("run:source"))]
        self._counting = Counting(self._rooms)
        self._lines: dict[str, set[int]] = {}

    def start(self) -> None:
        """Count what is imported from now on."""
        imported = [name for name in sys.modules if name.startswith("npuvm.")]
        if imported:
            raise pytest.UsageError(f"imported before lines are counted: {', '.join(imported)}")
        sys.meta_path.insert(0, self._counting)

    def _gather(self, lines: dict[str, list[int]]) -> None:
        for path, ran in lines.items():
            self._lines.setdefault(path, set()).update(ran)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
        if output is None:
            self._gather(self._counting.lines())
        else:
            output["lines"] = self._counting.lines()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """What a worker of xdist counted; one that broke down has nothing to tell."""
        self._gather(getattr(node, "workeroutput", {}).get("lines", {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        data = self._coverage.get_data()
        data.erase()
        data.add_lines(self._lines)
        data.touch_files([str(path) for room in self._rooms for path in room.rglob("*.py")])
        self._coverage.save()
        terminalreporter.section("lines that no test ran")
        table = StringIO()
        self._coverage.report(file=table)
        terminalreporter.write(table.getvalue())


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    plugin = Plugin(early_config.rootpath)
    plugin.start()
    early_config.pluginmanager.register(plugin, "line-counts")

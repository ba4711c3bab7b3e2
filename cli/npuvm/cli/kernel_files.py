"""Kernels in Python files, named on the command line, and the shapes of their parameters."""

from __future__ import annotations

import re
import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from npuvm.compiler import CompileError, Kernel, Stack
from npuvm.isa.errors import NpuvmError

__all__ = ["load_kernel", "parse_shapes"]

_SHAPE = re.compile(r"([A-Za-z_]\w*)=((?:\d+(?:x\d+)*)?)")


def load_kernel(source: str) -> Kernel | Stack:
    """The kernel or stack that "FILE.py" or "FILE.py:NAME" means; the file is run as a module, not as a script.

    CompileError when there is no such file or kernel, when several could be meant, or when the file itself fails.
    """
    file, _, name = source.rpartition(":") if not Path(source).exists() and ":" in source else (source, "", "")
    path = Path(file)
    if not path.is_file():
        raise CompileError("no such file; give FILE.py or FILE.py:KERNEL", file)
    kernels = _kernels_of(path)
    names = ", ".join(kernels) or "none"
    if name:
        if name not in kernels:
            raise CompileError(f"no kernel {name!r}; kernels: {names}", file)
        return kernels[name]
    if len(kernels) != 1:
        raise CompileError(f"{len(kernels)} kernels; name one as {file}:KERNEL of: {names}", file)
    return next(iter(kernels.values()))


def _kernels_of(path: Path) -> dict[str, Kernel | Stack]:
    spec = spec_from_file_location("npuvm_kernel_file", path.resolve())
    if spec is None or spec.loader is None:
        raise CompileError("not a Python file: its name must end in .py", str(path))
    module = module_from_spec(spec)
    # Dataclasses and others look their module up by name while it runs.
    sys.modules[spec.name] = module
    # Nothing is left beside the file, and nothing stale is read when it is edited twice in a second.
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except NpuvmError:
        raise
    except (Exception, SystemExit) as exc:
        raise CompileError(f"{type(exc).__name__}: {' '.join(str(exc).split())}", _place(exc, path)) from exc
    finally:
        sys.dont_write_bytecode = kept
        del sys.modules[spec.name]
    return {name: value for name, value in vars(module).items() if isinstance(value, Kernel | Stack)}


def _place(exc: BaseException, path: Path) -> str:
    """The last line of the file itself that was at work."""
    if isinstance(exc, SyntaxError) and exc.lineno is not None:
        return f"{path}:{exc.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(exc.__traceback__) if Path(frame.filename) == path.resolve()
    ]
    return f"{path}:{lines[-1]}" if lines else str(path)


def parse_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """Shapes from "x=128x512, w=512", with commas or blanks between; "s=" is a scalar. CompileError says what is wrong."""
    shapes: dict[str, tuple[int, ...]] = {}
    for word in re.split(r"[,\s]+", text.strip(", \t\n")) if text.strip(", \t\n") else ():
        match = _SHAPE.fullmatch(word)
        if match is None:
            raise CompileError(f"{word!r} is no shape; a shape is NAME=SIZExSIZE, for example x=128x512", "--shapes")
        name, sizes = match.groups()
        if name in shapes:
            raise CompileError(f"parameter {name!r} is given twice", "--shapes")
        shapes[name] = tuple(int(size) for size in sizes.split("x")) if sizes else ()
    return shapes

"""Assembler: text to images and instructions. It reads what the disassembler prints, and more freely written text.

Beyond the canonical form it takes comments (`#`), blank lines, any indentation, operands in any order, numbers in decimal, hex
or binary, `name:` labels that `.entry` may name, and decimal floats for immediates. The form is described in
docs/reference/assembly.md.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import numpy as np

from npuvm.isa.codec import encode
from npuvm.isa.disasm import PLAIN_NAME
from npuvm.isa.errors import AsmError, IsaError
from npuvm.isa.image import CORE_TYPES, Entry, Image, Reloc
from npuvm.isa.model import Insn, Instruction, Isa, OperandSpec, Pred

__all__ = ["assemble", "assemble_insns"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+)(?![A-Za-z0-9_.])")
_UNSIGNED = re.compile(r"(0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+)(?![A-Za-z0-9_.])")
_FLOAT = re.compile(r"[-+]?(inf|nan|[0-9]+\.[0-9]*([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)(?![A-Za-z0-9_.])")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_HASH = re.compile(r"[0-9a-f]{64}")
_SPACE = re.compile(r"[ \t]*")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*:")
_VERSION = re.compile(r"[^\s#]+")
_SEMAPHORE = re.compile(r"m[0-9]")
_MAX_U32 = (1 << 32) - 1
_MAX_DIGITS = 80
"""More digits than any number that fits an operand has, in any base."""


def assemble(isa: Isa, text: str, name: str = "<asm>") -> Image:
    """The image that `text` describes; AsmError says "file:line:column", what is wrong and what is allowed.

    `name` stands for the file in errors, and names the image when the text has no `.image` line.
    """
    unit = _Assembly(isa, name)
    for number, line in enumerate(text.split("\n"), 1):
        unit.line(_Cursor(line.rstrip("\r"), name, number))
    return unit.image()


def assemble_insns(isa: Isa, text: str, name: str = "<asm>") -> list[Insn]:
    """The instructions of `text`, one a line; AsmError on directives, labels and relocations, which belong to images."""
    insns: list[Insn] = []
    for number, line in enumerate(text.split("\n"), 1):
        cursor = _Cursor(line.rstrip("\r"), name, number)
        if cursor.done():
            continue
        start = cursor.at
        insn, relocs = _instruction(isa, cursor)
        if relocs:
            raise cursor.error("a relocation belongs to an image; give an address", start)
        _encode(isa, insn, cursor, start)
        insns.append(insn)
    return insns


class _Cursor:
    """A position in one line, and the errors that name it."""

    def __init__(self, text: str, file: str, line: int) -> None:
        self.text = text
        self.file = file
        self.line = line
        self.at = 0
        self._skip()

    def _skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def done(self) -> bool:
        """Only a comment, or nothing, is left."""
        return self.text[self.at : self.at + 1] in ("", "#")

    def take(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        self._skip()
        return match[0]

    def take_text(self, text: str) -> bool:
        if not self.text.startswith(text, self.at):
            return False
        self.at += len(text)
        self._skip()
        return True

    def expect(self, pattern: re.Pattern[str], what: str) -> str:
        found = self.take(pattern)
        if found is None:
            raise self.error(f"expected {what}, found {self.rest()}")
        return found

    def expect_text(self, text: str) -> None:
        if not self.take_text(text):
            raise self.error(f"expected {text!r}, found {self.rest()}")

    def number(self, pattern: re.Pattern[str], what: str) -> int:
        """An integer that `pattern` describes."""
        start = self.at
        text = self.expect(pattern, what)
        if len(text) > _MAX_DIGITS:
            raise self.error(f"a number of {len(text)} characters; allowed: {what}", start)
        return _number(text)

    def integer(self, what: str, low: int, high: int) -> int:
        start = self.at
        value = self.number(_INTEGER, what)
        if not low <= value <= high:
            raise self.error(f"{what} is {value}; allowed: {low} to {high}", start)
        return value

    def rest(self) -> str:
        if self.done():
            return "the end of the line"
        return repr(re.split(r"[ \t]", self.text[self.at :], maxsplit=1)[0])

    def error(self, message: str, at: int | None = None) -> AsmError:
        return AsmError(message, f"{self.file}:{self.line}:{(self.at if at is None else at) + 1}")


@dataclass(frozen=True, slots=True)
class _EntryLine:
    core_type: str
    target: int | str
    ranges: tuple[tuple[int, int], ...]
    place: AsmError


class _Assembly:
    """What the lines of a text have given so far."""

    def __init__(self, isa: Isa, name: str) -> None:
        self._isa = isa
        self._name = name
        self._image_name: str | None = None
        self._n_args: int | None = None
        self._words: list[int] = []
        self._relocs: list[tuple[Reloc, AsmError]] = []
        self._entries: list[_EntryLine] = []
        self._labels: dict[str, int] = {}

    def line(self, cursor: _Cursor) -> None:
        if label := cursor.take(_LABEL):
            if label[:-1] in self._labels:
                raise cursor.error(f"label {label[:-1]!r} is defined twice", 0)
            self._labels[label[:-1]] = len(self._words)
        if cursor.done():
            return
        if cursor.take_text("."):
            self._directive(cursor)
        else:
            self._statement(cursor)
        if not cursor.done():
            raise cursor.error(f"expected the end of the line, found {cursor.rest()}")

    def _statement(self, cursor: _Cursor) -> None:
        start = cursor.at
        insn, relocs = _instruction(self._isa, cursor)
        words = _encode(self._isa, insn, cursor, start)
        for word, (arg, addend) in relocs.items():
            self._relocs.append((Reloc(len(self._words) + word, arg, addend), cursor.error("", start)))
        self._words += words

    def _directive(self, cursor: _Cursor) -> None:
        start = cursor.at - 1
        handlers = {
            "args": self._args,
            "entry": self._entry,
            "image": self._named_image,
            "isa": self._isa_line,
            "reloc": self._reloc,
            "word": self._word,
        }
        word = cursor.take(_NAME)
        if word not in handlers:
            allowed = ", ".join(f".{name}" for name in handlers)
            raise cursor.error(f"unknown directive .{word or ''}; allowed: {allowed}", start)
        handlers[word](cursor, start)

    def _named_image(self, cursor: _Cursor, start: int) -> None:
        if self._image_name is not None:
            raise cursor.error("a second .image line; a text holds one image", start)
        at = cursor.at
        if (quoted := cursor.take(_QUOTED)) is not None:
            try:
                self._image_name = str(json.loads(quoted))
                self._image_name.encode()
            except ValueError:
                raise cursor.error("the quoted name is not a JSON string", at) from None
        else:
            self._image_name = cursor.expect(PLAIN_NAME, "a name, or one in double quotes")

    def _isa_line(self, cursor: _Cursor, start: int) -> None:
        name = cursor.expect(_NAME, "the name of the instruction set")
        version = cursor.expect(_VERSION, "its version")
        if (name, version) != (self._isa.name, self._isa.version):
            raise cursor.error(f"for {name} {version}; allowed: {self._isa.name} {self._isa.version}", start)
        if not cursor.done():
            digest = cursor.expect(_HASH, "a hash of 64 hex digits")
            if digest != self._isa.hash:
                raise cursor.error(f"for hash {digest[:16]}...; this one has {self._isa.hash[:16]}...", start)

    def _args(self, cursor: _Cursor, start: int) -> None:
        if self._n_args is not None:
            raise cursor.error("a second .args line", start)
        self._n_args = cursor.integer("the number of arguments", 0, _MAX_U32)

    def _entry(self, cursor: _Cursor, start: int) -> None:
        place = cursor.error("", start)
        core = cursor.expect(_NAME, f"a core type ({', '.join(CORE_TYPES)})")
        if core not in CORE_TYPES:
            raise cursor.error(f"core type {core!r}; allowed: {', '.join(CORE_TYPES)}", start)
        target: int | str | None = cursor.take(_NAME)
        if target is None:
            target = cursor.integer("the word of the first instruction, or a label", 0, _MAX_U32)
        ranges = []
        while not cursor.done():
            first = cursor.integer("the first tile of a range", 0, (1 << 64) - 1)
            cursor.expect_text(":")
            ranges.append((first, cursor.integer("the end of a range", 0, (1 << 64) - 1)))
        self._entries.append(_EntryLine(core, target, tuple(ranges), place))

    def _reloc(self, cursor: _Cursor, start: int) -> None:
        word = cursor.integer("the word to patch", 0, _MAX_U32)
        arg, addend = _relocation(cursor)
        self._relocs.append((Reloc(word, arg, addend), cursor.error("", start)))

    def _word(self, cursor: _Cursor, start: int) -> None:
        value = cursor.integer("a word", 0, (1 << 64) - 1)
        if cursor.text.startswith("@", cursor.at):
            arg, addend = _relocation(cursor)
            self._relocs.append((Reloc(len(self._words), arg, addend), cursor.error("", start)))
        self._words.append(value)

    def image(self) -> Image:
        """The finished image, once every line was read."""
        n_args = self._n_args
        if n_args is None:
            n_args = 1 + max((reloc.arg for reloc, _ in self._relocs), default=-1)
        for reloc, place in self._relocs:
            if reloc.arg >= n_args:
                raise AsmError(f"argument {reloc.arg} of {n_args}; raise .args", place.where)
            if reloc.word >= len(self._words):
                raise AsmError(f"word {reloc.word} of a program of {len(self._words)}", place.where)
        words = np.array(self._words, dtype=np.uint64)
        entries = tuple(Entry(line.core_type, self._target(line), line.ranges) for line in self._entries)
        name = self._name if self._image_name is None else self._image_name
        return Image(name, self._isa.hash, words, entries, tuple(r for r, _ in self._relocs), n_args)

    def _target(self, line: _EntryLine) -> int:
        if isinstance(line.target, int):
            return line.target
        if line.target not in self._labels:
            known = ", ".join(sorted(self._labels)) or "none"
            raise AsmError(f"no label {line.target!r}; there are: {known}", line.place.where)
        return self._labels[line.target]


def _number(text: str) -> int:
    digits = text.lstrip("+-").lower()
    base = {"0x": 16, "0b": 2}.get(digits[:2], 10)
    value = int(digits, base)
    return -value if text.startswith("-") else value


def _encode(isa: Isa, insn: Insn, cursor: _Cursor, start: int) -> list[int]:
    try:
        return encode(isa, insn)
    except IsaError as exc:
        raise cursor.error(str(exc), start) from None


def _instruction(isa: Isa, cursor: _Cursor) -> tuple[Insn, dict[int, tuple[int, int]]]:
    """One instruction, and its relocations: word within the instruction -> (argument, addend)."""
    start = cursor.at
    op = cursor.expect(_NAME, "an instruction")
    spec = isa.instructions.get(op)
    if spec is None:
        raise cursor.error(f"no instruction {op!r} in {isa.name} {isa.version}", start)
    dtype, dtype2 = _dtypes(isa, spec, cursor)
    args: dict[str, int] = {}
    relocs: dict[int, tuple[int, int]] = {}
    while not cursor.done() and not cursor.text.startswith("|", cursor.at):
        _operand(isa, spec, dtype, cursor, args, relocs)
    for operand in spec.operands:
        if operand.name not in args:
            if operand.default is None:
                raise cursor.error(f"{op}: operand {operand.name} is missing")
            args[operand.name] = operand.default
    args = {operand.name: args[operand.name] for operand in spec.operands}
    wait, sets, pred, order = _attributes(isa, cursor) if cursor.take_text("|") else ((), (), None, False)
    return Insn(op, dtype, dtype2, args, wait, sets, pred, order), relocs


def _dtypes(isa: Isa, spec: Instruction, cursor: _Cursor) -> tuple[str | None, str | None]:
    start = cursor.at
    first = cursor.expect(_NAME, "a data type") if cursor.take_text(".") else None
    second = cursor.expect(_NAME, "a data type") if first and cursor.take_text("->") else None
    if spec.dtypes and (first, second) not in spec.dtypes:
        given = "->".join(d for d in (first, second) if d) or "none"
        allowed = ", ".join("->".join(d for d in pair if d) for pair in spec.dtypes)
        raise cursor.error(f"{spec.name}: data type {given}; allowed: {allowed}", start)
    if first and not spec.dtypes:
        raise cursor.error(f"{spec.name} has no data type", start)
    return first, second


def _operand(
    isa: Isa,
    spec: Instruction,
    dtype: str | None,
    cursor: _Cursor,
    args: dict[str, int],
    relocs: dict[int, tuple[int, int]],
) -> None:
    start = cursor.at
    name = cursor.expect(_NAME, "an operand or '|'")
    operand = next((o for o in spec.operands if o.name == name), None)
    if operand is None:
        known = ", ".join(o.name for o in spec.operands) or "none"
        raise cursor.error(f"{spec.name} has no operand {name!r}; there are: {known}", start)
    if name in args:
        raise cursor.error(f"operand {name} is given twice", start)
    cursor.expect_text("=")
    at = cursor.at
    value = _value(isa, operand, dtype, cursor)
    if operand.kind.name == "addr" and cursor.text.startswith("@", cursor.at):
        relocs[operand.bits.word] = _relocation(cursor)
    if not operand.low <= value <= operand.high:
        prefix = operand.kind.prefix
        raise cursor.error(
            f"operand {name} is {prefix}{value}; allowed: {prefix}{operand.low} to {prefix}{operand.high}", at
        )
    args[name] = value


def _value(isa: Isa, operand: OperandSpec, dtype: str | None, cursor: _Cursor) -> int:
    kind = operand.kind.repr
    if kind == "enum":
        at = cursor.at
        word = cursor.expect(_NAME, f"one of {', '.join(operand.values)}")
        if word not in operand.values:
            raise cursor.error(f"{operand.name} is {word!r}; allowed: {', '.join(operand.values)}", at)
        return operand.values[word]
    if kind == "index":
        prefix = operand.kind.prefix
        what = f"{prefix}{operand.low} to {prefix}{operand.high}"
        if not cursor.take_text(prefix):
            raise cursor.error(f"operand {operand.name}: expected {what}, found {cursor.rest()}")
        return cursor.number(_UNSIGNED, what)
    if operand.kind.name == "addr" and cursor.text.startswith("@", cursor.at):
        return 0  # the relocation gives the address
    if operand.kind.name == "bits32":
        at = cursor.at
        decimal = cursor.take(_FLOAT)
        if decimal is not None:
            return _float_bits(isa, dtype, decimal, cursor, at)
    return cursor.number(_INTEGER, "an integer")


def _float_bits(isa: Isa, dtype: str | None, text: str, cursor: _Cursor, at: int) -> int:
    """Bit pattern of a decimal in the compute type of the instruction's data type, rounded to nearest even."""
    if dtype is None or isa.dtypes[dtype].kind != "float":
        raise cursor.error(f"{text} is a float and the data type is {dtype}; give an integer", at)
    with np.errstate(over="ignore"):
        scalar = np.array([float(text)]).astype(isa.dtypes[isa.dtypes[dtype].compute].numpy)
    if not np.isfinite(scalar[0]) and text.lstrip("+-") not in ("inf", "nan"):
        raise cursor.error(f"{text} does not fit {isa.dtypes[dtype].compute}", at)
    return int.from_bytes(scalar.tobytes(), "little")


def _relocation(cursor: _Cursor) -> tuple[int, int]:
    """`@argN`, `@argN+bytes`, `@argN-bytes` -> (N, addend)."""
    cursor.expect_text("@arg")
    arg = cursor.integer("the number of an argument", 0, _MAX_U32)
    if cursor.text[cursor.at : cursor.at + 1] not in ("+", "-"):
        return arg, 0
    return arg, cursor.integer("an addend", -(1 << 63), (1 << 63) - 1)


def _attributes(isa: Isa, cursor: _Cursor) -> tuple[tuple[int, ...], tuple[int, ...], Pred | None, bool]:
    waits: tuple[int, ...] = ()
    sets: tuple[int, ...] = ()
    pred: Pred | None = None
    order = False
    seen: set[str] = set()
    while not cursor.done():
        at = cursor.at
        word = cursor.take(_NAME)
        if word not in ("if", "wait", "set", "order"):
            raise cursor.error("expected 'if', 'wait', 'set' or 'order'", at)
        if word in seen:
            raise cursor.error(f"{word!r} is given twice", at)
        seen.add(word)
        if word == "if":
            pred = _predicate(isa, cursor)
        elif word == "wait":
            waits = _semaphores(isa, cursor)
        elif word == "set":
            sets = _semaphores(isa, cursor)
        else:
            order = True
    return waits, sets, pred, order


def _predicate(isa: Isa, cursor: _Cursor) -> Pred:
    at = cursor.at
    kinds = [kind for kind in isa.predicates if kind != "always"]
    kind = cursor.expect(_NAME, f"one of {', '.join(kinds)}")
    if kind not in kinds:
        raise cursor.error(f"predicate {kind!r}; allowed: {', '.join(kinds)}", at)
    cursor.expect_text("(")
    mask = 0
    while not cursor.take_text(")"):
        if mask:
            cursor.expect_text(",")
        mask |= 1 << _index(cursor, "l", isa.limits["loops"])
    return Pred(kind, mask)


def _semaphores(isa: Isa, cursor: _Cursor) -> tuple[int, ...]:
    numbers = [_index(cursor, "m", isa.limits["semaphores"])]
    while _SEMAPHORE.match(cursor.text, cursor.at):
        numbers.append(_index(cursor, "m", isa.limits["semaphores"]))
    return tuple(numbers)


def _index(cursor: _Cursor, prefix: str, count: int) -> int:
    at = cursor.at
    what = f"{prefix}0 to {prefix}{count - 1}"
    if not cursor.take_text(prefix):
        raise cursor.error(f"expected {what}, found {cursor.rest()}")
    value = cursor.number(_UNSIGNED, what)
    if value >= count:
        raise cursor.error(f"{prefix}{value}; allowed: {what}", at)
    return value

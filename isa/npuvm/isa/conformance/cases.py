"""What the levels hand to the runner: words to decode, checks that are done already, and how both read in a report."""

from __future__ import annotations

from dataclasses import dataclass

from npuvm.isa.conformance.target import Decoded
from npuvm.isa.model import Insn

__all__ = ["Check", "Failure", "WordCase", "describe", "hex_words"]


@dataclass(frozen=True, slots=True)
class WordCase:
    """Words that a target decodes, and what they are. `bins` are the coverage bins that it counts for."""

    id: str
    words: list[int]
    expected: Decoded
    bins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """A comparison that needed no target: it passed when `expected` and `got` are the same text."""

    id: str
    expected: str
    got: str
    bins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that failed: its name, what was expected and what came; `group` is the instruction, or the program."""

    case: str
    expected: str
    got: str
    group: str = "any"


def hex_words(words: list[int]) -> str:
    """Words as a reader of a failure wants them."""
    return " ".join(f"{word:#018x}" for word in words)


def describe(decoded: Decoded) -> str:
    """What was decoded, in one line; written from the fields, so that it prints what no instruction set allows, too."""
    if decoded.insn is None:
        return decoded.word_class.value
    return f"{decoded.word_class.value}, {decoded.words} words on {decoded.unit}: {_describe_insn(decoded.insn)}"


def _describe_insn(insn: Insn) -> str:
    types = "".join(f".{name}" for name in (insn.dtype, insn.dtype2) if name is not None)
    parts = [insn.op + types, *(f"{name}={value}" for name, value in sorted(insn.args.items()))]
    parts += [f"wait {list(insn.wait)}"] if insn.wait else []
    parts += [f"set {list(insn.set)}"] if insn.set else []
    parts += [f"if {insn.pred.kind}({insn.pred.mask:#x})"] if insn.pred else []
    return " ".join(parts + (["order"] if insn.order else []))

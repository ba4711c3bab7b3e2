"""The errors of npuvm: one base for all rooms, and those of the ISA room."""

from __future__ import annotations

from typing import ClassVar

__all__ = ["AsmError", "DecodeError", "IsaError", "NpuvmError", "VerifyError"]


class NpuvmError(Exception):
    """Something a person or a caller can act on: what is wrong, where, and what is allowed.

    `message` is one line without the place; `where` is the place ("chip.yaml:12:3", "word 17"). `str()` joins them.
    `exit_code` is what the command line returns: 2 for wrong input, 1 for a failure of the run itself.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, where: str | None = None) -> None:
        super().__init__(message, where)
        self.message = message
        self.where = where

    def __str__(self) -> str:
        return self.message if self.where is None else f"{self.where}: {self.message}"


class IsaError(NpuvmError):
    """An ISA description, or an instruction given to the encoder, is wrong."""


class AsmError(NpuvmError):
    """Assembly text is wrong; `where` is "file:line:column"."""


class DecodeError(NpuvmError):
    """Words are no instruction; `word_class` names which of the illegal classes they fall in."""

    def __init__(self, message: str, where: str | None = None, word_class: str | None = None) -> None:
        super().__init__(message, where)
        self.word_class = word_class


class VerifyError(NpuvmError):
    """A decodable program breaks a rule of the execution model (bounds, balance, deadlock, relocation)."""

"""The sequencer's instructions that give a program its structure, and their codes.

Every reader of programs (verifier, simulator, compiler) follows loops, tables and barriers, so these names are part of the
execution model; all other instructions are known by what the instruction set says of them.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["CONTROL", "ROLES", "SCOPES", "SET_UP", "Scope"]

Scope: TypeAlias = Literal["core", "group", "launch"]

SET_UP = frozenset({"szc", "szt", "sza", "szr", "desc", "dstr", "dwin", "ring", "sem"})
"""Instructions that change the sequencer's tables and counts; they stand outside loops and grids."""

CONTROL = frozenset({"loop", "endloop", "grid", "endgrid", "barrier", "halt"})
"""Instructions that say what runs next."""

SCOPES: tuple[Scope, ...] = ("core", "group", "launch")
"""Scopes of `barrier` by their code."""

ROLES = ("none", "producer", "consumer")
"""What a descriptor is to its ring, by the code in `desc`."""

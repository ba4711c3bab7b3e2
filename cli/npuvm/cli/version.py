"""The version of npuvm, in this one place; the wheel takes it from here."""

from __future__ import annotations

__version__ = "0.1.0"

"""The `npuvm` command: one module a verb, each a thin call into the rooms below."""

from __future__ import annotations

from npuvm.cli.version import __version__

__all__ = ["__version__"]

"""Providers of operators that a model leaves to the host."""

from __future__ import annotations

from npuvm.runtime.host.provider import HostProvider, HostValue, default_provider
from npuvm.runtime.host.reference import ReferenceProvider

__all__ = ["HostProvider", "HostValue", "ReferenceProvider", "default_provider"]

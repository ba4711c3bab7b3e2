"""The chip as data: one validated schema, read from YAML, with the origin of each number beside it."""

from __future__ import annotations

from npuvm.hw.config.basics import DEFAULT_ERROR_PCT, Provenance, Trust
from npuvm.hw.config.load import chip_reader, load_chip, parse_chip
from npuvm.hw.config.model import (
    CoreConfig,
    CoreType,
    CubeConfig,
    FixpipeConfig,
    HbmConfig,
    HostConfig,
    IsaRef,
    L2Config,
    LinkConfig,
    LoadConfig,
    MemoryConfig,
    MoveConfig,
    NpuConfig,
    SequencerConfig,
    StoreConfig,
    SyncConfig,
    UbBanksConfig,
    VectorClass,
    VectorConfig,
)
from npuvm.hw.config.reference import chip_reference_markdown
from npuvm.hw.config.schema import chip_json_schema
from npuvm.hw.config.vector_class import class_names, class_of

__all__ = [
    "DEFAULT_ERROR_PCT",
    "CoreConfig",
    "CoreType",
    "CubeConfig",
    "FixpipeConfig",
    "HbmConfig",
    "HostConfig",
    "IsaRef",
    "L2Config",
    "LinkConfig",
    "LoadConfig",
    "MemoryConfig",
    "MoveConfig",
    "NpuConfig",
    "Provenance",
    "SequencerConfig",
    "StoreConfig",
    "SyncConfig",
    "Trust",
    "UbBanksConfig",
    "VectorClass",
    "VectorConfig",
    "chip_json_schema",
    "chip_reader",
    "chip_reference_markdown",
    "class_names",
    "class_of",
    "load_chip",
    "parse_chip",
]

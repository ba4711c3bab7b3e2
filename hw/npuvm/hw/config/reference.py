"""The reference page of the chip file, made from the schema (docs/reference/chip-config.md)."""

from __future__ import annotations

from npuvm.hw.config.basics import DEFAULT_ERROR_PCT
from npuvm.hw.config.fields import ANY, Leaf, leaves, optional_sections
from npuvm.hw.config.load import load_chip
from npuvm.isa.resources import list_resources

__all__ = ["chip_reference_markdown"]

_INTRO = """\
# The chip file

<!-- Made by npuvm.hw.config; tests/hw/config/test_config_reference.py rewrites it with NPUVM_REWRITE=1. -->

One YAML file defines a chip. Shipped chips lie in `configs/npu/` and are named without the suffix (`--chip ascend_910b1`);
any other chip is named by its file. `--set core.ub_kib=512` lays one value over the file.

A number stands plain (`ub_kib: 192`) or with its origin (`ub_kib: {value: 192, source: "...", trust: high}`); shipped chips
give the origin of every number. Trust is `high` (two sources agree, or the maker states or measured it), `medium` (one
source, or derived from a good one), `low` (one weak source, or derived from one) or `assumed` (no source). A fourth key,
`error_pct`, gives the error bar of a number in percent; without it that of its trust holds: {errors}.

A chip may build on another one: `base: ascend_910b1` names a shipped chip, or a chip file from this file's folder. The file
then gives its own `name` and what differs; sections are merged, a number that is given replaces the base's with its origin,
and `ub_banks: null` takes away a section that may be left out.

Whole numbers are decimal, `0x` or `0b`. Where "or "a/b"" stands, a decimal or a quoted ratio is kept exactly. 1 KiB is 1024
bytes, 1 GB/s is 10^9 bytes a second, and a cycle is one of `clock_ghz`. `*` stands for a name that the file chooses.
docs/timing-model.md says what each of the numbers costs.
"""

_TABLE = "| field | allowed | default | meaning |\n|---|---|---|---|\n"


def chip_reference_markdown() -> str:
    """The whole page as Markdown, ending in one newline."""
    sections: dict[str, list[Leaf]] = {}
    for leaf in leaves():
        sections.setdefault(".".join(leaf.path[:-1]), []).append(leaf)
    errors = ", ".join(f"{trust} {error:g}" for trust, error in DEFAULT_ERROR_PCT.items())
    parts = [_INTRO.replace("{errors}", errors)]
    for section, members in sections.items():
        parts.append(f"\n## {section or 'top level'}\n\n{_may_be_absent(section)}{_TABLE}")
        parts.extend(_row(leaf) for leaf in members)
    parts.append(_shipped())
    return "".join(parts)


def _may_be_absent(section: str) -> str:
    meaning = optional_sections().get(section)
    return "" if meaning is None else f"May be left out: {meaning}.\n\n"


def _row(leaf: Leaf) -> str:
    name = ".".join(leaf.path[-2:]) if leaf.path[-1] == ANY else leaf.path[-1]
    default = "needed" if leaf.required else _default(leaf)
    default = f"as `{leaf.follows}`" if leaf.follows else default
    return f"| `{name}` | {leaf.allowed} | {default} | {leaf.meaning} |\n"


def _default(leaf: Leaf) -> str:
    if leaf.kind == "names":
        return "`[]`"
    if leaf.kind == "bool":
        return f"`{str(leaf.default).lower()}`"
    return f"`{leaf.default}`" if leaf.default != "" else "empty"


def _shipped() -> str:
    lines = [
        "\n## Shipped chips\n\n| chip | cores | clock (GHz) | numbers: high, medium, low, assumed | what it is |\n"
    ]
    lines.append("|---|---|---|---|---|\n")
    for name in list_resources("chip"):
        chip = load_chip(name)
        trusts = [origin.trust for origin in chip.provenance.values()]
        counts = ", ".join(str(trusts.count(trust)) for trust in DEFAULT_ERROR_PCT)
        types = chip.core_types()
        cores = ", ".join(f"{types.count(kind)} {kind}" for kind in dict.fromkeys(types))
        lines.append(f"| `{name}` | {cores} | {float(chip.clock_ghz):g} | {counts} | {chip.description} |\n")
    return "".join(lines)

"""Estimates of energy and area: what a launch did, and what a chip is made of, priced by a technology file."""

from __future__ import annotations

from npuvm.hw.energy.amount import Amount
from npuvm.hw.energy.area_report import AreaReport, estimate_area
from npuvm.hw.energy.energy_report import EnergyReport, estimate_energy
from npuvm.hw.energy.schema import technology_json_schema
from npuvm.hw.energy.technology import Number, Technology, load_technology, parse_technology
from npuvm.hw.energy.work import Work, work_of

__all__ = [
    "Amount",
    "AreaReport",
    "EnergyReport",
    "Number",
    "Technology",
    "Work",
    "estimate_area",
    "estimate_energy",
    "load_technology",
    "parse_technology",
    "technology_json_schema",
    "work_of",
]

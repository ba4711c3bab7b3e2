"""Ends a run that fuzzed with a table of what was executed."""

from __future__ import annotations

import pytest
from tests.fuzz import budget


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not budget.SECONDS or not budget.CAMPAIGNS:
        return
    terminalreporter.section(f"fuzzing, NPUVM_FUZZ_SEED={budget.SEED}")
    for campaign in budget.CAMPAIGNS:
        outcomes = ", ".join(f"{name} {count}" for name, count in campaign.outcomes.most_common())
        total = campaign.outcomes.total()
        terminalreporter.write_line(f"{campaign.name}: {total} executions in {campaign.seconds:.0f} s: {outcomes}")
    total = sum(campaign.outcomes.total() for campaign in budget.CAMPAIGNS)
    seconds = sum(campaign.seconds for campaign in budget.CAMPAIGNS)
    terminalreporter.write_line(f"all: {total} executions in {seconds:.0f} s")

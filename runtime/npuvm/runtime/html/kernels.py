"""The rows of a report: the launches of a run by operator, with what they computed and where their cycles went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from npuvm.hw.energy import Work
from npuvm.hw.errors import DeviceError
from npuvm.hw.explain import Advice, LaunchBreakdown, advise, break_down, sum_breakdowns
from npuvm.runtime.html.inputs import ReportInputs
from npuvm.runtime.scenarios.report import CaseRow, Totals

__all__ = ["KernelRow", "kernel_rows"]


@dataclass(frozen=True)
class KernelRow:
    """One operator of a run: a case of a kernel scenario, or all launches of one kind in a model.

    `number` names it in figures and tables. `launches` are indices into those of the run. `advice` has the weightiest line
    first. `case` is set in a kernel scenario.
    """

    number: int
    label: str
    totals: Totals
    launches: tuple[int, ...]
    work: Work
    breakdown: LaunchBreakdown
    advice: tuple[Advice, ...]
    case: CaseRow | None

    @property
    def hbm_bytes(self) -> int:
        """Bytes of HBM traffic, both ways."""
        return self.totals.bytes.get("hbm_read", 0) + self.totals.bytes.get("hbm_write", 0)

    @property
    def operations_per_byte(self) -> float | None:
        """Operations for each byte of HBM traffic; None without traffic."""
        return self.work.flops / self.hbm_bytes if self.hbm_bytes else None

    @property
    def operations_per_second(self) -> float:
        """Operations a second of simulated time, 0 for no time."""
        return self.work.flops / (self.totals.microseconds * 1e-6) if self.totals.microseconds else 0.0


def kernel_rows(inputs: ReportInputs) -> tuple[KernelRow, ...]:
    """The rows in the order of the report, numbered from 1; DeviceError when report and launches are of different runs."""
    rows = tuple(
        _row(inputs, number, label, totals, launches, case)
        for number, (label, totals, launches, case) in enumerate(_groups(inputs), 1)
    )
    left = len(inputs.launches) - sum(len(row.launches) for row in rows)
    if left:
        message = f"{left} of {len(inputs.launches)} observed launches belong to no row of the report"
        raise DeviceError(f"{message}; pass the recorder that observed this run", inputs.report.header.scenario)
    return rows


def _row(
    inputs: ReportInputs, number: int, label: str, totals: Totals, launches: Sequence[int], case: CaseRow | None
) -> KernelRow:
    records = [inputs.launches[index] for index in launches]
    cycles = sum(record.result.cycles for record in records)
    if (len(records), cycles) != (totals.launches, totals.cycles):
        seen = f"{len(records)} launches of {cycles} cycles were observed, the report has {totals.launches} of {totals.cycles}"
        raise DeviceError(f"{seen}; pass the recorder that observed this run", label)
    breakdown = sum_breakdowns([break_down(record.result) for record in records])
    return KernelRow(
        number=number,
        label=label,
        totals=totals,
        launches=tuple(launches),
        work=Work.sum(record.result.work for record in records),
        breakdown=breakdown,
        advice=advise(inputs.launches[0].chip, breakdown),
        case=case,
    )


def _groups(inputs: ReportInputs) -> Iterator[tuple[str, Totals, Sequence[int], CaseRow | None]]:
    """Label, totals, launches and case of each row: cases and runs took theirs one after another, kinds by their tag."""
    if inputs.report.kinds:
        for row in inputs.report.kinds:
            if row.totals.launches:
                yield row.kind, row.totals, [i for i, r in enumerate(inputs.launches) if r.tag == row.kind], None
        return
    begin = 0
    for case in inputs.report.cases:
        end = min(begin + case.totals.launches, len(inputs.launches))
        yield f"{case.operator} {case.dtype} {case.shape}", case.totals, range(begin, end), case
        begin = end
    for run in inputs.report.runs:
        end = min(begin + run.totals.launches, len(inputs.launches))
        yield run.label, run.totals, range(begin, end), None
        begin = end

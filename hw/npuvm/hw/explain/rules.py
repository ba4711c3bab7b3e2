"""The rules of advice: what each measures, from which share on it speaks, and what it says. One table, `RULES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from npuvm.hw.explain.facts import Facts

__all__ = ["RULES", "Rule"]

Say: TypeAlias = Callable[[Facts, float], str]


@dataclass(frozen=True)
class Rule:
    """One thing that may bound a launch.

    A "limit" is a lower bound that the launch comes close to: nothing but moving that bound makes it faster. A "loss" is a
    share of the cycles that went by without need. The rule speaks when `measure` reaches `threshold`; `says` gives the line.
    """

    name: str
    kind: Literal["limit", "loss"]
    threshold: float
    measure: Callable[[Facts], float]
    says: Say


def _bound(name: str) -> Callable[[Facts], float]:
    return lambda facts: facts.breakdown.share_of_bound(name)


def _share(*kinds: str) -> Callable[[Facts], float]:
    return lambda facts: facts.breakdown.share(*kinds)


def _hbm(facts: Facts, share: float) -> str:
    gbps = float(facts.chip.memory.hbm.bandwidth_gbps)
    return (
        f"bound by HBM: {share:.0%} of the cycles are what its bytes take at {gbps:,.0f} GB/s; fewer bytes help (fusion, tiles "
        "that stay in L2, narrower types), or more bandwidth"
    )


def _l2(facts: Facts, share: float) -> str:
    gbps = float(facts.chip.memory.l2.bandwidth_gbps)
    return (
        f"bound by L2: {share:.0%} of the cycles are what its bytes take at {gbps:,.0f} GB/s; larger tiles re-use more on "
        "chip and ask L2 for fewer bytes"
    )


def _port(facts: Facts, share: float) -> str:
    engine = facts.busiest_engine
    name = "DMA" if engine is None else engine.unit
    return (
        f"bound by the port of one {name} engine: {share:.0%} of the cycles are its bytes at its own rate; more cores, "
        "fewer bytes per core, or a wider port help"
    )


def _compute(unit: str, hint: str) -> Rule:
    def says(facts: Facts, share: float) -> str:
        return f"bound by the {unit} unit: its instructions alone take {share:.0%} of the cycles of a core; {hint}"

    return Rule(unit, "limit", 0.75, lambda facts: facts.share_of_work(unit), says)


def _dispatch(facts: Facts, share: float) -> str:
    return (
        f"bound by the sequencer: decoding and dispatch alone take {share:.0%} of the cycles of a core; fewer and larger "
        "instructions (larger tiles), or a faster decoder"
    )


def _bank(facts: Facts, _: float) -> str:
    banks = facts.chip.core.ub_banks
    around = 0 if banks is None else banks.groups * banks.block_bytes
    return (
        f"vector: {facts.bank_share:.0%} of its working cycles are bank conflicts in UB; place operands {around // 2} bytes "
        f"apart modulo {around}"
    )


def _issue(facts: Facts, share: float) -> str:
    engine = facts.busiest_engine
    unit = "a DMA engine" if engine is None else engine.unit
    return (
        f"{unit}: {share:.0%} of the cycles go to the issue of its instructions and of their rows, beyond what the bytes need; "
        "larger tiles, longer rows, or rows that lie densely in memory"
    )


def _memory(facts: Facts, share: float) -> str:
    cause = facts.largest("memory")
    unit = "load" if cause is None else cause.unit
    places, nbytes, rate = facts.in_flight(unit)
    head = f"{unit}: {share:.0%} of the cycles it has all {places} requests in flight"
    if rate * facts.able_cores >= facts.chip.hbm_bytes_per_cycle:
        return (
            f"{head}, which queue in memory; HBM moves {facts.hbm_rate:.0%} of what it could: what the cores ask for at one "
            "time lies in few channels or slices, or comes in bursts; spread it, or move fewer bytes"
        )
    return (
        f"{head}; these are {nbytes:,} bytes, at the latency of HBM no more than {float(rate):.1f} bytes per cycle and core; "
        "more or larger requests in flight hide more, and rows shorter than a request waste it"
    )


def _latency(facts: Facts, share: float) -> str:
    cause = facts.largest("latency")
    pair = "two units" if cause is None else f"{cause.unit} and {cause.other}"
    return (
        f"bound by the latency of dependent steps: {share:.0%} of the cycles {pair} wait for each other; more slots in the "
        "ring between them, or larger tiles"
    )


def _order(facts: Facts, share: float) -> str:
    cause = facts.largest("order")
    unit = "a unit" if cause is None else cause.unit
    return (
        f"{unit}: {share:.0%} of the cycles an instruction waits for the result of the one before it in the same unit; "
        "interleave independent tiles"
    )


def _queue(facts: Facts, share: float) -> str:
    depth = facts.chip.core.sequencer.queue_depth
    return (
        f"queues: {share:.0%} of the cycles the sequencer stands at a full queue while the critical unit has nothing to do; "
        f"queues deeper than {depth}, or an order of instructions that feeds the units in turn"
    )


def _decode(facts: Facts, share: float) -> str:
    return (
        f"decoding: {share:.0%} of the cycles the critical unit waits for its next instruction to be decoded; fewer and "
        "larger instructions, or fewer words"
    )


def _sync(facts: Facts, share: float) -> str:
    return (
        f"synchronisation: {share:.0%} of the cycles go by in drains, barriers and scalar loads; semaphores instead of "
        "barriers keep the units at work"
    )


def _wait(facts: Facts, share: float) -> str:
    cause = facts.largest("wait")
    what = "a unit waits for another" if cause is None else cause.label
    return (
        f"{what}: {share:.0%} of the cycles wait for signals between units; a deeper ring lets the producer run ahead"
    )


def _startup(facts: Facts, share: float) -> str:
    return (
        f"start-up: {share:.0%} of the cycles go by before the critical unit has its first instruction; a launch this short "
        "gains from fusion with its neighbours"
    )


def _tail(facts: Facts, share: float) -> str:
    return (
        f"tail: {share:.0%} of the cycles come after the critical unit's last instruction; smaller last tiles, or fusion "
        "with what follows"
    )


def _imbalance(facts: Facts, share: float) -> str:
    return (
        f"imbalance: {facts.breakdown.cores} cores, the slowest finishes {facts.lateness:.0%} after the mean, {share:.0%} of "
        "all cycles are idle for it; tiles that divide evenly among the cores"
    )


def _cores(facts: Facts, share: float) -> str:
    unit = facts.breakdown.unit(facts.critical)
    working = 0 if unit is None else unit.working
    return (
        f"{working} of {facts.able_cores} cores with a {facts.critical} unit work; smaller tiles, or a split of the reduction, "
        "would use more of them"
    )


def _host(facts: Facts, share: float) -> str:
    launch = float(facts.chip.host.launch_us)
    return (
        f"bound by the host: {share:.0%} of the stream the device waits for launches, which cost the host {launch:g} µs each; "
        "fewer launches (fusion) help"
    )


RULES: tuple[Rule, ...] = (
    Rule("hbm", "limit", 0.7, _bound("hbm"), _hbm),
    Rule("l2", "limit", 0.7, _bound("l2"), _l2),
    Rule("port", "limit", 0.75, _bound("port"), _port),
    _compute("vector", "fewer or cheaper instructions, more cores, or wider lanes"),
    _compute("cube", "this is the limit of its products; a lower precision or more cores"),
    _compute("move", "larger blocks of the cube ask L1 for fewer bytes"),
    _compute("fixpipe", "write results once, in a narrower type"),
    Rule("dispatch", "limit", 0.75, _bound("dispatch"), _dispatch),
    Rule("bank", "loss", 0.05, _share("bank"), _bank),
    Rule("issue", "loss", 0.15, lambda facts: facts.issue_share, _issue),
    Rule("memory", "loss", 0.15, _share("memory"), _memory),
    Rule("latency", "loss", 0.15, _share("latency"), _latency),
    Rule("order", "loss", 0.15, _share("order"), _order),
    Rule("queue", "loss", 0.1, _share("queue"), _queue),
    Rule("decode", "loss", 0.1, _share("decode"), _decode),
    Rule("sync", "loss", 0.1, _share("sync", "drain", "barrier", "scalar_load"), _sync),
    Rule("wait", "loss", 0.2, _share("wait"), _wait),
    Rule("startup", "loss", 0.2, _share("startup", "start"), _startup),
    Rule("tail", "loss", 0.2, _share("tail"), _tail),
    Rule("imbalance", "loss", 0.1, _share("imbalance"), _imbalance),
    Rule("cores", "loss", 0.4, lambda facts: facts.unused_cores, _cores),
    Rule("host", "limit", 0.3, lambda facts: facts.host_share, _host),
)
"""Every rule. docs/reference/explain.md describes them; each has a test with a program or a chip that provokes it."""

"""What transfers between host and chip take, by hand. 1 GB/s is 1000 bytes a microsecond."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuvm.hw.config import load_chip
from npuvm.hw.errors import ConfigError
from npuvm.hw.link import HostLink
from npuvm.isa.resources import list_resources

LINK = ["host.link.to_device_gbps=2", "host.link.to_host_gbps=4", "host.link.latency_us=3"]


def test_bytes_over_rate_and_the_latency() -> None:
    link = HostLink.of(load_chip("edge", LINK))
    assert not link.shared
    assert link.occupied_us("to_device", 8000) == 4
    assert link.transfer_us("to_device", 8000) == 7
    assert link.transfer_us("to_host", 8000) == 5
    assert link.transfer_us("to_host", 1) == 3 + Fraction(1, 4000)
    assert link.transfer_us("to_device", 0) == 0


def test_a_card_with_pcie() -> None:
    """1 MiB at 25.2 GB/s is 41.61 us, and 6 us until the first byte."""
    link = HostLink.of(load_chip("ascend_910b1"))
    assert float(link.transfer_us("to_device", 1 << 20)) == pytest.approx(47.61, abs=5e-3)


def test_the_memory_bounds_a_fast_link() -> None:
    link = HostLink.of(load_chip("edge", ["host.link.to_device_gbps=100", *LINK[1:]]))
    assert link.occupied_us("to_device", 12_800) == 1, "12.8 GB/s of the memory"
    assert link.occupied_us("to_host", 4000) == 1


def test_without_a_link_a_copy_reads_and_writes_the_memory() -> None:
    link = HostLink.of(load_chip("edge"))
    assert link.shared
    assert link.transfer_us("to_device", 6400) == link.transfer_us("to_host", 6400) == 1


@pytest.mark.parametrize("chip", list_resources("chip"))
@given(nbytes=st.integers(0, 1 << 40))
def test_no_transfer_beats_the_memory(chip: str, nbytes: int) -> None:
    config = load_chip(chip)
    link = HostLink.of(config)
    for direction in ("to_device", "to_host"):
        assert link.transfer_us(direction, nbytes) >= nbytes / (config.memory.hbm.bandwidth_gbps * 1000)


def test_programs_and_launches_do_not_depend_on_the_link() -> None:
    """So tile libraries, plan files and results of searches hold for any host."""
    chips = [load_chip("edge"), load_chip("edge", LINK), load_chip("edge", [*LINK[:2], "host.link.latency_us=4"])]
    assert len({chip.chip_hash for chip in chips}) == 1
    assert load_chip("edge", ["host.launch_us=6"]).chip_hash != chips[0].chip_hash


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("host.link.to_device_gbps=0", "allowed is a number of GB/s"),
        ("host.link.latency_us=-1", "allowed is a number of microseconds"),
        ("host.link.to_device=1", "host.link.to_device: no such field; did you mean host.link.to_device_gbps"),
        ("host.link=1", "it is a section, set a field of it: to_device_gbps, to_host_gbps, latency_us"),
    ],
)
def test_what_a_link_cannot_be(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_chip("ascend_910b1", [override])


def test_half_a_link_is_told() -> None:
    with pytest.raises(ConfigError, match=r"host\.link\.to_host_gbps: missing; needed is a number of GB/s"):
        load_chip("edge", ["host.link.to_device_gbps=1"])


def test_a_link_can_be_taken_away() -> None:
    assert load_chip("ascend_910b1", ["host.link=null"]).host.link is None

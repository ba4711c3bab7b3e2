"""Each rule of docs/timing-model.md, sections DMA and Memory, with cycles worked out by hand.

The chip of `make_chip`: one L2 slice of 64 bytes a cycle, 20 cycles of latency; one channel of 32 bytes a cycle, 100 cycles
more; lines of 128 bytes. Loads take 32 bytes a cycle, stores 16, in requests of 128.
"""

from __future__ import annotations

import pytest
from tests.hw.engine_kit import Row, Run, execute, make_chip
from tests.hw.test_timing import L1, UB, desc, one, sizes

from npuvm.hw.config import NpuConfig
from npuvm.hw.memory.chunks import engines_of, plan_chunks
from npuvm.hw.memory.l2 import L2State
from npuvm.isa import Insn

LINE = 128


def load(address: int, nbytes: int, gap: int = 1, streaming: bool = False) -> Row:
    return Row("load", 0, gap=gap, gm=(address, 1, nbytes, nbytes), streaming=streaming)


def store(address: int, nbytes: int, gap: int = 1, streaming: bool = False) -> Row:
    return Row("store", 0, gap=gap, gm=(address, 1, nbytes, nbytes), streaming=streaming)


def rows(count: int, nbytes: int, pitch: int, address: int = 0) -> Row:
    return Row("load", 0, gm=(address, count, nbytes, pitch))


def warm(address: int, lines: int) -> L2State:
    """L2 with some clean lines of an earlier launch."""
    l2 = L2State(1024 * LINE, LINE)
    for line in range(lines):
        l2.lines[address // LINE + line] = False
    return l2


def done(run: Run, core: int = 0) -> list[int]:
    """Completions of a core's instructions, in order."""
    return [run.times(core)[i][2] for i in range(len(run.times(core)))]


@pytest.mark.parametrize(("second", "expected"), [(load(64, 64, gap=3), 125), (store(64, 64, gap=3), 125)])
def test_an_access_to_a_line_in_flight_waits_for_it(second: Row, expected: int) -> None:
    """The line leaves its channel in 1 + 128 / 32 = 5 and is there in 105, at the port in 125, for both cores."""
    run = execute([[[load(0, 64)]], [[second]]])
    assert (done(run, 0), done(run, 1)) == ([125], [expected])
    assert (run.machine.memory.traffic.hbm_read, run.machine.memory.l2_hit) == (LINE, 64)


def test_an_access_to_a_line_that_is_there_does_not_wait() -> None:
    """In 103 the slice serves until 104, before the line is there in 105; in 200 until 201."""
    run = execute([[[load(0, 64)]], [[load(64, 64, gap=103)]], [[load(64, 64, gap=200)]]])
    assert (done(run, 1), done(run, 2)) == ([125], [221])
    # Of an earlier launch's lines nothing is known; served until 4.
    assert done(execute([[[load(64, 64, gap=3)]]], l2=warm(0, 1))) == [24]


def test_a_line_driven_out_and_fetched_again_is_in_flight_again() -> None:
    """L2 of one line: line 0, line 1, line 0 in 1, 5, 9 through the channel until 5, 9, 13; a hit in 11 waits until 113."""
    chip = make_chip()
    run = execute(
        [[[load(0, LINE), load(LINE, LINE), load(0, LINE)]], [[load(0, 64, gap=11)]]], chip, l2=L2State(LINE, LINE)
    )
    assert (done(run, 0), done(run, 1)) == ([125, 129, 133], [133])


def test_a_new_line_waits_for_the_dirty_one_that_makes_room() -> None:
    """L2 of one line, HBM of one byte a cycle: the second store drives line 0 out from 9 to 137, and is done 20 later."""
    chip = make_chip("memory.hbm.bandwidth_gbps=1")
    run = execute([[[store(0, LINE), store(LINE, LINE)]]], chip, l2=L2State(LINE, LINE))
    assert done(run) == [23, 157]
    assert run.machine.memory.traffic.hbm_write == LINE


def test_a_fetched_line_waits_for_the_dirty_one_that_makes_room() -> None:
    """Two channels of half a byte a cycle: the first is busy until 258, then with line 0 until 514; line 1 arrives in 267."""
    chip = make_chip("memory.hbm.bandwidth_gbps=1", "memory.hbm.channels=2")
    programs = [[[store(0, LINE)]], [[load(2 * LINE, LINE, gap=2, streaming=True)]], [[load(LINE, LINE, gap=11)]]]
    run = execute(programs, chip, l2=L2State(LINE, LINE))
    assert done(run, 2) == [514 + 100 + 20]


def test_a_line_driven_out_in_flight_and_written_anew_is_there_at_once() -> None:
    """L2 of one line: line 0 is fetched in 1, driven out in 5, and a store makes it anew in 9: served until 10, done in 30."""
    run = execute([[[load(0, LINE), load(LINE, LINE)]], [[store(0, 64, gap=9)]]], make_chip(), l2=L2State(LINE, LINE))
    assert done(run, 1) == [30]


def test_accesses_of_different_cores_to_a_line_are_apart() -> None:
    """There in 105, 115, 125; the third core's own next access needs no distance."""
    chip = make_chip("memory.l2.same_line_cycles=10")
    run = execute([[[load(0, 64)]], [[load(0, 64, gap=3)]], [[load(0, 64, gap=5), load(64, 64, gap=3)]]], chip)
    assert (done(run, 0), done(run, 1), done(run, 2)) == ([125], [135], [145, 145])


def test_a_line_that_is_free_again_costs_no_distance() -> None:
    """There in 2, for the other core in 12 at the earliest; in 30 the slice alone counts."""
    chip = make_chip("memory.l2.same_line_cycles=10")
    run = execute([[[load(0, 64)]], [[load(0, 64, gap=30)]]], chip, l2=warm(0, 1))
    assert (done(run, 0), done(run, 1)) == ([22], [51])


@pytest.mark.parametrize(("apart", "expected"), [(10, 32), (0, 24)])
def test_writes_to_a_new_line_are_apart_too(apart: int, expected: int) -> None:
    """The first is served until 2, the second until 4, or 2 + 10."""
    chip = make_chip(f"memory.l2.same_line_cycles={apart}")
    run = execute([[[store(0, 64)]], [[store(64, 64, gap=3)]]], chip)
    assert (done(run, 0), done(run, 1)) == ([22], [expected])


@pytest.mark.parametrize(("least", "expected"), [(1, 23), (32, 23), (128, 29)])
def test_an_access_occupies_its_slice_for_some_bytes_at_least(least: int, expected: int) -> None:
    """Four rows of 32 bytes in four lines: half a cycle each, 1 to 3; of 128 bytes, two cycles each, 1 to 9."""
    chip = make_chip(f"memory.l2.access_bytes={least}")
    run = execute([[[rows(4, 32, LINE)]]], chip, l2=warm(0, 4))
    assert done(run) == [expected]
    assert run.machine.memory.l2_hit == 4 * 32


@pytest.mark.parametrize("pitch", [32 * LINE, 1 << 27])
def test_a_hash_spreads_power_of_two_pitches(pitch: int) -> None:
    """Four rows, lines 0, 32, 64, 96 (or that times 2 ** 15): the same slice and channel without a hash, all four with it.

    A slice of 16 bytes a cycle takes 2 cycles a row of 32 bytes, a channel of 8 takes 16 a line. The port is busy for 4 bytes'
    cycles and 3 x 2 row cycles.
    """
    expected = {"false": (1 + 4 * 16 + 120, 1 + 4 * 2 + 20), "true": (1 + 16 + 120, 1 + 2 + 20)}
    for hashed, cycles in expected.items():
        chip = make_chip("memory.l2.slices=4", "memory.hbm.channels=4", f"memory.address_hash={hashed}")
        l2 = L2State(1024 * LINE, LINE)
        assert done(execute([[[rows(4, 32, pitch)]]], chip, l2=l2)) == [cycles[0]]
        assert done(execute([[[rows(4, 32, pitch)]]], chip, l2=l2)) == [cycles[1]]


def test_a_row_of_hbm_is_opened_once_and_stays_open() -> None:
    """Rows of two lines, two banks. Lines 0 to 5 are rows 0, 0, 1, 1, 2, 2; row 2 takes the bank of row 0.

    Requests in 1, 5, ..., 21; the channel is busy until 15, 19, 33, 37, 51, 55. Then line 2 in 25: its row is still open,
    until 59; line 0 in 29: its row is not, until 73.
    """
    chip = make_chip(
        "memory.hbm.row_bytes=256", "memory.hbm.banks=2", "memory.hbm.row_miss_cycles=10", "core.load.outstanding=8"
    )
    program = [load(0, 6 * LINE, streaming=True), load(2 * LINE, LINE, streaming=True), load(0, LINE, streaming=True)]
    assert done(execute([[program]], chip)) == [175, 179, 193]


def test_rows_lie_across_all_channels() -> None:
    """Two channels of 16 bytes a cycle, rows of 128 bytes in each: lines 0 and 1 are row 0 of both, line 2 row 1."""
    chip = make_chip(
        "memory.hbm.channels=2", "memory.hbm.row_bytes=128", "memory.hbm.banks=1", "memory.hbm.row_miss_cycles=10"
    )
    # Channel 0: 1 to 19 and, from 19, line 2 until 37. Channel 1: 5 to 23.
    assert done(execute([[[load(0, LINE), load(LINE, LINE), load(2 * LINE, LINE)]]], chip)) == [139, 143, 157]


def test_a_channel_turns_between_reads_and_writes() -> None:
    """Read until 5; write, turned, until 16; write until 20; read, turned, until 31."""
    chip = make_chip("memory.hbm.turnaround_cycles=7")
    programs = [
        load(0, LINE),
        store(8 * LINE, LINE, 3, True),
        store(16 * LINE, LINE, 4, True),
        load(24 * LINE, LINE, 5),
    ]
    run = execute([[[row]] for row in programs], chip)
    assert [done(run, core) for core in range(4)] == [[125], [136], [140], [151]]


def test_channels_transfer_whole_bursts() -> None:
    """A line of 128 bytes as 192, 6 cycles; 40 bytes as 96, 3 cycles. Traffic counts the bytes that were asked for."""
    chip = make_chip("memory.hbm.burst_bytes=96")
    run = execute([[[load(0, LINE)]], [[store(8 * LINE, 40, 20, True)]]], chip)
    assert (done(run, 0), done(run, 1)) == ([127], [143])
    assert (run.machine.memory.traffic.hbm_read, run.machine.memory.traffic.hbm_write) == (LINE, 40)


def test_a_channel_waits_when_another_core_has_the_line_next() -> None:
    """Line 0 streams in until 5; for another core, after 7 cycles, until 16; line 1 until 20; line 0 for core 1 until 24."""
    chip = make_chip("memory.hbm.same_line_cycles=7")
    programs = [load(0, LINE), load(0, LINE, 2), load(LINE, LINE, 3), load(0, LINE, 4)]
    run = execute([[[load(each.gm[0], LINE, each.gap, True)]] for each in programs if each.gm], chip)
    assert [done(run, core) for core in range(4)] == [[125], [136], [140], [144]]


def test_a_line_that_is_driven_out_keeps_nobody_waiting() -> None:
    """L2 of one line, line 0 dirty; line 1 drives it out, in 1 until 5 and in until 9. Core 1 streams line 0 in 2, until 13,
    and in 20, which is not after another core's, until 24."""
    chip = make_chip("memory.hbm.same_line_cycles=7")
    l2 = L2State(LINE, LINE)
    execute([[[store(0, LINE)]]], chip, l2=l2)
    again = [load(0, LINE, 2, True), load(0, LINE, 18, True)]
    run = execute([[[load(LINE, LINE)]], [again]], chip, l2=l2)
    assert (done(run, 0), done(run, 1)) == ([129], [133, 144])


def test_a_streaming_read_fetches_its_sectors_once() -> None:
    """Rows of 40 bytes from 16 on, in sectors of 32 two each, 64 bytes or two cycles in the channel. 96 bytes from 16 on
    in requests of 32, in 1, 2 and 3: sectors 0 and 1 until 3, sector 2 until 4, sector 3 until 5."""
    chip = make_chip("memory.l2.sector_bytes=32", "core.load.chunk_bytes=32", "core.load.min_burst_bytes=1")
    apart = Row("load", 0, gm=(16, 3, 40, LINE), streaming=True)
    run = execute([[[apart]]], make_chip("memory.l2.sector_bytes=32"))
    assert (done(run), run.machine.memory.traffic.hbm_read) == ([127], 3 * 64)
    run = execute([[[load(16, 96, streaming=True)]]], chip)
    assert (done(run), run.machine.memory.traffic.hbm_read) == ([125], 4 * 32)
    whole = execute([[[load(16, 96)]]], chip)
    assert (done(whole), whole.machine.memory.traffic.hbm_read) == ([125], LINE)


def test_a_dirty_line_is_written_back_before_its_successor_is_fetched() -> None:
    """L2 of one line, line 0 dirty. Its write-back until 1 + 4; the fetch of line 1, turned, until 16."""
    chip = make_chip("memory.hbm.turnaround_cycles=7")
    l2 = L2State(LINE, LINE)
    execute([[[store(0, LINE)]]], chip, l2=l2)
    assert done(execute([[[load(LINE, LINE)]]], chip, l2=l2)) == [136]


UNCACHED = make_chip("memory.l2.unaligned_reads=uncached")


def test_an_unaligned_row_fetches_each_of_its_lines_once_and_leaves_l2_alone() -> None:
    """512 bytes from 2 on lie in five lines, in four requests of two pieces each. They come through the channel until 5, 9
    (request in 1), 13 (in 5), 17 (in 9) and 21 (in 13), and what the next request takes of the same line costs nothing."""
    for l2 in (L2State(64 * LINE, LINE), warm(0, 5)):
        before = list(l2.lines)
        run = execute([[[load(2, 512)]]], UNCACHED, l2=l2)
        assert done(run) == [141]
        assert (run.machine.memory.traffic.hbm_read, run.machine.memory.l2_hit) == (5 * LINE, 0)
        assert list(l2.lines) == before


def test_a_streamed_row_off_the_lines_fetches_each_of_them_once() -> None:
    """512 bytes from 32 on, aligned but off the borders of lines: five lines; a second instruction fetches its line anew."""
    run = execute([[[load(32, 512, streaming=True)]]], make_chip())
    assert (done(run), run.machine.memory.traffic.hbm_read) == ([141], 5 * LINE)
    twice = execute([[[load(32, 64, streaming=True), load(96, 32, streaming=True)]]], make_chip())
    assert (done(twice), twice.machine.memory.traffic.hbm_read) == ([125, 129], 2 * LINE)


def test_an_engine_keeps_an_uncached_line_for_one_instruction() -> None:
    """Two instructions fetch line 0 twice, until 5 and 9; two rows of one instruction in it fetch it once."""
    twice = execute([[[load(2, 60), load(64, 2)]]], UNCACHED)
    assert (done(twice), twice.machine.memory.traffic.hbm_read) == ([125, 129], 2 * LINE)
    once = execute([[[rows(2, 30, 40)]]], UNCACHED)
    assert (done(once), once.machine.memory.traffic.hbm_read) == ([125], LINE)


@pytest.mark.parametrize(
    ("row", "uncached"),
    [
        (load(32, 64), False),
        (load(32, 96), False),
        (load(32, 60), True),
        (load(36, 60), True),
        (load(0, LINE + 4), True),
        (store(2, 60), False),
    ],
)
def test_only_reads_off_a_block_are_uncached(row: Row, uncached: bool) -> None:
    l2 = warm(0, 2)
    traffic = execute([[[row]]], UNCACHED, l2=l2).machine.memory.traffic
    assert traffic.hbm_read == (LINE if uncached else 0)
    cached = execute([[[row]]], make_chip(), l2=warm(0, 2)).machine.memory.traffic
    assert cached.hbm_read == 0


def test_an_unaligned_read_of_a_dirty_line_is_a_hit() -> None:
    """Line 2 is dirty: the pieces [256, 258) and [258, 384) come from L2, the four other lines from HBM."""
    l2 = L2State(64 * LINE, LINE)
    execute([[[store(2 * LINE, 32)]]], UNCACHED, l2=l2)
    memory = execute([[[load(2, 512)]]], UNCACHED, l2=l2).machine.memory
    assert (memory.traffic.hbm_read, memory.l2_hit) == (4 * LINE, LINE)


def test_row_cycles_may_be_rational() -> None:
    """Two rows of 32 bytes take 2 + 1/3 cycles in the port, and the thirds are kept: 0, 2 1/3, 4 2/3, 7, ..."""
    chip = make_chip("core.load.row_cycles=1/3", "core.load.outstanding=100")
    run = execute([[[rows(2, 32, LINE, 8 * LINE * i) for i in range(7)]]], chip)
    assert [run.times()[i][0] for i in range(7)] == [1, 3, 5, 8, 10, 12, 15]


def load_issue(chip: NpuConfig, space: int) -> tuple[int, int]:
    """Startup of a load of 3 rows of 80 bytes, and the units of a cycle that its requests take in the port."""
    insn = Insn("ld", "fp16", args={"dst": 0, "src": 1, "rows": 0, "cols": 1})
    program = [*sizes(3, 40), desc(0, space, 96), desc(1, 0, 1000), insn]
    occupancy, _, stream = one(program, chip)
    site = stream.sites[stream.rows.site[-1]]
    engine = engines_of(chip)["load"]
    chunks = plan_chunks(engine, engine.byte_units(site), engine.row_units(site), 3, 80, 1000)
    return occupancy, sum(chunk.port_time for chunk in chunks) * 12 // engine.units


def test_loads_into_l1_have_their_own_issue() -> None:
    """In twelfths of a cycle: 240 bytes at 32 and 64 a cycle are 90 and 45; two rows of 3/4 and of 5/3 cycles 18 and 40."""
    chip = make_chip(
        "core.load.startup_cycles=9", "core.load.row_cycles=0.75",
        "core.load.l1_startup_cycles=31", "core.load.l1_row_cycles=5/3",
    )  # fmt: skip
    assert load_issue(chip, UB) == (9, 90 + 18)
    assert load_issue(chip, L1) == (31, 45 + 40)
    alike = make_chip("core.load.startup_cycles=9", "core.load.row_cycles=0.75")
    assert load_issue(alike, L1) == (9, 45 + 18)

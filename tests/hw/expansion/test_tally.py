"""Sums over streams against counting their instructions one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
from tests.hw.engine_kit import Row, make_stream

from npuvm.hw.expansion.stream import Column, Stream
from npuvm.hw.expansion.tally import SiteTable, Tally, unite

UNITS = ("vector", "cube", "load", "store")


def random_streams(random: Random, lengths: Sequence[int]) -> list[Stream]:
    """Streams of one text: instructions of four sites, with a few sizes each."""
    text = make_stream([Row(unit) for unit in UNITS])

    def column(length: int, *values: int) -> Column:
        return np.array(random.choices(values, k=length), dtype=np.int64)

    return [
        replace(
            make_stream([Row("vector", random.randrange(9), gap=random.randrange(5)) for _ in range(length)]),
            sites=text.sites,
            site=column(length, 0, 1, 3),
            size=np.stack([column(length, 1, 16, 16, 16), column(length, 8), column(length, 0, 5)], axis=1),
            gm_rows=column(length, 0, 1, 2),
            gm_row_bytes=column(length, 64),
        )
        for length in lengths
    ]


def counted(table: SiteTable) -> Counter[tuple[int, ...]]:
    """Instructions by site and sizes, as the table has them; no kind may be there twice."""
    rows = [tuple(row) for row in table.kinds.tolist()]
    assert len(set(rows)) == len(rows)
    return Counter(dict(zip(rows, table.times.tolist(), strict=True)))


def expected(streams: Sequence[Stream]) -> Counter[tuple[int, ...]]:
    return Counter((site, *size) for s in streams for site, size in zip(s.site.tolist(), s.size.tolist(), strict=True))


def test_a_tally_counts_every_instruction() -> None:
    random = Random(3)
    streams = random_streams(random, [0, 1, 50, *[7] * 200])
    tally = Tally.of(streams)
    (table,) = tally.tables
    assert counted(table) == expected(streams)
    assert tally.gap == sum(sum(s.gap.tolist()) for s in streams)
    for index in range(len(UNITS)):
        rows = [(s, at) for s in streams for at, site in enumerate(s.site.tolist()) if site == index]
        assert table.count[index] == len(rows)
        assert table.occupancy[index] == sum(s.occupancy[at] for s, at in rows)
        assert table.moved[index] == sum(s.gm_rows[at] * s.gm_row_bytes[at] for s, at in rows)


def test_cores_of_one_text_share_a_table() -> None:
    first, second = random_streams(Random(5), [20, 30])
    other = make_stream([Row("vector"), Row("vector")])
    tables = unite([Tally.of([first]), Tally.of([second, other])])
    assert [counted(table) for table in tables] == [expected([first, second]), expected([other])]


def test_nothing_adds_up_to_nothing() -> None:
    assert Tally().tables == [] and unite([Tally(), Tally()]) == []
    assert (Tally().gap, Tally().bank) == (0, 0)

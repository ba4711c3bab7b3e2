from __future__ import annotations

import io

from rich.console import Console

from npuvm.runtime.tables import launches_text, plain_table


def test_numbers_stand_to_the_right_and_text_to_the_left() -> None:
    table = plain_table([("unit", False), ("cycles", True)])
    table.add_row("vector", "7")
    table.add_row("seq", "1,234")
    file = io.StringIO()
    Console(file=file, width=40).print(table)
    rows = [line.rstrip() for line in file.getvalue().splitlines()]
    assert " unit    cycles" in rows
    assert " vector       7" in rows
    assert " seq      1,234" in rows


def test_one_launch_is_a_launch() -> None:
    assert [launches_text(count) for count in (0, 1, 2, 1200)] == [
        "0 launches",
        "1 launch",
        "2 launches",
        "1,200 launches",
    ]

from __future__ import annotations

from npuvm.runtime.device.cache import ProgramCache


def test_a_program_is_made_once() -> None:
    made: list[str] = []
    cache: ProgramCache[str] = ProgramCache(4)

    def make() -> str:
        made.append("p")
        return "program"

    assert cache.get("key", make) == ("program", False)
    assert cache.get("key", make) == ("program", True)
    assert (len(made), cache.hits, cache.misses) == (1, 1, 1)


def test_the_least_recently_used_program_goes_first() -> None:
    cache: ProgramCache[int] = ProgramCache(2)
    for key in (1, 2, 1, 3):
        cache.get(key, lambda key=key: key)  # type: ignore[misc]
    assert [cache.get(key, lambda: -1) for key in (1, 3, 2)] == [(1, True), (3, True), (-1, False)]
    assert len(cache) == 2

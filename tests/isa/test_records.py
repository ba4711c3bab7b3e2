"""Records with a quick constructor are what the dataclass alone would make."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from npuvm.isa.records import quick_record


@dataclass(frozen=True, slots=True)
class Base:
    name: str


@quick_record
@dataclass(frozen=True, slots=True)
class Record(Base):
    size: int
    tags: tuple[str, ...] = ()
    note: str | None = field(default=None, compare=False, repr=False)


def test_fields_are_given_by_place_by_name_or_not_at_all() -> None:
    made = Record("a", 3, note="n")
    assert (made.name, made.size, made.tags, made.note) == ("a", 3, (), "n")
    assert made == Record(size=3, name="a") != Record("a", 4)
    assert repr(made) == "Record(name='a', size=3, tags=())"
    assert hash(made) == hash(Record("a", 3))


def test_a_field_that_is_missing_or_unknown_is_refused() -> None:
    with pytest.raises(TypeError, match="size"):
        Record("a")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="other"):
        Record("a", 3, other=1)  # type: ignore[call-arg]


def test_it_stays_frozen_and_can_be_replaced_and_pickled() -> None:
    made = Record("a", 3, ("t",))
    with pytest.raises(FrozenInstanceError):
        made.size = 4  # type: ignore[misc]
    assert replace(made, size=4) == Record("a", 4, ("t",))
    assert pickle.loads(pickle.dumps(made)) == made

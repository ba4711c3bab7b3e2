"""A search of a space: which points are asked for, what is known of them, kept so that it can be killed at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from npuvm.explore.evaluation import Evaluation, Evaluator, code_name
from npuvm.explore.results.codes import by_code
from npuvm.explore.results.entry import Entry
from npuvm.explore.results.front import done_vector, non_dominated
from npuvm.explore.space import Point, Space, load_space_text
from npuvm.explore.study.census import take_census
from npuvm.explore.study.errors import StudyError, StudyFailure, need
from npuvm.explore.study.executors import Executor, Front, InProcess, SpaceEvaluate
from npuvm.explore.study.identity import Identity
from npuvm.explore.study.lock import FileLock
from npuvm.explore.study.screen import Screen
from npuvm.explore.study.settings import SamplerName, Settings

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage

    from npuvm.explore.study.search import Search

__all__ = ["Outcome", "Stored", "Study", "default_storage", "read_study"]

Outcome = Literal["evaluated", "exhausted", "sparse"]
"""Why a search ended: so many points were wanted, the space has no more, or no more were found in it."""

_IDENTITY = "npuvm"
_NUMBER, _EVALUATION = "number", "evaluation"


def default_storage(space: Space) -> str:
    """The file of a study when nothing else is said, from the current folder."""
    return str(Path("build", "explore", f"{space.name}.sqlite"))


@dataclass(frozen=True)
class Stored:
    """What a storage has of a study, without a claim on it."""

    space: Space
    identity: Identity
    entries: tuple[Entry, ...]

    @property
    def settings(self) -> Settings:
        """Those that the study was begun with."""
        return self.identity.settings

    def changed(self) -> tuple[str, ...]:
        """What its points came from and is not as it was, or cannot be read any more: by name, none where all is as it was."""
        return self.identity.changed(self.space)


class Study:
    """A search of a space in a storage. A context manager; while it is open no other process may write its file.

    Points are asked for in batches, each whole before any of its points is told. What a batch asks for depends on the settings
    and on earlier batches alone, and what a point's evaluation may see of others is the front of earlier batches. So points
    and measures are the same however many processes evaluate them and however often the search is stopped.

    Each evaluation is one trial of optuna's, written at once when it is there; nothing else is written.
    """

    def __init__(
        self,
        space: Space,
        settings: Settings,
        study: optuna.Study,
        storage: RDBStorage,
        where: str,
        lock: FileLock | None,
    ):
        """For `open`, which says how."""
        self.space = space
        self.settings = settings
        self._study = study
        self._storage = storage
        self.where = where
        self._lock = lock
        self._entries = {entry.number: entry for entry in _entries_of(study, space)}

    @classmethod
    def open(
        cls,
        space: Space,
        storage: str | None = None,
        sampler: SamplerName | None = None,
        seed: int | None = None,
        *,
        batch: int | None = None,
        bounds: bool | None = None,
        fresh: bool = False,
        other_code: bool = False,
    ) -> Study:
        """The study of a space in a storage, a file's path or a URL of optuna's; it is begun if it is not there.

        Settings that are not given are those of the study, of a new one the space's. `fresh` forgets what is there.
        StudyError where the study there has points of another space or of other settings, or, but for `other_code`, points that
        other code evaluated; StudyFailure where it is in use.
        """
        need("optuna")
        from npuvm.explore.study import storage as storages

        url = storages.url_of(storage or default_storage(space))
        lock = _lock_of(storages.file_of(url))
        opened = None
        try:
            opened = storages.open_storage(url, tables=True)
            with storages.storage_errors(url):
                asked = {"sampler": sampler, "seed": seed, "batch": batch, "bounds": bounds}
                given = {name: value for name, value in asked.items() if value is not None}
                study, settings = _begin(space, opened, storages.shown(url), given, fresh)
                found = cls(space, settings, study, opened, storages.shown(url), lock)
            if not other_code:
                found.check_code()
            return found
        except BaseException:
            _close(opened, lock)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the storage go."""
        _close(self._storage, self._lock)

    def check_code(self) -> None:
        """StudyError where other code than that of this process evaluated points of the study."""
        others = by_code(entry for entry in self.evaluated() if entry.evaluation.code != code_name())
        if others:
            count = sum(map(len, others.values()))
            names = ", ".join(name or "unknown" for name in others)
            raise StudyError(
                f"code {names} evaluated {count} of {len(self._entries)} points there, "
                f"this is {code_name()}: figures may not be comparable; --fresh forgets them, another --storage keeps both, "
                "--other-code goes on and marks them",
                self.where,
            )

    @property
    def results_file(self) -> Path:
        """Where processes that evaluate points of the study share results: beside its file, else where that would be."""
        if self._lock is not None:
            return Path(self.where).with_suffix(".results.sqlite")
        return Path(default_storage(self.space)).with_suffix(".results.sqlite")

    def evaluated(self) -> list[Entry]:
        """Every point that was evaluated, in the order of asking."""
        return [self._entries[number] for number in sorted(self._entries)]

    def run(
        self,
        evaluations: int | None = None,
        executor: Executor | None = None,
        listener: Callable[[Entry], None] | None = None,
        screen: Screen | None = None,
    ) -> Outcome:
        """Go on until so many points (those of earlier runs count) are evaluated, or the space has no more.

        `listener` gets each point once it is kept. Points that `screen` does not keep are not asked for; a study that goes on
        needs the one that it began with. Without `executor` points are evaluated in this process, with the screen of `screen`.
        """
        from npuvm.explore.study.search import Search

        wanted = self.space.search.evaluations if evaluations is None else evaluations
        if executor is None:
            executor = InProcess(SpaceEvaluate(self.space.path, self.space.text, bounds=self.settings.bounds))
            screen = screen or self.screen()
        search = Search(self.space, self.settings, screen)
        for first in range(0, wanted, self.settings.batch):
            front = self._front(first)
            if screen is not None:
                screen.see(front)
            points = self._batch(search, first)
            waiting = {at: point for at, point in points.items() if at not in self._entries and at < wanted}
            if waiting:
                for number, evaluation in executor.evaluate(waiting, front):
                    entry = Entry(number, points[number], evaluation)
                    self._keep(entry)
                    if listener is not None:
                        listener(entry)
            if not points and not first:
                take_census(self.space).some_point(self.space)
            if first + len(points) < min(first + self.settings.batch, wanted):
                return "exhausted" if search.ended else "sparse"
            if first + self.settings.batch < wanted:
                for number in points:
                    search.tell(number, self._entries[number].evaluation)
        return "evaluated"

    def screen(self, store: Path | None = None) -> Screen | None:
        """What knows the points of the space that are out by their limits; None where all are asked for.

        `store` is the file of results that processes share.
        """
        if self.settings.sampler == "grid" or not self.settings.bounds:
            return None
        return Screen(self.space, Evaluator(self.space, store).foresee)

    def _batch(self, search: Search, first: int) -> dict[int, Point]:
        """The points of a batch by their numbers: those that are known, and those that are asked for."""
        points: dict[int, Point] = {}
        for number in range(first, first + self.settings.batch):
            if number in self._entries:
                point: Point | None = self._entries[number].point
                search.replay(self._entries[number].point)
            else:
                point = search.ask()
            if point is None:
                break
            points[number] = point
        return points

    def _front(self, before: int) -> Front:
        """The front of the points that were asked for before one."""
        entries = (entry for entry in self.evaluated() if entry.number < before)
        vectors = [vector for entry in entries if (vector := done_vector(self.space, entry)) is not None]
        signs = [objective.measure.sign for objective in self.space.objectives]
        return [vectors[at] for at in non_dominated(vectors, signs)] if vectors else []

    def _keep(self, entry: Entry) -> None:
        """Write what is known of a point, in one transaction."""
        from optuna.trial import TrialState, create_trial

        from npuvm.explore.study.search import VIOLATION, distributions_of, parameters_of, violation_of
        from npuvm.explore.study.storage import write_errors

        measures = entry.evaluation.measures
        values = [measures[each.name] for each in self.space.objectives if each.name in measures]
        whole = len(values) == len(self.space.objectives) and entry.evaluation.state != "failed"
        trial = create_trial(
            state=TrialState.COMPLETE if whole else TrialState.FAIL,
            values=values if whole else None,
            params=parameters_of(self.space, entry.point),
            distributions=distributions_of(self.space),
            user_attrs={_NUMBER: entry.number, _EVALUATION: entry.evaluation.to_json()},
            constraints={VIOLATION: violation_of(self.space, entry.evaluation)},
        )
        with write_errors(self.where, len(self._entries)):
            self._study.add_trial(trial)
        if self._lock is not None and not Path(self.where).is_file():
            raise StudyFailure("the file was removed while the search wrote it, and its points with it", self.where)
        self._entries[entry.number] = entry


def read_study(storage: str, name: str | None = None) -> Stored:
    """What a storage has of a study, that of the name where there are several; a search may go on meanwhile.

    StudyError where there is none.
    """
    need("optuna")
    import optuna

    from npuvm.explore.study import storage as storages

    url = storages.url_of(storage)
    file = storages.file_of(url)
    if file is not None and not file.is_file():
        raise StudyError(storages.NOTHING, storage)
    opened = storages.open_storage(url, tables=False)
    try:
        with storages.storage_errors(url):
            names = sorted(optuna.get_all_study_names(opened))
            if not names:
                raise StudyError(storages.NOTHING, storage)
            if name is None and len(names) > 1:
                raise StudyError(f"say which study; there are {', '.join(names)}", storage)
            if name is not None and name not in names:
                raise StudyError(f"no study {name!r}; there are {', '.join(names)}", storage)
            study = optuna.load_study(study_name=name or names[0], storage=opened)
            identity = _identity_of(study)
            if identity is None:
                raise StudyError(f"study {study.study_name!r} is none of npuvm's", storage)
            space = load_space_text(identity.text, identity.path, files=False)
            entries = tuple(sorted(_entries_of(study, space), key=lambda entry: entry.number))
    finally:
        _close(opened, None)
    return Stored(space, identity, entries)


def _begin(
    space: Space, storage: RDBStorage, where: str, given: Mapping[str, Any], fresh: bool
) -> tuple[optuna.Study, Settings]:
    """The study in a storage with its settings; a new one where there is none."""
    import optuna

    from npuvm.explore.study.search import directions_of

    names = optuna.get_all_study_names(storage)
    # A mistake that was noticed before the first point must not stand in the way of the corrected space.
    if space.name in names and (fresh or _without_points(optuna.load_study(study_name=space.name, storage=storage))):
        optuna.delete_study(study_name=space.name, storage=storage)
        names.remove(space.name)
    defaults = {"sampler": space.search.sampler, "seed": space.search.seed, "batch": space.search.batch, "bounds": True}
    identity = Identity.of(space, Settings(**{**defaults, **given}))
    if space.name not in names:
        study = optuna.create_study(study_name=space.name, storage=storage, directions=directions_of(space))
    else:
        study = optuna.load_study(study_name=space.name, storage=storage)
    before = _identity_of(study)
    if before is None:
        if study.get_trials(deepcopy=False):
            raise StudyError(f"study {space.name!r} is none of npuvm's; give another --storage", where)
        study.set_user_attr(_IDENTITY, identity.to_json())
        return study, identity.settings
    if differing := before.differences(identity):
        raise StudyError(
            f"the study there is of another space {space.name!r}; what differs: {', '.join(differing)}; "
            "--fresh forgets it, another --storage keeps both",
            where,
        )
    kept = {name: getattr(before.settings, name) for name in given}
    if kept != given:
        was = ", ".join(f"{name} {value}" for name, value in kept.items() if value != given[name])
        raise StudyError(f"the study there has {was}; --fresh forgets it, another --storage keeps both", where)
    return study, before.settings


def _without_points(study: optuna.Study) -> bool:
    """Whether a study of npuvm's has nothing that could be lost."""
    return _identity_of(study) is not None and not study.get_trials(deepcopy=False)


def _entries_of(study: optuna.Study, space: Space) -> Iterator[Entry]:
    from npuvm.explore.study.search import point_of

    for trial in study.get_trials(deepcopy=False):
        kept = trial.user_attrs
        yield Entry(kept[_NUMBER], point_of(space, trial.params), Evaluation.from_json(kept[_EVALUATION]))


def _identity_of(study: optuna.Study) -> Identity | None:
    data = study.user_attrs.get(_IDENTITY)
    return None if data is None else Identity.from_json(data)


def _lock_of(file: Path | None) -> FileLock | None:
    if file is None:
        return None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(file.with_name(f"{file.name}.lock"))
    except OSError as error:
        raise StudyError(f"cannot be written: {error.strerror}", str(file)) from None


def _close(storage: RDBStorage | None, lock: FileLock | None) -> None:
    if storage is not None:
        storage.remove_session()
        storage.engine.dispose()
    if lock is not None:
        lock.close()

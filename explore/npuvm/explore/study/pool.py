"""A pool of processes of this machine that outlives the death of any of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from npuvm.explore.evaluation import Evaluation
from npuvm.explore.space import Point
from npuvm.explore.study.errors import StudyFailure
from npuvm.explore.study.executors import Front, MakeEvaluate, crashed, same_code
from npuvm.isa.errors import NpuvmError

__all__ = ["TRIES", "ProcessPool"]

TRIES = 2
"""Processes that may die at a point before it counts as failed."""

_Message: TypeAlias = tuple[Literal["ready", "evaluation", "error"], Any]

_STOP_SECONDS = 5


class ProcessPool:
    """Evaluates points in so many processes, by default one a core.

    A process that dies (killed, or out of memory) is replaced, and its point is tried once more; if that ends in the same way
    the point has failed. `concurrent.futures` would give up all points then, and does not say which one did it.
    """

    def __init__(self, make: MakeEvaluate, processes: int | None = None) -> None:
        self._make = make
        self._processes = processes or os.cpu_count() or 1
        self._workers: list[_Worker] = []

    def evaluate(self, points: Mapping[int, Point], front: Front) -> Iterator[tuple[int, Evaluation]]:
        """The evaluation of each point by its number, as they come. StudyFailure where processes cannot evaluate any."""
        waiting = deque(sorted(points))
        deaths: Counter[int] = Counter()
        left = len(points)
        while left:
            while len(self._workers) < min(self._processes, left):
                self._workers.append(_Worker(self._make))
            for worker in self._workers:
                if worker.at is None and waiting:
                    worker.send(waiting.popleft(), points, front)
            for worker in _speaking(self._workers):
                number = worker.at
                assert number is not None
                try:
                    found = worker.receive()
                except EOFError:
                    self._workers.remove(worker)
                    ending = worker.ending()
                    deaths[number] += 1
                    if deaths[number] < TRIES:
                        waiting.appendleft(number)
                        continue
                    found = crashed(ending)
                if found is not None:
                    left -= 1
                    yield number, found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers.clear()


class _Worker:
    """A process that evaluates one point after another; `at` is the number of the one it is at."""

    def __init__(self, make: MakeEvaluate) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.at: int | None = None
        self._ready = False
        self._process = context.Process(target=_serve, args=(theirs, make), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, number: int, points: Mapping[int, Point], front: Front) -> None:
        """Let it evaluate a point."""
        self.at = number
        try:
            self.pipe.send((dict(points[number]), front))
        except OSError:
            return  # it has ended, which `receive` tells

    def receive(self) -> Evaluation | None:
        """What it says: the evaluation of the point it is at, or None as it begins. EOFError where it has ended."""
        try:
            kind, content = self.pipe.recv()
        except OSError as error:
            raise EOFError from error
        if kind == "error":
            raise StudyFailure(content)
        if kind == "ready":
            self._ready = True
            return None
        self.at = None
        return same_code(content)

    def ending(self) -> str:
        """How a process that has ended did so. StudyFailure where it never was ready."""
        self.pipe.close()
        self._process.join()
        code = self._process.exitcode or 0
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if not self._ready:
            raise StudyFailure(f"a process that was to evaluate points ended with {how} before its first one")
        return how

    def stop(self) -> None:
        """End it, whatever it is at."""
        self._process.terminate()
        self._process.join(_STOP_SECONDS)
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _speaking(workers: list[_Worker]) -> list[_Worker]:
    """Those of the workers at a point that have said something, or have ended."""
    busy = [worker for worker in workers if worker.at is not None]
    said = wait([worker.pipe for worker in busy])
    return [worker for worker in busy if worker.pipe in said]


def _serve(pipe: Connection[_Message, tuple[Point, Front]], make: MakeEvaluate) -> None:
    """The life of a worker: it ends when nobody listens any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which ends its workers
    try:
        evaluate = make()
        pipe.send(("ready", None))
        while True:
            point, front = pipe.recv()
            pipe.send(("evaluation", evaluate(point, front)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except NpuvmError as error:
        pipe.send(("error", str(error)))

"""Processes of this machine that work tasks off, and outlive the death of any of them."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, ClassVar, Generic, Literal, Self, TypeAlias, TypeVar

from npuvm.isa.errors import NpuvmError

__all__ = ["TRIES", "Died", "WorkerFailure", "Workers"]

TRIES = 2
"""Processes that may die at a task before it is given up."""

Task = TypeVar("Task")
Answer = TypeVar("Answer")

_Message: TypeAlias = tuple[Literal["ready", "answer", "error"], Any]

_STOP_SECONDS = 5


class WorkerFailure(NpuvmError):
    """Processes cannot do what they are asked although it is right."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Died:
    """In place of an answer: every process that was at the task died, the last one in the way that `ending` names."""

    ending: str


class Workers(Generic[Task, Answer]):
    """So many processes, each with a function of its own that `make` makes there; `make`, tasks and answers are pickled.

    A process that dies (killed, or out of memory) is replaced, and its task is tried once more. `concurrent.futures` would give
    up all tasks then, and does not say which one did it. Each process ends when this one does, however that ends.
    """

    def __init__(self, make: Callable[[], Callable[[Task], Answer]], processes: int) -> None:
        self._make = make
        self._processes = processes
        self._workers: list[_Worker[Task, Answer]] = []

    def work(self, tasks: Mapping[int, Task]) -> Iterator[tuple[int, Answer | Died]]:
        """The answer to each task by its number, as they come.

        WorkerFailure with the message of the NpuvmError that a process met, and where one cannot even begin.
        """
        waiting = deque(sorted(tasks))
        deaths: Counter[int] = Counter()
        left = len(tasks)
        while left:
            while len(self._workers) < min(self._processes, left):
                self._workers.append(_Worker(self._make))
            for worker in self._workers:
                if worker.at is None and waiting:
                    number = waiting.popleft()
                    worker.send(number, tasks[number])
            for worker in _speaking(self._workers):
                at = worker.at
                assert at is not None
                try:
                    kind, content = worker.receive()
                except EOFError:
                    self._workers.remove(worker)
                    died = worker.died()
                    deaths[at] += 1
                    if deaths[at] < TRIES:
                        waiting.appendleft(at)
                        continue
                    if not worker.ready:
                        raise WorkerFailure(f"a process ended with {died.ending} before its first task") from None
                    kind, content = "answer", died
                if kind == "answer":
                    left -= 1
                    yield at, content

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers.clear()


class _Worker(Generic[Task, Answer]):
    """A process that works one task after another off; `at` is the number of the one it is at, `ready` that it has begun."""

    def __init__(self, make: Callable[[], Callable[[Task], Answer]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.at: int | None = None
        self.ready = False
        self._process = context.Process(target=_serve, args=(theirs, make), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, number: int, task: Task) -> None:
        """Let it work a task off."""
        self.at = number
        try:
            self.pipe.send(task)
        except OSError:
            return  # it has ended, which `receive` tells

    def receive(self) -> _Message:
        """What it says: that it is ready, or the answer to the task it is at. EOFError where it has ended."""
        message: _Message
        try:
            message = self.pipe.recv()
        except OSError as error:
            raise EOFError from error
        kind, content = message
        if kind == "error":
            raise WorkerFailure(content)
        if kind == "ready":
            self.ready = True
        else:
            self.at = None
        return message

    def died(self) -> Died:
        """How a process that has ended did so."""
        self.pipe.close()
        self._process.join()
        code = self._process.exitcode or 0
        return Died(f"exit code {code}" if code >= 0 else signal.Signals(-code).name)

    def stop(self) -> None:
        """End it, whatever it is at."""
        self._process.terminate()
        self._process.join(_STOP_SECONDS)
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _speaking(workers: list[_Worker[Task, Answer]]) -> list[_Worker[Task, Answer]]:
    """Those of the workers at a task that have said something, or have ended."""
    busy = [worker for worker in workers if worker.at is not None]
    said = wait([worker.pipe for worker in busy])
    return [worker for worker in busy if worker.pipe in said]


def _serve(pipe: Connection[_Message, Task], make: Callable[[], Callable[[Task], Answer]]) -> None:
    """The life of a worker: it ends when nobody listens any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which ends its workers
    try:
        answer = make()
        pipe.send(("ready", None))
        while True:
            task = pipe.recv()
            pipe.send(("answer", answer(task)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except NpuvmError as error:
        pipe.send(("error", str(error)))

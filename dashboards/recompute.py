"""Recomputing an alert from the log: in a thread, one at a time for the whole server.

It reads the log outside of the consumer group, into a store in memory: nothing live changes.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from monitor.app.audit import Verification
from monitor.app.replay import OnProgress
from monitor.app.settings import SettingsError
from monitor.domain.errors import RecallwatchError

MOST_KEPT = 64


@dataclass(frozen=True, slots=True)
class Question:
    """A transition to recompute. ``serial`` tells which source, ``head`` is the journal's end."""

    serial: int
    alert: str
    head: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it: ``result``, or why there is none."""

    question: Question
    result: Verification | None = None
    fault: str = ""


@dataclass(slots=True)
class Progress:
    """How far the one that runs has come; ``left`` is None while that is not known."""

    question: Question
    done: int = 0
    left: int | None = None

    @property
    def share(self) -> float:
        """0..1, 0 while unknown."""
        return self.done / (self.done + self.left) if self.left is not None and self.done else 0.0


@dataclass
class Desk:
    """Takes one question at a time and keeps the latest answers."""

    running: Progress | None = None
    _answers: dict[tuple[int, str], Answer] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, serial: int, alert: str) -> Answer | None:
        """The latest answer about a transition, whatever the journal's end was then."""
        return self._answers.get((serial, alert))

    def ask(self, question: Question, verify: Callable[[str, OnProgress], Verification]) -> bool:
        """Begin, unless another question is being worked at, or this one has been answered."""
        with self._lock:
            known = self.answer(question.serial, question.alert)
            if self.running or (known and known.question == question and known.result):
                return False
            self.running = progress = Progress(question)
        work = threading.Thread(
            target=self._work, args=(progress, verify), name="recompute", daemon=True
        )
        work.start()
        return True

    def _work(self, progress: Progress, verify: Callable[[str, OnProgress], Verification]) -> None:
        def note(done: int, left: int | None) -> None:
            progress.done, progress.left = done, left

        question = progress.question
        try:
            answer = Answer(question, verify(question.alert, note))
        except (RecallwatchError, SettingsError) as error:
            answer = Answer(question, fault=str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for an answer
            answer = Answer(question, fault=f"{type(error).__name__}: {error}")
        with self._lock:
            self._answers[question.serial, question.alert] = answer
            while len(self._answers) > MOST_KEPT:
                self._answers.pop(next(iter(self._answers)))
            self.running = None

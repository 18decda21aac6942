# SPDX-License-Identifier: Apache-2.0
"""A step of a plan: a value until the executor runs it. Third parties' actions return their own kinds of steps.

What a step must tell the operator and nobody else, such as a key that it made, it confides: no log, report or event
has it.
"""

from __future__ import annotations

import contextlib
import contextvars
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

Outcome = dict[str, int | float | str]
Progress = Callable[[int, int | None], None]
"""Told the bytes done so far and, where known, those of the whole step."""

_confidant: contextvars.ContextVar[Callable[[str], None] | None] = contextvars.ContextVar("confidant", default=None)


@contextlib.contextmanager
def confiding(confidant: Callable[[str], None] | None) -> Iterator[None]:
    """Have ``confidant`` told, inside the ``with`` block, what is for the operator's eyes; ``None`` for nobody."""
    token = _confidant.set(confidant)
    try:
        yield
    finally:
        _confidant.reset(token)


def has_confidant() -> bool:
    """True where somebody would see what is confided."""
    return _confidant.get() is not None


def confide(words: str) -> None:
    """Show the operator, once, what must not be kept. A step that does so sees to it that somebody is there.

    :raises ActionFailed: when nobody is any more.
    """
    if (confidant := _confidant.get()) is not None:
        confidant(words)


@dataclass(frozen=True)
class Step(ABC):
    """One thing to do. ``action`` is the name of the action that planned it.

    ``writes`` says whether it changes anything on the node. Until one does, an error means what it does before a run.
    """

    writes: ClassVar[bool] = True
    action: str

    @property
    @abstractmethod
    def description(self) -> str:
        """Description for people: one line, no secrets."""

    @property
    def destroys(self) -> tuple[str, ...]:
        """The devices whose present content is lost."""
        return ()

    def preflight(self) -> Iterable[str] | None:
        """Check, changing nothing, what only the machine or the network can tell. Runs before the first step.

        :returns: warnings, if any: a line each, no secrets.
        :raises UnsuitableNode: when the step could not work on this node.
        :raises InvalidInput: when the input asks for what cannot be, as what was looked at shows.
        :raises ImageFailed: when what it needs from elsewhere is not there.
        """
        return None

    @abstractmethod
    def run(self, progress: Progress) -> Outcome:
        """Do it.

        :returns: figures for the report, such as ``bytes``.
        :raises ActionFailed: or one of its kind, when it did not work.
        :raises ImageFailed: when an image did not arrive whole.
        """

    def conclude(self) -> None:  # noqa: B027  only what ends the machine has something to do here
        """Do what nothing may follow, once all steps are done, the report is written and the lock released.

        :raises ActionFailed: or one of its kind, when it did not work.
        """

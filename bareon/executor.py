# SPDX-License-Identifier: Apache-2.0
"""Carries a plan out: the only place from which anything is changed. Listeners are told of each step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bareon.errors import ActionFailed, DisksDiffer, InvalidInput, Locked, UnsuitableNode, UsageError
from bareon.plan.plan import Plan
from bareon.step import Outcome, Step

LOG = logging.getLogger(__name__)

Kind = Literal["started", "progressed", "finished", "failed"]


@dataclass(frozen=True)
class Event:
    """Something happened to step ``number`` (counted from 1) of ``count``.

    ``seconds`` is the time since the step started; ``done`` and ``total`` are bytes, where the step counts them.
    """

    kind: Kind
    number: int
    count: int
    action: str
    description: str
    seconds: float = 0.0
    done: int | None = None
    total: int | None = None
    outcome: Outcome = field(default_factory=dict)
    error: str | None = None

    @property
    def rate(self) -> int | None:
        """Bytes a second so far, or of the whole step once it is finished."""
        amount = self.done if self.done is not None else self.outcome.get("bytes")
        return int(amount / self.seconds) if isinstance(amount, int) and self.seconds > 0 else None

    @property
    def remaining(self) -> float | None:
        """Seconds that the rest takes at the rate so far, where the whole amount is known."""
        if not self.done or not self.total or self.done > self.total:
            return None
        return (self.total - self.done) * self.seconds / self.done


Listener = Callable[[Event], None]


def preflight(plan: Plan) -> list[str]:
    """Run the preflight of every step, before any of them changes anything.

    :returns: what they warn of.
    :raises UnsuitableNode: or :class:`ImageFailed` or :class:`InvalidInput`, from the first step that cannot work.
    """
    return [warning for step in plan.steps for warning in step.preflight() or ()]


def execute(plan: Plan, listeners: Sequence[Listener]) -> None:
    """Run the steps in order and stop at the first that fails.

    :raises BareonError: what the step raised; the listeners have been told.
    """
    written = False
    for number, step in enumerate(plan.steps, 1):
        written = written or step.writes
        LOG.info("step %d of %d: %s: %s", number, len(plan.steps), step.action, step.description)
        _run(
            step,
            Event("started", number, len(plan.steps), step.action, step.description),
            listeners,
            written=written,
        )


def conclude(plan: Plan) -> None:
    """Run the conclusions of the steps, such as a restart, after all else of the run."""
    for step in plan.steps:
        step.conclude()


def _run(step: Step, event: Event, listeners: Sequence[Listener], *, written: bool) -> None:
    started = time.monotonic()

    def tell(kind: Kind, **more: Any) -> None:
        now = replace(event, kind=kind, seconds=time.monotonic() - started, **more)
        for listener in listeners:
            listener(now)

    tell("started")
    try:
        outcome = step.run(lambda done, total: tell("progressed", done=done, total=total))
    except (UsageError, UnsuitableNode, InvalidInput, DisksDiffer, Locked) as error:
        tell("failed", error=str(error))
        if not written:
            raise
        # Those mean that nothing was written, which is no longer so.
        raise ActionFailed(str(error)) from error
    except BaseException as error:
        tell("failed", error=str(error) or type(error).__name__)
        raise
    tell("finished", outcome=outcome)

# SPDX-License-Identifier: Apache-2.0
"""What the executor tells its listeners while it works. Times are seconds, amounts bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from bareon.step import Outcome

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

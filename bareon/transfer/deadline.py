# SPDX-License-Identifier: Apache-2.0
"""Deadline, cancellation and retries of a transfer.

All threads of a transfer end together: when one fails, the time is over, or the caller leaves.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import tenacity

from bareon.errors import ImageFailed
from bareon.model.settings import TransferSettings


class Stopped(Exception):
    """Another thread ended the transfer. Never leaves the package."""


class TooSlow(ImageFailed):
    """The time for all of it is over."""


class Deadline:
    """One transfer's end: ``stop`` from any thread, ``check`` often, ``pause`` instead of sleeping."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._stopped = threading.Event()

    def part(self) -> Deadline:
        """The deadline of a part of the transfer: it ends at the same time, and is stopped by itself."""
        part = Deadline(self._seconds)
        part._end = self._end
        return part

    def stop(self) -> None:
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def check(self) -> None:
        """Raise Stopped, or TooSlow when the time for the whole transfer is over."""
        if self._stopped.is_set():
            raise Stopped
        if time.monotonic() > self._end:
            raise self.too_slow()

    def too_slow(self) -> TooSlow:
        """What says that the time for the whole transfer is over."""
        return TooSlow(f"took longer than {self._seconds:g} s in all")

    def pause(self, seconds: float) -> None:
        """Wait that long, or until the transfer ends."""
        self._stopped.wait(min(seconds, max(0.0, self._end - time.monotonic()) + 0.001))
        self.check()

    def left(self, at_most: float) -> float:
        """Seconds that one operation may take."""
        return max(0.001, min(at_most, self._end - time.monotonic()))


def pause(settings: TransferSettings, failed: int, asked: float, chance: float) -> float:
    """Seconds to wait after so many ``failed`` attempts in a row.

    Many nodes that one server has sent away must not come back at the same moment: ``chance``, from 0 to 1, chooses
    between half and all of a time that doubles with each attempt.

    :param asked: the seconds that the other side asks to wait; the time is added to them.
    """
    longest = min(settings.back_off * 2.0 ** min(failed - 1, 30), settings.longest_wait)
    return asked + longest * (1 + chance) / 2


def retrying(
    settings: TransferSettings,
    mendable: Callable[[BaseException], bool],
    told: Callable[[BaseException, int], None],
    sleep: Callable[[float], None] = time.sleep,
    asked: Callable[[BaseException], float] = lambda error: 0.0,
    later: Callable[[BaseException], bool] = lambda error: False,
) -> tenacity.Retrying:
    """A retrier: calls a function until it succeeds, or fails for good; then the last exception goes on.

    :param mendable: whether another attempt may help after such an exception.
    :param told: called before each further attempt with the exception and the number of the attempt that failed.
    :param asked: the seconds that the other side asked to wait by such an exception.
    :param later: whether the other side is well and only has no time now, as it is when it asks to wait. Such an
        attempt is none that has failed: of many nodes at one server the last may wait for as long as all others take.
    """
    over = tenacity.stop_after_delay(settings.total_timeout)
    failed = 0

    def enough(state: tenacity.RetryCallState) -> bool:
        nonlocal failed
        error = state.outcome.exception() if state.outcome else None
        assert error
        failed += not (settings.patient and (asked(error) > 0 or later(error)))
        return failed >= settings.attempts or over(state)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        assert error
        return pause(settings, state.attempt_number, asked(error), random.random())

    def say(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        assert error
        told(error, state.attempt_number)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(mendable),
        stop=enough,
        wait=wait,
        before_sleep=say,
        sleep=sleep,
        reraise=True,
    )

# SPDX-License-Identifier: Apache-2.0
"""Trying again: how often and how long to wait, the same for every way an image arrives."""

from __future__ import annotations

import time
from collections.abc import Callable

import tenacity

from bareon.model.settings import TransferSettings


def retrying(
    settings: TransferSettings,
    mendable: Callable[[BaseException], bool],
    told: Callable[[BaseException, int], None],
    sleep: Callable[[float], None] = time.sleep,
) -> tenacity.Retrying:
    """What calls a function until it succeeds, or fails for good; then its own exception goes on.

    :param mendable: whether another attempt may help after such an exception.
    :param told: called before each further attempt with the exception and the number of the attempt that failed.
    """

    def say(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        assert error
        told(error, state.attempt_number)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(mendable),
        stop=tenacity.stop_after_attempt(settings.attempts) | tenacity.stop_after_delay(settings.total_timeout),
        wait=tenacity.wait_exponential(multiplier=settings.back_off, max=settings.longest_wait),
        before_sleep=say,
        sleep=sleep,
        reraise=True,
    )

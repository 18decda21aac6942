# SPDX-License-Identifier: Apache-2.0
"""How the threads of one transfer come to an end: all together, when one fails, time is up, or the caller leaves."""

from __future__ import annotations

import threading
import time

from bareon.errors import ImageFailed


class Stopped(Exception):
    """Another thread ended the transfer. Never leaves the package."""


class Halt:
    """One transfer's end: ``stop`` from any thread, ``check`` often, ``pause`` instead of sleeping."""

    def __init__(self, shown: str, seconds: float) -> None:
        self._shown = shown
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def check(self) -> None:
        """Raise Stopped, or ImageFailed when the time for the whole transfer is over."""
        if self._stopped.is_set():
            raise Stopped
        if time.monotonic() > self._deadline:
            raise ImageFailed(f"{self._shown}: took longer than {self._seconds:g} s in all")

    def pause(self, seconds: float) -> None:
        """Wait that long, or until the transfer ends."""
        self._stopped.wait(min(seconds, max(0.0, self._deadline - time.monotonic()) + 0.001))
        self.check()

    def left(self, at_most: float) -> float:
        """Seconds that one operation may take."""
        return max(0.001, min(at_most, self._deadline - time.monotonic()))

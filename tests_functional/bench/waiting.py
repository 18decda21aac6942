# SPDX-License-Identifier: Apache-2.0
"""Waiting for what comes true by itself."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], what: str, limit: float = 60.0, pause: float = 0.05) -> None:
    """Wait until ``condition`` holds, with a pause between two looks."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit:g} s: {what}")
        time.sleep(pause)

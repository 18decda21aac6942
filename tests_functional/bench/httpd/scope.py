# SPDX-License-Identifier: Apache-2.0
"""What one user of the server asked for."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Request:
    """One request: what was asked for, and what was sent; ``sent`` counts the bytes of the body."""

    method: str
    path: str
    range: str | None
    status: int = 0
    sent: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class Scope:
    """What one user of the server asked for: faults that happen once happen once in each scope."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, request: Request) -> int:
        """Keep a request and return how many came before it for the same path."""
        with self._lock:
            self.requests.append(request)
            before = self._counts.get(request.path, 0)
            self._counts[request.path] = before + 1
            return before

    def first_unused(self, path: str, numbers: tuple[int, ...], low: int, high: int) -> int | None:
        """Return the first of ``numbers`` in ``[low, high)`` that was not returned before for this path."""
        with self._lock:
            for number in sorted(numbers):
                key = f"{path}#{number}"
                if low <= number < high and key not in self._counts:
                    self._counts[key] = 1
                    return number
        return None

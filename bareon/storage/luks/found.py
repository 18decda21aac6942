# SPDX-License-Identifier: Apache-2.0
"""Containers as they were found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bareon.step import Step
from bareon.storage.kind import Joined, Signature, words
from bareon.storage.luks.step import CloseContainer


@dataclass(frozen=True)
class ContainerFacts(Joined):
    """A container, open as ``device`` or closed; then what is in it is unknown, and ``size`` with it.

    ``format`` is ``luks1``, ``luks2``, ``plain`` (which is only seen while it is open), the device mapper's word for
    others, ``damaged``, or ``luks`` where nobody could read more. ``name`` is what it is open as; of a closed one its
    label, or else ``luks-`` and its UUID.
    ``alias`` stands for the opened device among the members of others: :data:`MAPPER` and that name, or the UUID
    where another container has the same one.
    """

    name: str
    format: str
    members: tuple[str, ...]
    alias: str
    uuid: str | None = None
    label: str | None = None
    cipher: str | None = None
    device: str | None = None
    size: int | None = None
    content: Signature | None = None

    @property
    def title(self) -> str:
        return f"container {self.name}"

    @property
    def words(self) -> str:
        return f"{self.title} ({words(self.content) if self.running else 'closed'})"

    @property
    def running(self) -> bool:
        return self.device is not None

    @property
    def plausible(self) -> Iterator[tuple[str, str, bool]]:
        yield "", self.device or "/dev/", (self.size or 0) >= 0

    def stop(self, action: str) -> Iterator[Step]:
        yield CloseContainer(action, self.name, self.members)

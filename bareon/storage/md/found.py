# SPDX-License-Identifier: Apache-2.0
"""Arrays as they were found."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from bareon.step import Step
from bareon.storage.kind import Joined, Signature, words
from bareon.storage.md.step import StopArray

SIGNATURE = "linux_raid_member"
PROGRAMS = ("mdadm",)


@dataclass(frozen=True)
class ArrayFacts(Joined):
    """An md array. ``device`` and ``size`` are those of the running array, ``None`` where it is not running.

    ``count`` is the number of members it should have, ``members`` those that are there. Names need not be unique;
    ``alias`` is, and stands for the array among the members of a volume group: ``/dev/md/`` and its name, or its UUID
    where another array has the same name. ``runs_as`` is ``device`` where it runs, but not as its name says.

    What shows only while it runs: ``missing`` is the number of places without a member in step, ``out_of_step`` are
    the members that have failed or are stale, ``rebuilt`` those that are being brought into step; ``task`` is
    ``recover``, ``reshape`` or the like, of which ``percent`` are done. ``metadata``, ``bitmap`` and ``homehost``
    are ``None`` where they are not known.
    """

    name: str
    uuid: str
    level: str
    count: int
    members: tuple[str, ...]
    alias: str
    device: str | None = None
    size: int | None = None
    content: Signature | None = None
    metadata: str | None = None
    bitmap: bool | None = None
    homehost: str | None = None
    runs_as: str | None = None
    missing: int = 0
    out_of_step: tuple[str, ...] = ()
    rebuilt: tuple[str, ...] = ()
    task: str | None = None
    percent: int | None = None

    @property
    def done(self) -> str:
        """How far its task is, in words that can follow others."""
        return f" ({self.percent}% done)" if self.percent is not None else ""

    @property
    def wait(self) -> str:
        """What to wait for, in words."""
        start = "" if self.running else "it goes on once the array runs (mdadm --assemble --scan): "
        return f"{start}wait until 'mdadm --wait {self.device or self.alias}' returns"

    def degraded(self, gone: Collection[str]) -> str:
        """What is missing, in words, and what would mend it; the members ``gone`` are not there at all."""
        words = [f"is degraded, {self.missing} of {self.count} members missing"]
        words += [f"not there: {listed(gone)}"] if gone else []
        words += [f"failed or stale: {listed(self.out_of_step)}"] if self.out_of_step else []
        if self.rebuilt:
            words += [f"{listed(self.rebuilt)} is being rebuilt{self.done}", self.wait]
        else:
            words.append(f"add what is to take the place: mdadm --manage {self.device or self.alias} --add DEVICE")
        return "; ".join(words)

    @property
    def title(self) -> str:
        return f"array {self.name}"

    @property
    def words(self) -> str:
        return f"{self.title} ({words(self.content)})"

    @property
    def running(self) -> bool:
        return self.device is not None

    @property
    def usable(self) -> bool:
        return self.running and self.runs_as is None

    @property
    def plausible(self) -> Iterator[tuple[str, str, bool]]:
        figures = (self.count, self.size or 0, self.missing, self.percent or 0)
        yield "", self.device or "/dev/", min(figures) >= 0

    def stop(self, action: str) -> Iterator[Step]:
        yield StopArray(action, self.name, str(self.device))


def listed(devices: Collection[str]) -> str:
    return ", ".join(sorted(devices)) or "none"

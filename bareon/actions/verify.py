# SPDX-License-Identifier: Apache-2.0
"""do_verify: sees whether the disks are still what the input describes, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bareon.actions.base import Action, Job
from bareon.errors import UsageError
from bareon.layout.stack import on_disks
from bareon.step import Step
from bareon.storage.kind import UNKNOWN


class Verify(Action):
    """Has the disks compared with the input, whatever its policy, as in every decision that makes no tables.

    Disks may be in use, and containers that are closed stay so.
    """

    name = "do_verify"
    mounts = False
    writes = False

    def validate(self, job: Job) -> None:
        if job.makes:
            others = ", ".join(name for name in job.queued if name != self.name)
            raise UsageError(
                f"--actions: {self.name} compares what is there before a run: not together with {others}"
            )

    def warnings(self, job: Job) -> Iterator[str]:
        for structure in on_disks(job.node, {disk.device for disk in job.layout.disks}):
            for device in (device for device, content in structure.offers if content == UNKNOWN):
                yield f"{device} cannot be looked at as it is now: what it holds is not compared"

    def plan(self, job: Job) -> Sequence[Step]:
        return ()

# SPDX-License-Identifier: Apache-2.0
"""do_reboot: ends the ramdisk, once everything is on the disks and the report is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bareon.actions.base import Action, Job
from bareon.step import Outcome, Progress, Step
from bareon.tools import power


class Reboot(Action):
    """Restarts the machine. Only as the last action."""

    name = "do_reboot"
    after = ("layout", "configdrive", "images", "boot loader")
    last = True
    mounts = False

    def requires(self, job: Job) -> Sequence[str]:
        return power.PROGRAMS

    def plan(self, job: Job) -> Sequence[Step]:
        return [Restart(self.name)]


@dataclass(frozen=True)
class Restart(Step):
    """Write everything back, and restart when the report is written and the lock released."""

    @property
    def description(self) -> str:
        return "Restart the machine"

    def run(self, progress: Progress) -> Outcome:
        power.write_back()
        return {}

    def conclude(self) -> None:
        power.write_back()  # the report and the log, where they are on a disk
        power.reboot()

# SPDX-License-Identifier: Apache-2.0
"""do_reboot: ends the ramdisk, once everything is on the disks and the report is written."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bareon.actions.base import Action, Job
from bareon.boot import kexec
from bareon.step import Outcome, Progress, Step
from bareon.tools import power

LOG = logging.getLogger(__name__)


class Reboot(Action):
    """Restarts the machine. Only as the last action."""

    name = "do_reboot"
    after = ("layout", "configdrive", "images", "boot loader")
    last = True
    mounts = False
    options = {"kexec": False}

    def requires(self, job: Job) -> Sequence[str]:
        return power.PROGRAMS

    def warnings(self, job: Job) -> Iterator[str]:
        if self.settings.get("kexec") and "boot loader" not in job.makes:
            yield "kexec has no effect: do_bootloader, which would load the kernel, is not queued"

    def plan(self, job: Job) -> Sequence[Step]:
        return [Restart(self.name, bool(self.settings.get("kexec")) and "boot loader" in job.makes)]


@dataclass(frozen=True)
class Restart(Step):
    """Write everything back, and restart when the report is written and the lock released.

    With ``kexec`` that is the start of the kernel that was loaded in this run.
    """

    kexec: bool = False

    @property
    def description(self) -> str:
        return "Start the kernel that was loaded, else restart the machine" if self.kexec else "Restart the machine"

    def run(self, progress: Progress) -> Outcome:
        power.write_back()
        return {}

    def conclude(self) -> None:
        power.write_back()  # the report and the log, where they are on a disk
        if self.kexec:
            reason = kexec.start()
            if reason is None:
                return
            LOG.warning("the firmware restarts the node: %s", reason)
        power.reboot()

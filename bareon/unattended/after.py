# SPDX-License-Identifier: Apache-2.0
"""What comes after a deployment: another start of the machine, its end, or nothing."""

from __future__ import annotations

from collections.abc import Callable

from bareon.boot import kexec
from bareon.tools import power


def then(what: str, say: Callable[[str], None], refused: str | None = None) -> None:
    """Do what ``bareon.after`` says; this returns before it happens, or never.

    :param say: is told what comes instead.
    :param refused: why the run has not loaded the kernel that ``kexec`` would start.
    """
    power.write_back()
    match what:
        case "poweroff":
            power.power_off()
        case "kexec":
            reason = refused or kexec.start()
            if reason:
                say(f"{reason}; next: reboot")
                power.reboot()
        case "reboot":
            power.reboot()

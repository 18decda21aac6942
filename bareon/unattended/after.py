# SPDX-License-Identifier: Apache-2.0
"""What comes after a deployment: another start of the machine, its end, or nothing."""

from __future__ import annotations

import logging

from bareon.tools import power

LOG = logging.getLogger(__name__)


def then(what: str) -> None:
    """Do what ``bareon.after`` says; this returns before it happens.

    ``kexec`` is a restart by the firmware where the deployed system cannot be started from here.
    """
    power.write_back()
    match what:
        case "poweroff":
            power.power_off()
        case "kexec":
            LOG.warning("this ramdisk cannot start another kernel by itself: the firmware does")
            power.reboot()
        case "reboot":
            power.reboot()

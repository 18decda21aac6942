# SPDX-License-Identifier: Apache-2.0
"""Restarting the machine: reboot(8), whose init unmounts what is still mounted."""

from __future__ import annotations

from bareon.run import run

PROGRAMS = ("sync", "reboot")


def write_back() -> None:
    """Write everything to the disks."""
    run(["sync"], timeout=3600.0)


def reboot() -> None:
    """Ask init to restart the machine. Returns before it happens."""
    run(["reboot"])


def power_off() -> None:
    """Ask init to switch the machine off. Returns before it happens."""
    run(["poweroff"])

# SPDX-License-Identifier: Apache-2.0
"""ATA disks' own erasure: hdparm(8), version 9.50 or later; ATA Command Set, Security feature set."""

from __future__ import annotations

from bareon.run import run

PROGRAMS = ("hdparm",)
PASSWORD = "bareon"
"""The password that a disk has while it erases itself. It is no secret: who must unlock a disk needs it."""


def set_password(device: str) -> None:
    """Give a disk the password without which it would not erase itself.

    :raises CommandError: when it takes none.
    """
    run(["hdparm", "--user-master", "u", "--security-set-pass", PASSWORD, device])


def erase(device: str, timeout: float) -> None:
    """Have a disk that has the password erase itself, which takes the password away as well.

    :param timeout: seconds.
    :raises CommandError: when it does not work.
    """
    run(["hdparm", "--user-master", "u", "--security-erase", PASSWORD, device], timeout=timeout)


def take_password(device: str) -> None:
    """Take the password away again.

    :raises CommandError: when that does not work.
    """
    run(["hdparm", "--user-master", "u", "--security-disable", PASSWORD, device])

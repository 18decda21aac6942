# SPDX-License-Identifier: Apache-2.0
"""What the kernel knows of partitions: partx(8), which tells it of some while others of the disk are in use."""

from __future__ import annotations

from bareon.run import run

PROGRAMS = ("partx",)


def add(device: str, first: int, last: int) -> None:
    """Have the kernel know the partitions of these numbers as the table of ``device`` has them.

    udev may have had it know them already, which is no error.
    """
    run(["partx", "--update", "--nr", f"{first}:{last}", device])

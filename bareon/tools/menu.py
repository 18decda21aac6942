# SPDX-License-Identifier: Apache-2.0
"""The script bareon-boot, which changes the menu of several images so that a power cut leaves one that is whole."""

from __future__ import annotations

from bareon.run import run

PROGRAMS = ("sh", "sed", "grep", "sort", "findfs")


def renew(script: str, image: str, folder: str) -> None:
    """Have the entry of an image be as the files ``entry``, ``older`` and ``listed`` in a folder say.

    :param script: its text.
    :raises CommandError: when the menu cannot be written.
    """
    run(["sh", "-s", "--", "renew", image, folder], stdin=script, timeout=600.0)


def add(script: str, image: str, folder: str) -> None:
    """Have the menu have an entry of an image that it has not, as the same files say, behind those of all others.

    :raises CommandError: when the menu cannot be written, or has changed since the number in ``listed`` was free.
    """
    run(["sh", "-s", "--", "add", image, folder], stdin=script, timeout=600.0)

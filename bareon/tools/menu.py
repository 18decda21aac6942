# SPDX-License-Identifier: Apache-2.0
"""The script bareon-boot, which changes the menu of several images so that a power cut leaves one that is whole."""

from __future__ import annotations

import json
from typing import Any

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


def remove(script: str, folder: str) -> None:
    """Have the menu and the list of images become what the folders ``0``, ``1`` and so on in a folder say.

    In the first are ``menu`` and ``images`` as they are now; each other one has that of both which changes. Beside
    them ``document`` is what lies beside the menu then.

    :raises CommandError: when the menu cannot be written, or is not as the first says.
    """
    run(["sh", "-s", "--", "remove", folder], stdin=script, timeout=600.0)


def status(script: str) -> dict[str, Any]:
    """What ``bareon-boot status --json`` says: which image runs, boots by default and the next time, and all others.

    :raises CommandError: when the menu cannot be read.
    """
    return run(["sh", "-s", "--", "status", "--json"], stdin=script, timeout=600.0).read(_status)


def _status(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return {**{x: found[x] for x in ("running", "default", "next", "tried", "failed")}, "images": found["images"]}

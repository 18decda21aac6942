# SPDX-License-Identifier: Apache-2.0
"""Removing signatures: wipefs(8)."""

from __future__ import annotations

from collections.abc import Sequence

from bareon.run import run

PROGRAMS = ("wipefs",)


def wipe(devices: Sequence[str]) -> None:
    """Remove every signature libblkid knows, backup GPT headers included, from each device in turn."""
    for device in devices:
        run(["wipefs", "--all", "--quiet", "--lock=yes", device])

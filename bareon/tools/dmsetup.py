# SPDX-License-Identifier: Apache-2.0
"""The device mapper; dmsetup(8)."""

from __future__ import annotations

from bareon.run import run

PROGRAMS = ("dmsetup",)


def map_part(name: str, device: str, start: int, size: int) -> str:
    """Show ``size`` bytes of a device from ``start`` on as a device by itself, to be read only.

    :returns: its path.
    """
    table = f"0 {size // 512} linear {device} {start // 512}"
    run(["dmsetup", "create", "--readonly", name, "--table", table])
    return f"/dev/mapper/{name}"


def remove(name: str) -> None:
    """Take a mapped device away."""
    run(["dmsetup", "remove", "--retry", name])

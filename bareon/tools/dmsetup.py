# SPDX-License-Identifier: Apache-2.0
"""The device mapper; dmsetup(8)."""

from __future__ import annotations

from collections.abc import Sequence

from bareon.run import run

PROGRAMS = ("dmsetup",)

_SECTOR = 512  # bytes, in any table


def map_parts(name: str, parts: Sequence[tuple[str, int, int]]) -> str:
    """Show parts of devices, one behind the other, as a device by itself, to be read only.

    :param parts: of each the device, and where on it how much lies, in bytes.
    :returns: its path.
    """
    lines, at = [], 0
    for device, start, size in parts:
        lines.append(f"{at} {size // _SECTOR} linear {device} {start // _SECTOR}")
        at += size // _SECTOR
    run(["dmsetup", "create", "--readonly", name, "--table", "\n".join(lines)])
    return f"/dev/mapper/{name}"


def map_pool(name: str, metadata: str, data: str, size: int, chunk: int) -> str:
    """Show a thin pool that the kernel writes nothing of, not even metadata; thin-provisioning.rst of Linux.

    :param metadata: the path of a device, as ``data``, of which ``size`` bytes are used in chunks of ``chunk``.
    :returns: its path.
    """
    # The kernel takes no pool in a table that is read-only by itself.
    table = f"0 {size // _SECTOR} thin-pool {metadata} {data} {chunk // _SECTOR} 0 1 read_only"
    run(["dmsetup", "create", name, "--table", table])
    return f"/dev/mapper/{name}"


def map_thin(name: str, pool: str, number: int, size: int) -> str:
    """Show the volume of a pool that has this number there as a device, to be read only.

    :returns: its path.
    """
    table = f"0 {size // _SECTOR} thin {pool} {number}"
    run(["dmsetup", "create", "--readonly", name, "--table", table])
    return f"/dev/mapper/{name}"


def remove(name: str) -> None:
    """Take a mapped device away."""
    run(["dmsetup", "remove", "--retry", name])

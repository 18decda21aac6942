# SPDX-License-Identifier: Apache-2.0
"""The boot entries in a machine's NVRAM: read from efivarfs, written by efibootmgr(8).

The form of a ``Boot####`` variable is EFI_LOAD_OPTION of the UEFI specification, section 3.1.3; efivarfs puts four
bytes of attributes before it.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from bareon.run import run
from bareon.tools.mount import mounted

VARIABLES = "/sys/firmware/efi/efivars"
_ENTRY = re.compile(r"Boot([0-9A-Fa-f]{4})-8be4df61-93ca-11d2-aa0d-00e098032b8c")


@contextlib.contextmanager
def variables(place: str = VARIABLES) -> Iterator[None]:
    """Have efivarfs mounted for the length of a ``with`` block.

    :raises CommandError: when the kernel has none.
    """
    if Path(place).is_mount():
        yield
        return
    with mounted("efivarfs", place, kind="efivarfs"):
        yield


def entries(place: str = VARIABLES) -> dict[int, str]:
    """The label of each boot entry by its number.

    :raises OSError: when the variables cannot be read.
    """
    found = {}
    for path in sorted(Path(place).iterdir()):
        if match := _ENTRY.fullmatch(path.name):
            found[int(match[1], 16)] = label(path.read_bytes())
    return found


def label(variable: bytes) -> str:
    """The description in a ``Boot####`` variable as efivarfs shows it; empty where it is broken."""
    start = struct.calcsize("<IIH")
    units = [variable[i : i + 2] for i in range(start, len(variable) - 1, 2)]
    end = units.index(b"\0\0") if b"\0\0" in units else 0
    return b"".join(units[:end]).decode("utf-16-le", errors="replace")


def replace(text: str, disk: str, number: int, loader: str, place: str = VARIABLES) -> None:
    """Make an entry, the first in the order, in place of those of the same label.

    :param number: of the EFI system partition on ``disk``.
    :raises CommandError: when the firmware takes no more, or efibootmgr is missing.
    :raises OSError: when the present entries cannot be read.
    """
    for old in (x for x, found in entries(place).items() if found == text):
        run(["efibootmgr", "--quiet", "--bootnum", f"{old:04X}", "--delete-bootnum"])
    words = ["--disk", disk, "--part", str(number), "--label", text, "--loader", loader]
    run(["efibootmgr", "--quiet", "--create", *words])

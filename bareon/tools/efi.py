# SPDX-License-Identifier: Apache-2.0
"""The boot entries in a machine's NVRAM: read from efivarfs, written by efibootmgr(8).

The form of a ``Boot####`` variable is EFI_LOAD_OPTION of the UEFI specification, section 3.1.3; efivarfs puts four
bytes of attributes before it.
"""

from __future__ import annotations

import contextlib
import re
import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bareon.run import run
from bareon.tools.mount import mounted

VARIABLES = "/sys/firmware/efi/efivars"
_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_ENTRY = re.compile(rf"Boot([0-9A-Fa-f]{{4}})-{_GLOBAL}")
_HARD_DRIVE, _FILE_PATH = (4, 1), (4, 4)  # types and subtypes of nodes
_GUID_SIGNATURE = 2


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


@dataclass(frozen=True)
class Entry:
    """A boot entry: its description, and what it starts.

    ``partition`` is the GUID of a partition in lower case, ``loader`` the path of a program there; ``None`` where it
    starts something else, or is broken.
    """

    label: str
    partition: str | None = None
    loader: str | None = None


def entries(place: str = VARIABLES) -> dict[int, Entry]:
    """Boot entries by their numbers.

    :raises OSError: when the variables cannot be read.
    """
    found = {}
    for path in sorted(Path(place).iterdir()):
        if match := _ENTRY.fullmatch(path.name):
            found[int(match[1], 16)] = entry(path.read_bytes())
    return found


def entry(variable: bytes) -> Entry:
    """The entry in a ``Boot####`` variable as efivarfs shows it; the label is empty where it is broken."""
    start = struct.calcsize("<IIH")
    label, end = _text(variable, start)
    if end is None:
        return Entry("")
    (length,) = struct.unpack_from("<H", variable, 8)
    partition = loader = None
    # The nodes of the device path, section 10.3 of the specification: type, subtype, length, data.
    path = variable[end : end + length]
    while len(path) >= 4:
        kind, size = (path[0], path[1]), int.from_bytes(path[2:4], "little")
        if not 4 <= size <= len(path) or kind == (0x7F, 0xFF):
            break
        if kind == _HARD_DRIVE and size == 42 and path[41] == _GUID_SIGNATURE:
            partition = str(uuid.UUID(bytes_le=path[24:40]))
        elif kind == _FILE_PATH:
            loader = _text(path[:size] + b"\0\0", 4)[0]
        path = path[size:]
    return Entry(label, partition, loader)


def _text(data: bytes, start: int) -> tuple[str, int | None]:
    """A text in UTF-16 that ends with a zero, and where it ends; empty and ``None`` where it does not."""
    units = [data[i : i + 2] for i in range(start, len(data) - 1, 2)]
    if b"\0\0" not in units:
        return "", None
    count = units.index(b"\0\0")
    return b"".join(units[:count]).decode("utf-16-le", errors="replace"), start + 2 * count + 2


def order(place: str = VARIABLES) -> list[int]:
    """The numbers of ``BootOrder``, in which the firmware tries the entries; empty where there is none.

    :raises OSError: when it cannot be read.
    """
    variable = Path(place, f"BootOrder-{_GLOBAL}")
    data = variable.read_bytes()[4:] if variable.exists() else b""
    return [int.from_bytes(data[i : i + 2], "little") for i in range(0, len(data) - 1, 2)]


def create(label: str, disk: str, number: int, loader: str) -> None:
    """Make an entry, the first in the order.

    :param number: of the EFI system partition on ``disk``.
    :raises CommandError: when the firmware takes no more, or efibootmgr is missing.
    """
    words = ["--disk", disk, "--part", str(number), "--label", label, "--loader", loader]
    run(["efibootmgr", "--quiet", "--create", *words])


def delete(number: int) -> None:
    """Take an entry out, also of the order.

    :raises CommandError: when the firmware refuses, or efibootmgr is missing.
    """
    run(["efibootmgr", "--quiet", "--bootnum", f"{number:04X}", "--delete-bootnum"])


def reorder(numbers: Sequence[int]) -> None:
    """Replace ``BootOrder``.

    :raises CommandError: when the firmware refuses, or efibootmgr is missing.
    """
    run(["efibootmgr", "--quiet", "--bootorder", ",".join(f"{number:04X}" for number in numbers)])

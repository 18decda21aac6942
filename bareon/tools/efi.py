# SPDX-License-Identifier: Apache-2.0
"""The variables in a machine's NVRAM, boot entries above all: those of efivarfs; entries are made by efibootmgr(8).

The form of a ``Boot####`` variable is EFI_LOAD_OPTION of the UEFI specification, section 3.1.3; efivarfs puts four
bytes of attributes before each variable. Entries are taken out, and the order is written, without efibootmgr: it
would change the order with an entry, and takes no order that names what does not exist, as that of a firmware may.
"""

from __future__ import annotations

import contextlib
import re
import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bareon.errors import CommandError
from bareon.run import run
from bareon.tools.mount import mounted

_BITS = "/sys/firmware/efi/fw_platform_size"
VARIABLES = "/sys/firmware/efi/efivars"
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""The vendor of the variables that the specification itself defines."""
_LARGEST = 1 << 20  # bytes of a variable that are read
_ENTRY = re.compile(rf"Boot([0-9A-Fa-f]{{4}})-{GLOBAL}")
_HARD_DRIVE, _FILE_PATH = (4, 1), (4, 4)  # types and subtypes of nodes
_NETWORK = ((3, 11), (3, 12), (3, 13), (3, 24))  # MAC address, IPv4, IPv6, URI
_MEDIA, _ISCSI = 4, (3, 19)  # a type of nodes, and what has a disk behind a network
_ACTIVE = 1  # of the attributes of an entry
_VARIABLE = 7  # attributes of a variable: non-volatile, known to the firmware, and to the system
_GUID_SIGNATURE = 2


def bits(place: str = _BITS) -> int | None:
    """The word length of the firmware, 32 or 64, whatever that of the kernel is; ``None`` where it is not told."""
    try:
        text = Path(place).read_text().strip()
    except OSError:
        return None
    return int(text) if text in ("32", "64") else None


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


def variable(name: str, vendor: str, place: str = VARIABLES) -> bytes | None:
    """The content of a variable; ``None`` where there is none.

    :raises OSError: when it cannot be read.
    """
    found = _with_attributes(name, vendor, place)
    return None if found is None else found[4:]


def _with_attributes(name: str, vendor: str, place: str) -> bytes | None:
    """A variable as efivarfs shows it."""
    try:
        with Path(place, f"{name}-{vendor}").open("rb") as opened:
            return opened.read(_LARGEST)
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class Entry:
    """A boot entry: its description, and what it starts.

    ``partition`` is the GUID of a partition in lower case, ``loader`` the path of a program there; ``None`` where it
    starts something else, or is broken. ``network`` tells that it is loaded over a network, and from no disk there.
    The firmware passes over one that is not ``active``.
    """

    label: str
    partition: str | None = None
    loader: str | None = None
    active: bool = True
    network: bool = field(default=False, compare=False)


def entries(place: str = VARIABLES) -> dict[int, Entry]:
    """Boot entries by their numbers; one that cannot be read is like a broken one.

    :raises OSError: when the variables cannot be listed.
    """
    found = {}
    for number, path in _places(place):
        try:
            found[number] = entry(path.read_bytes())
        except OSError:
            found[number] = Entry("")
    return found


def _places(place: str) -> list[tuple[int, Path]]:
    """Numbers and files of boot entries. Some firmware writes a number with small letters."""
    named = [(_ENTRY.fullmatch(path.name), path) for path in sorted(Path(place).iterdir())]
    return [(int(match[1], 16), path) for match, path in named if match]


def entry(variable: bytes) -> Entry:
    """The entry in a ``Boot####`` variable as efivarfs shows it; the label is empty where it is broken."""
    start = struct.calcsize("<IIH")
    label, end = _text(variable, start)
    if end is None:
        return Entry("")
    attributes, length = struct.unpack_from("<IH", variable, 4)
    partition = loader = None
    network = disk = False
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
        network |= kind in _NETWORK
        disk |= kind[0] == _MEDIA or kind == _ISCSI
        path = path[size:]
    return Entry(label, partition, loader, bool(attributes & _ACTIVE), network and not disk)


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
    data = variable("BootOrder", GLOBAL, place) or b""
    return [int.from_bytes(data[i : i + 2], "little") for i in range(0, len(data) - 1, 2)]


def number(name: Literal["BootCurrent", "BootNext"], place: str = VARIABLES) -> int | None:
    """The number of the entry that this system was started from, or of that to start next time.

    ``None`` where there is none, or nobody can read it.
    """
    try:
        data = variable(name, GLOBAL, place) or b""
    except OSError:
        return None
    return int.from_bytes(data, "little") if len(data) == 2 else None


def booted_partition(place: str = VARIABLES) -> str | None:
    """The GUID, in lower case, of the partition that this system was started from.

    ``None`` where its boot entry names none, or nobody can read it.
    """
    try:
        with variables(place):
            current = number("BootCurrent", place)
            found = entries(place).get(-1 if current is None else current)
    except (CommandError, OSError):
        return None
    return found.partition if found else None


def create(entry_number: int, label: str, disk: str, partition: int, loader: str) -> None:
    """Make an entry; the order stays as it is.

    :param entry_number: one that is free.
    :param partition: the number of the EFI system partition on ``disk``.
    :raises CommandError: when the firmware takes no more, or efibootmgr is missing.
    """
    words = ["--disk", disk, "--part", str(partition), "--label", label, "--loader", loader]
    run(["efibootmgr", "--quiet", "--create-only", "--bootnum", f"{entry_number:04X}", *words])


def delete(entry_number: int, place: str = VARIABLES) -> None:
    """Take an entry out; the order stays as it is, and may name it still.

    :raises OSError: when the firmware refuses.
    """
    for found, path in _places(place):
        if found == entry_number:
            path.unlink()


def content(entry_number: int, place: str = VARIABLES) -> bytes:
    """The ``Boot####`` variable of an entry as efivarfs shows it, its attributes first.

    :raises OSError: when it cannot be read, or there is none.
    """
    return _place(entry_number, place).read_bytes()


def put(entry_number: int, content: bytes, place: str = VARIABLES) -> None:
    """Write an entry as :func:`content` gave it. The firmware replaces one of that number in one go, or leaves it.

    :raises OSError: when the firmware refuses.
    """
    # In one write: the kernel hands each to the firmware as the whole variable.
    _place(entry_number, place).write_bytes(content)


def _place(entry_number: int, place: str) -> Path:
    new = Path(place, f"Boot{entry_number:04X}-{GLOBAL}")
    return next((path for found, path in _places(place) if found == entry_number), new)


def reorder(numbers: Sequence[int], place: str = VARIABLES) -> None:
    """Replace ``BootOrder``.

    :raises OSError: when the firmware refuses.
    """
    there = _with_attributes("BootOrder", GLOBAL, place)
    # The highest bit is of Apple's own, and the kernel does not take it back.
    attributes = int.from_bytes(there[:4], "little") & 0x7FFFFFFF if there else _VARIABLE
    data = b"".join(number.to_bytes(2, "little") for number in numbers)
    # In one write: the kernel hands each to the firmware as the whole variable.
    Path(place, f"BootOrder-{GLOBAL}").write_bytes(attributes.to_bytes(4, "little") + data)

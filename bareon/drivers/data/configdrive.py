# SPDX-License-Identifier: Apache-2.0
"""A configdrive as given: an image of its file system, or the documents to build one from.

No message quotes its content.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from typing import Any

from bareon.errors import Defect, InvalidInput
from bareon.model.configdrive import LABEL, SIZE, Configdrive
from bareon.sizes import MIB, mib, round_up

LARGEST_FILE = 2 * SIZE
"""Bytes of the largest accepted file: gzip may not shrink it at all, and base64 adds a third."""

_CLUSTER = 4096  # bytes, the largest that a FAT of this size has
_GZIP = b"\x1f\x8b"
_ISO = 0x8000  # where the first volume descriptor of an ISO 9660 lies; ECMA-119, 6.2.1


def from_documents(value: Mapping[str, Any], path: str = Configdrive.path) -> Configdrive:
    """A configdrive built from the documents of the input; ``path`` is their JSON path.

    :raises InvalidInput: when it would be too large.
    """
    files = [("meta_data.json", _json(value.get("meta_data", {})))]
    if "user_data" in value:
        text = value["user_data"]
        files.append(("user_data", text.encode() if isinstance(text, str) else _json(text)))
    files += [(f"{key}.json", _json(value[key])) for key in ("network_data", "vendor_data") if key in value]
    found = Configdrive(files=tuple(files), path=path)
    need = sum(round_up(len(content), _CLUSTER) for _, content in files)
    if need > SIZE - MIB:  # the rest is for the file system itself
        raise _defect(found.path, f"its files need {mib(need)}, and {mib(SIZE - MIB)} is the most there is room for")
    return found


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def from_file(content: bytes, path: str) -> Configdrive:
    """A configdrive given as an image, ISO 9660 or vfat, plain or as Ironic sends it, in gzip and base64.

    :raises InvalidInput: for an image of another format, too large, truncated, or with another label.
    """
    image = _unpacked(content, path)
    if len(image) > SIZE:
        raise _defect(path, f"larger than {mib(SIZE)}, the most that a configdrive may have")
    if image[_ISO + 1 : _ISO + 6] == b"CD001":
        found, label, size = _iso(image, path)
    elif image[510:512] == b"\x55\xaa" and (image[54:57] == b"FAT" or image[82:87] == b"FAT32"):
        found, label, size = _fat(image, path)
    else:
        raise _defect(path, "neither ISO 9660 nor vfat, nor one of them in gzip and base64")
    if size > len(image):
        raise _defect(path, f"cut off: {len(image)} bytes of a file system of {size}")
    if label.lower() != LABEL:
        raise _defect(path, f"its label is not {LABEL}, by which cloud-init would find it")
    return found


def _unpacked(content: bytes, path: str) -> bytes:
    if content[:4].isascii() and content[:4].isalnum():
        try:
            content = base64.b64decode(b"".join(content.split()), validate=True)
        except binascii.Error:
            return content
    if not content.startswith(_GZIP):
        return content
    # Limited, as a gzip of a few KiB can hold gigabytes.
    unpacker = zlib.decompressobj(wbits=31)
    try:
        image = unpacker.decompress(content, SIZE + 1)
    except zlib.error:
        raise _defect(path, "damaged: its gzip cannot be unpacked") from None
    if len(image) <= SIZE and not unpacker.eof:
        raise _defect(path, "cut off: its gzip has no end")
    return image


def _iso(image: bytes, path: str) -> tuple[Configdrive, str, int]:
    descriptor = image[_ISO : _ISO + 2048]
    label = descriptor[40:72].decode("latin-1").strip(" \0")
    size = int.from_bytes(descriptor[80:84], "little") * 2048
    return Configdrive("iso9660", image, sector=2048, path=path), label, size


def _fat(image: bytes, path: str) -> tuple[Configdrive, str, int]:
    """The fields are those of the BIOS parameter block; see Microsoft's FAT specification, section 3."""

    def number(offset: int, length: int = 2) -> int:
        return int.from_bytes(image[offset : offset + length], "little")

    sector = number(11)
    size = (number(19) or number(32, 4)) * sector
    label = image[43:54] if image[54:57] == b"FAT" else image[71:82]
    if label.strip() in (b"", b"NO NAME"):
        # Some programs write the label to the root directory only, as an entry with this attribute.
        start = (number(14) + image[16] * (number(22) or number(36, 4))) * sector
        entries = (image[i : i + 32] for i in range(start, start + 512 * 32, 32))
        label = next((entry[:11] for entry in entries if len(entry) == 32 and entry[11] == 0x08), b"")
    found = Configdrive("vfat", image, sector=max(sector, 1), path=path)
    return found, label.decode("latin-1").strip(), size


def _defect(path: str, message: str) -> InvalidInput:
    return InvalidInput([Defect(path, message)])

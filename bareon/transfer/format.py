# SPDX-License-Identifier: Apache-2.0
"""Detection of an image's format by its first bytes, and its size where they tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bareon.errors import ImageFailed

if TYPE_CHECKING:
    from bareon.transfer.source import Source  # which needs requests; who looks into an initramfs would wait for it

Format = Literal["raw", "gzip", "zstd", "xz", "bzip2", "lzma", "qcow2"]
"""Of these no image is recognised as ``lzma``, which has no magic to speak of."""

#: Bytes that tell the format and hold the headers that are looked at.
HEAD = 64 * 1024

_MAGIC: dict[bytes, Format] = {
    b"\x1f\x8b\x08": "gzip",  # RFC 1952
    b"\x28\xb5\x2f\xfd": "zstd",  # RFC 8878
    b"\xfd7zXZ\x00": "xz",
    b"QFI\xfb": "qcow2",
}
# Frames that a decoder skips; pzstd puts one in front of each of its others.
_SKIPPABLE = {bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16)}
_XZ_TAIL = 12
_XZ_INDEX = 1 << 20  # bytes; a larger index is not worth the request


def recognised(head: memoryview | bytes) -> Format:
    """The format of an image that begins with these bytes."""
    start = bytes(head[:10])
    if start[:4] in _SKIPPABLE:
        return "zstd"
    # "BZh" alone might be text: a level and the magic of a block or of the end follow.
    if start[:3] == b"BZh" and start[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return "bzip2"
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "raw")


def refuse_nested(kind: Format, plain: bytes) -> None:
    """Raise ImageFailed when what was decoded begins as another form, which is not decoded once more."""
    inner = recognised(plain)
    if inner == "qcow2":
        raise ImageFailed(f"is a qcow2 image inside {kind}: serve the qcow2 file itself")
    if inner != "raw":
        raise ImageFailed(f"is compressed twice, {inner} inside {kind}: compress it once")


def decoded_size(kind: Format, head: bytes, source: Source) -> int | None:
    """Bytes of the image once it is decoded, ``None`` where that shows only by decoding it.

    Of zstd it is the size of the first frame: the image has at least that many.
    """
    if kind == "raw":
        return source.length
    if kind == "zstd":
        return _zstd(head)
    if kind == "xz":
        return _xz(source)
    return None


def _zstd(head: bytes) -> int | None:
    from backports import zstd

    if head[:4] in _SKIPPABLE:
        return None
    try:
        return zstd.get_frame_info(head).decompressed_size
    except zstd.ZstdError:
        return None


def _xz(source: Source) -> int | None:
    """From the index at the end, for the common image of one stream; section 4 of the .xz file format."""
    if source.length is None or source.length < 2 * _XZ_TAIL:
        return None
    tail = source.read_at(source.length - _XZ_TAIL, _XZ_TAIL)
    if tail is None or not any(tail[8:]):  # the last four bytes may be padding
        return None
    if tail[10:] != b"YZ":
        raise ImageFailed("the xz stream does not end where the file does: it is cut off, or something is behind it")
    index_size = (int.from_bytes(tail[4:8], "little") + 1) * 4
    if not 8 <= index_size <= min(_XZ_INDEX, source.length - 2 * _XZ_TAIL):
        return None
    index = source.read_at(source.length - _XZ_TAIL - index_size, index_size)
    return None if index is None else _xz_index(index, source.length)


def _xz_index(index: bytes, served: int) -> int | None:
    try:
        count, position = _varint(index, 1)
        packed = total = 0
        for _ in range(count):
            unpadded, position = _varint(index, position)
            size, position = _varint(index, position)
            packed, total = packed + -(-unpadded // 4) * 4, total + size
    except IndexError:
        return None
    # Of several streams in one file this is only the last.
    return total if index[:1] == b"\0" and _XZ_TAIL + packed + len(index) + _XZ_TAIL == served else None


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if not byte & 0x80:
            return value, position

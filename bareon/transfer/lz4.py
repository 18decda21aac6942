# SPDX-License-Identifier: Apache-2.0
"""The legacy frames of lz4, which the kernel has for an initramfs: sizes and blocks, and no end.

lib/decompress_unlz4.c of Linux, and "Legacy frame" of lz4's ``lz4_Frame_format.md``. A block is decoded by liblz4
itself, which rsync brings with it; the modules for Python that there are read newer frames, or would be one more
thing in the ramdisk for a form that few images have.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

from bareon.sizes import MIB

LIBRARY = "liblz4.so.1"
MAGIC = b"\x02\x21\x4c\x18"

_BLOCK = 8 * MIB  # bytes, decoded
_LARGEST = _BLOCK + _BLOCK // 255 + 16  # bytes of what cannot be compressed, as LZ4_COMPRESSBOUND has it


def plain(take: Callable[[int], bytes], put_back: Callable[[bytes], None]) -> Iterator[bytes]:
    """The decoded blocks of a frame whose magic was taken; what is behind them is put back.

    :param take: gives so many bytes, fewer at the end.
    :raises ValueError: where they cannot be decoded.
    """
    decode, room = _decoder(), ctypes.create_string_buffer(_BLOCK)
    while len(head := take(4)) == 4:
        size = int.from_bytes(head, "little")
        if head == MAGIC:  # frames that were put together
            continue
        if not 0 < size <= _LARGEST:  # padding, or another archive
            break
        block = take(size)
        count = decode(block, room, len(block), _BLOCK) if len(block) == size else -1
        if count < 0:
            raise ValueError("the lz4 stream is damaged or cut off")
        yield ctypes.string_at(room, count)
    put_back(head)


def _decoder() -> Callable[..., int]:
    try:
        decode = ctypes.CDLL(LIBRARY).LZ4_decompress_safe
    except OSError:
        raise ValueError(f"its form is lz4, and the ramdisk has no {LIBRARY}") from None
    decode.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int)
    decode.restype = ctypes.c_int
    found: Callable[..., int] = decode
    return found

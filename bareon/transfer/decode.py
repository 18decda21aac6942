# SPDX-License-Identifier: Apache-2.0
"""Compressed bytes to plain ones, in bounded steps.

All decoders have the interface of the standard library's, which gives at most so many bytes at once: a MiB of
zeros is a few bytes compressed, and an image is mostly zeros.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, cast

from bareon.errors import ImageFailed
from bareon.sizes import MIB
from bareon.transfer.format import Format

# What decoders may need at most: a ramdisk has little memory. zstd up to level 21, xz up to level 9.
ZSTD_WINDOW_LOG = 26
XZ_MEMORY = 68 * MIB

# Bytes that a new member is given first, and twice as many each time that it wants more: what is behind its end is
# copied, and a stream may be nothing but members of eight bytes.
_FIRST = 4096

# Padding: the format's own program accepts zero bytes behind the end, in multiples of this number.
_PADDING: dict[Format, int] = {"gzip": 1, "xz": 4}


_Bad = tuple[type[Exception], ...]


class _Decoder(Protocol):
    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes: ...


def _decoder(kind: Format) -> tuple[_Decoder, _Bad]:
    """A decoder of one member of the stream, and what it raises on bad bytes."""
    if kind == "gzip":
        from isal import igzip_lib

        gzip = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return cast(_Decoder, gzip), (cast(type[Exception], igzip_lib.IsalError), EOFError)
    if kind == "zstd":
        from backports import zstd

        options = {int(zstd.DecompressionParameter.window_log_max): ZSTD_WINDOW_LOG}
        return cast(_Decoder, zstd.ZstdDecompressor(options=options)), (zstd.ZstdError, EOFError)
    if kind == "xz":
        return cast(_Decoder, lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY)), (lzma.LZMAError, EOFError)
    if kind == "lzma":  # of an initramfs; lzma(1)
        return cast(_Decoder, lzma.LZMADecompressor(lzma.FORMAT_ALONE, XZ_MEMORY)), (lzma.LZMAError, EOFError)
    assert kind == "bzip2"
    return cast(_Decoder, bz2.BZ2Decompressor()), (OSError, EOFError, ValueError)


class Decoding:
    """One compressed stream: its members (frames, streams) one after the other, and what is behind them.

    With ``first_alone`` it ends behind the first member; of the chunk in which that ended, ``left`` is the rest then.
    """

    def __init__(self, kind: Format, *, first_alone: bool = False) -> None:
        self._first_alone = first_alone
        self.left = b""
        self._format = kind
        self._decoder: _Decoder | None = None
        self._bad: _Bad = ()
        self._members = 0
        self._fruitful = False
        self._padding = 0
        self._given = _FIRST

    def run(self, chunks: Iterable[memoryview], room: Callable[[], int]) -> Iterator[bytes]:
        """The plain bytes, each time at most as many as there is room for.

        :raises ImageFailed: for a stream that is damaged or cut off, or has bytes behind it that do not belong there.
        """
        for chunk in chunks:
            place, wanting = 0, True
            while True:
                if self._decoder is None:
                    place = self._unpadded(chunk, place)
                    if place == len(chunk):
                        break
                    self._decoder, wanting = self._next(), True
                data = chunk[place : place + self._given] if wanting else b""
                if wanting and not data:
                    break
                place += len(data)
                plain = self._step(self._decoder, data, room())
                if plain:
                    self._fruitful = True
                    yield plain
                if self._decoder.eof:
                    place -= len(self._decoder.unused_data)
                    self._decoder = None
                    if self._first_alone:
                        self.left = bytes(chunk[place:])
                        return
                else:
                    wanting = self._decoder.needs_input
                    self._given *= 2 if wanting else 1
        if self._decoder is not None or not self._members:
            raise ImageFailed(f"is cut off: the {self._format} stream does not end")
        if self._padding % _PADDING.get(self._format, 1):
            raise self._garbage()

    def _next(self) -> _Decoder:
        """The decoder of the next member, after padding that may be there."""
        if self._padding % _PADDING.get(self._format, 1) or (self._padding and self._format == "gzip"):
            raise self._garbage()
        decoder, self._bad = _decoder(self._format)
        self._members += 1
        self._padding, self._fruitful, self._given = 0, False, _FIRST
        return decoder

    def _unpadded(self, chunk: memoryview, place: int) -> int:
        """The place behind the padding that is there."""
        if not self._members or self._format not in _PADDING:
            return place
        while part := bytes(chunk[place : place + _FIRST]):
            rest = part.lstrip(b"\0")
            self._padding += len(part) - len(rest)
            place += len(part) - len(rest)
            if rest:
                break
        return place

    def _step(self, decoder: _Decoder, data: memoryview | bytes, room: int) -> bytes:
        try:
            return decoder.decompress(data, room)
        except MemoryError:
            raise self._greedy() from None
        except self._bad as error:
            text = str(error).lower()
            if "memory" in text or "window" in text:
                raise self._greedy() from None
            if self._members > 1 and not self._fruitful:
                raise self._garbage() from None
            raise ImageFailed(f"the {self._format} stream is damaged") from None

    def _greedy(self) -> ImageFailed:
        most = f"{(1 << ZSTD_WINDOW_LOG) // MIB} MiB window" if self._format == "zstd" else f"{XZ_MEMORY // MIB} MiB"
        how = "without --long and --ultra" if self._format == "zstd" else "with -9 at most"
        return ImageFailed(f"decoding needs more memory than allowed ({most}): compress it {how}")

    def _garbage(self) -> ImageFailed:
        return ImageFailed(f"there are bytes behind the end of the {self._format} stream")

# SPDX-License-Identifier: Apache-2.0
"""The faults of the image server, as words in a URL: ``cut-1000``, ``500x2``, ``norange+slow-4096``.

``plain``            nothing is wrong
``404``, ``401``...  always answered with this status
``500x2``            the first two requests get a 500, or another status
``cut-N``            each connection ends after N bytes of its body
``cut-at-A-B-C``     the connection ends at these offsets of the file, once at each
``reset-N``          like ``cut-N``, with a TCP reset
``stall-N``          after N bytes of the first body nothing comes any more, and the connection stays open;
                     ``stall-always-N``: of each body
``slow-N``           N bytes a second
``norange``          the Range header is ignored
``lying-range``      answers 206 and says the right range, but sends the file from its start
``noetag``           neither ETag nor Last-Modified
``nolength``         chunked, without a Content-Length
``short``            the body ends 1000 bytes before the Content-Length does
``wrong-length``     the Content-Length ends 1000 bytes before the file does
``changed-N``        the first body is cut after N bytes; then the file is another one, of the same length
``gzip-encoded``     says Content-Encoding: gzip, as servers do that take the ending .gz for it
``redirect-http``    to the plain file; ``redirect-host``: by another name of this server;
                     ``redirect-file``: to its path by file://; ``redirect-ftp``; ``redirect-loop``

Faults that do not exclude each other are joined by ``+``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = re.compile(
    r"""(?P<flag>plain|norange|lying-range|noetag|nolength|short|wrong-length|gzip-encoded)
    |redirect-(?P<redirect>http|host|file|ftp|loop)
    |(?P<status>[3-5]\d\d)(x(?P<times>\d+))?
    |(?P<cut_at>cut-at)(?P<offsets>(-\d+)+)
    |(?P<name>cut|reset|stall|stall-always|slow|changed)-(?P<number>\d+)""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Fault:
    """What the server shall do wrong."""

    flags: frozenset[str]
    numbers: dict[str, int]
    redirect: str | None = None
    status: int | None = None
    #: How often the status is answered; ``None`` means always.
    times: int | None = None
    offsets: tuple[int, ...] = ()

    def fails(self, before: int) -> bool:
        """Tell whether the request after ``before`` others is answered with :attr:`status`."""
        return self.status is not None and (self.times is None or before < self.times)


def parse(text: str) -> Fault:
    """Read the faults of a URL.

    :raises ValueError: when a word is none of them
    """
    flags: set[str] = set()
    numbers: dict[str, int] = {}
    redirect: str | None = None
    status: int | None = None
    times: int | None = None
    offsets: tuple[int, ...] = ()
    for word in text.split("+"):
        found = _WORD.fullmatch(word)
        if not found:
            raise ValueError(f"no such fault: {word}")
        if found["flag"]:
            flags.add(word)
        elif found["name"]:
            numbers[found["name"]] = int(found["number"])
        elif found["status"]:
            status, times = int(found["status"]), int(found["times"]) if found["times"] else None
        elif found["offsets"]:
            offsets = tuple(int(number) for number in found["offsets"][1:].split("-"))
        redirect = found["redirect"] or redirect
    return Fault(frozenset(flags), numbers, redirect, status, times, offsets)

# SPDX-License-Identifier: Apache-2.0
"""DER, the encoding of certificates and signatures, as far as it takes to name and to cut them; it verifies nothing.

ITU-T X.690, with tags of one byte and definite lengths, which is all that X.509 and PKCS #7 have.
"""

from __future__ import annotations

from dataclasses import dataclass

SEQUENCE, SET, OID, OCTETS = 0x30, 0x31, 0x06, 0x04
MOST = 4096  # elements of one level: no certificate or signature comes near


@dataclass(frozen=True)
class Element:
    """An element: its tag, what is in it, and ``whole`` with its head."""

    tag: int
    content: bytes
    whole: bytes

    def inside(self) -> list[Element]:
        """The elements in it.

        :raises ValueError: when it holds something else.
        """
        return elements(self.content)


def elements(data: bytes) -> list[Element]:
    """The elements that ``data`` consists of.

    :raises ValueError: when it is cut off, or no DER.
    """
    found: list[Element] = []
    place = 0
    while place < len(data):
        if len(found) == MOST:
            raise ValueError("too many elements for DER of a certificate")
        found.append(first(data, place))
        place += len(found[-1].whole)
    return found


def first(data: bytes, place: int = 0) -> Element:
    """The element that begins at ``place``; what follows it does not matter.

    :raises ValueError: when it is cut off, or no DER.
    """
    head = data[place : place + 6]
    if len(head) < 2 or head[0] & 0x1F == 0x1F:
        raise ValueError("no DER")
    size, start = head[1], 2
    if size & 0x80:
        count = size & 0x7F
        start += count
        if not 1 <= count <= 4 or len(head) < start:
            raise ValueError("no DER")
        size = int.from_bytes(head[2:start], "big")
    end = place + start + size
    if end > len(data):
        raise ValueError("DER that is cut off")
    return Element(head[0], data[place + start : end], data[place:end])


def identifier(content: bytes) -> str:
    """An object identifier with its dots."""
    numbers, value = [], 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    if not numbers:
        raise ValueError("an object identifier without content")
    top = min(numbers[0] // 40, 2)
    return ".".join(str(x) for x in (top, numbers[0] - 40 * top, *numbers[1:]))

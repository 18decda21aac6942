# SPDX-License-Identifier: Apache-2.0
"""EFI programs and certificates with the parts that are read of them, and signatures that nobody could verify."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from bareon.tools import pe, x509

_SHA256 = bytes.fromhex("608648016503040201")


def tlv(tag: int, *content: bytes) -> bytes:
    """An element of DER."""
    whole = b"".join(content)
    if len(whole) < 0x80:
        return bytes((tag, len(whole))) + whole
    return bytes((tag, 0x82)) + len(whole).to_bytes(2, "big") + whole


def _name(common: str) -> bytes:
    return tlv(0x30, tlv(0x31, tlv(0x30, tlv(6, bytes.fromhex("550403")), tlv(0x0C, common.encode()))))


def certificate(subject: str, issuer: str = "") -> x509.Certificate:
    """A certificate by the common names in it; one without an issuer is its own."""
    fields = (tlv(0xA0, tlv(2, b"\2")), tlv(2, b"\1"), tlv(0x30), _name(issuer or subject), tlv(0x30), _name(subject))
    return x509.certificate(tlv(0x30, tlv(0x30, *fields), tlv(0x30), tlv(3, b"\0")))


def signature(digest: bytes, signer: x509.Certificate, *others: x509.Certificate) -> bytes:
    """A signature of a program with that SHA-256."""
    algorithm = tlv(0x30, tlv(6, _SHA256), tlv(5))
    about = tlv(0x30, tlv(0x30), tlv(0x30, algorithm, tlv(4, digest)))
    content = tlv(0x30, tlv(6, bytes.fromhex("2b060104018237020104")), tlv(0xA0, about))
    certificates = tlv(0xA0, *(x.content for x in (signer, *others)))
    issuer = signer.issuer.removeprefix("CN=")
    signers = tlv(0x31, tlv(0x30, tlv(2, b"\1"), tlv(0x30, _name(issuer), tlv(2, b"\1"))))
    data = tlv(0x30, tlv(2, b"\1"), tlv(0x31, algorithm), content, certificates, signers)
    return tlv(0x30, tlv(6, bytes.fromhex("2a864886f70d010702")), tlv(0xA0, data))


def program(sections: Mapping[str, bytes] = {}, signers: Sequence[x509.Certificate] = ()) -> bytes:
    """A program with those sections, each signed by some; names of more than eight characters are in a table."""
    unsigned = _program(sections)
    if not signers:
        return unsigned
    digest = pe.program(unsigned).digest("sha256")
    table = b""
    for signer in signers:
        blob = signature(digest, signer)
        table += struct.pack("<IHH", 8 + len(blob), 0x0200, 2) + blob + bytes(-len(blob) % 8)
    head = bytearray(unsigned)
    struct.pack_into("<II", head, 0x58 + 112 + 32, len(unsigned), len(table))
    return bytes(head) + table


def _program(sections: Mapping[str, bytes]) -> bytes:
    headers, strings, table, body = 0x400, b"\0\0\0\0", b"", b""
    for name, content in {".text": b"code", **sections}.items():
        short = name.encode()
        if len(short) > 8:
            short, strings = b"/%d" % len(strings), strings + short + b"\0"
        padded = content + bytes(-len(content) % 16)
        table += struct.pack("<8sIIII16x", short, len(content), 0, len(padded), headers + len(body))
        body += padded
    strings = len(strings).to_bytes(4, "little") + strings[4:]
    head = bytearray(headers)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 0x3C, 0x40)
    struct.pack_into(
        "<4sHHIIIHH", head, 0x40, b"PE\0\0", 0x8664, len(sections) + 1, 0, headers + len(body), 0, 240, 0
    )
    struct.pack_into("<H", head, 0x58, 0x20B)
    struct.pack_into("<I", head, 0x58 + 60, headers)
    struct.pack_into("<I", head, 0x58 + 108, 16)
    head[0x58 + 240 : 0x58 + 240 + len(table)] = table
    whole = bytes(head) + body + strings
    return whole + bytes(-len(whole) % 8)

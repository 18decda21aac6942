# SPDX-License-Identifier: Apache-2.0
"""Lists of certificates and hashes in firmware: EFI_SIGNATURE_LIST of the UEFI specification, section 32.4.1."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

from bareon.tools import x509

_X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_HASHES = {
    uuid.UUID("826ca512-cf10-4ac9-b187-be01496631bd"): "sha1",
    uuid.UUID("c1c41626-504c-4092-aca9-41f936934328"): "sha256",
    uuid.UUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01"): "sha384",
    uuid.UUID("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a"): "sha512",
}
#: Hashes of the signed part of a certificate, each with a time behind it.
_OF_CERTIFICATES = {
    uuid.UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed"): "sha256",
    uuid.UUID("7076876e-80c2-4ee6-aad2-28b349a6865b"): "sha384",
    uuid.UUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d"): "sha512",
}
_SIZES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
_HEAD = struct.Struct("<16sIII")
_OWNER = 16  # bytes of a GUID, before each entry


@dataclass(frozen=True)
class Signatures:
    """What such a list has: certificates, hashes of programs and of certificates, each with its algorithm.

    ``others`` counts entries of a kind that is not known here, and certificates that cannot be read.
    """

    certificates: tuple[x509.Certificate, ...] = ()
    hashes: frozenset[tuple[str, bytes]] = frozenset()
    certificate_hashes: frozenset[tuple[str, bytes]] = frozenset()
    others: int = 0

    def __add__(self, other: Signatures) -> Signatures:
        return Signatures(
            self.certificates + other.certificates,
            self.hashes | other.hashes,
            self.certificate_hashes | other.certificate_hashes,
            self.others + other.others,
        )

    def __bool__(self) -> bool:
        return bool(self.certificates or self.hashes or self.certificate_hashes or self.others)


def signatures(data: bytes) -> Signatures:
    """The entries of all lists that ``data`` has, one behind the other.

    :raises ValueError: when it is no such list.
    """
    certificates, hashes, revoked, others = list[x509.Certificate](), set(), set(), 0
    while data:
        kind, size, head, each = _HEAD.unpack_from(data) if len(data) >= _HEAD.size else (b"", 0, 0, 0)
        begin = _HEAD.size + head
        if not begin <= size <= len(data) or each < _OWNER or (size - begin) % each:
            raise ValueError("a list of signatures whose sizes contradict each other")
        entries = [data[i + _OWNER : i + each] for i in range(begin, size, each)]
        name = uuid.UUID(bytes_le=kind)
        if name in _HASHES and each == _OWNER + _SIZES[_HASHES[name]]:
            hashes |= {(_HASHES[name], entry) for entry in entries}
        elif name in _OF_CERTIFICATES and each >= _OWNER + _SIZES[_OF_CERTIFICATES[name]]:
            algorithm = _OF_CERTIFICATES[name]
            revoked |= {(algorithm, entry[: _SIZES[algorithm]]) for entry in entries}
        elif name == _X509:
            for entry in entries:
                try:
                    certificates.append(x509.certificate(entry))
                except ValueError:
                    others += 1
        else:
            others += len(entries)
        data = data[size:]
    return Signatures(tuple(certificates), frozenset(hashes), frozenset(revoked), others)

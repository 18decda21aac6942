# SPDX-License-Identifier: Apache-2.0
"""Signatures of EFI programs: PKCS #7 with a hash of the program inside; verified by openssl-smime(1).

What EDK2 and shim call to verify one is OpenSSL's PKCS7_verify() with a certificate of theirs as the only one that is
trusted, be it the end of its chain or not, and without a look at dates. The program is told the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bareon.run import run
from bareon.tools import der, x509

PROGRAMS = ("openssl",)
_SIGNED_DATA, _CONTENT = "1.2.840.113549.1.7.2", "1.3.6.1.4.1.311.2.1.4"
_ALGORITHMS = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_NOT_VERIFIED = (2, 4)  # exit codes of openssl-smime(1): what cannot be read, and what is not of theirs


@dataclass(frozen=True)
class Signature:
    """A signature, as it says itself: the hash of the program with its algorithm, and the certificates it brings.

    ``issuer`` is the name of who signed the certificate of the signer. ``content`` are the bytes that are signed.
    """

    algorithm: str
    digest: bytes
    certificates: tuple[x509.Certificate, ...]
    signer: str
    issuer: str
    blob: bytes = field(repr=False)
    content: bytes = field(repr=False)


def signature(blob: bytes) -> Signature:
    """A signature in PKCS #7.

    :raises ValueError: when it is none, or of no EFI program.
    """
    try:
        return _signature(blob)
    except IndexError:
        raise ValueError("no signature of an EFI program") from None


def _signature(blob: bytes) -> Signature:
    whole = der.first(blob)
    kind, wrapped = whole.inside()[:2]
    if der.identifier(kind.content) != _SIGNED_DATA:
        raise ValueError("no signature of an EFI program")
    parts = wrapped.inside()[0].inside()
    kind, content = parts[2].inside()[:2]
    if der.identifier(kind.content) != _CONTENT:
        raise ValueError("no signature of an EFI program")
    about = content.inside()[0]
    algorithm, digest = about.inside()[1].inside()[:2]
    name = der.identifier(algorithm.inside()[0].content)
    if name not in _ALGORITHMS:
        raise ValueError(f"a signature with a hash of the unknown kind {name}")
    certificates = tuple(x509.certificate(x.whole) for x in _tagged(parts, 0xA0) if x.tag == der.SEQUENCE)
    issuer_and_serial = parts[-1].inside()[0].inside()[1].content
    signer = next((x for x in certificates if _issuer_and_serial(x) == issuer_and_serial), certificates[0])
    return Signature(
        _ALGORITHMS[name], digest.content, certificates, signer.subject, signer.issuer, whole.whole, about.content
    )


def _tagged(parts: list[der.Element], tag: int) -> list[der.Element]:
    return next((x.inside() for x in parts[3:] if x.tag == tag), [])


def _issuer_and_serial(certificate: x509.Certificate) -> bytes:
    """How a signature names a certificate: issuer and serial number, less the head of the sequence of both."""
    fields = der.first(certificate.signed).inside()
    start = 1 if fields[0].tag == 0xA0 else 0
    return fields[start + 2].whole + fields[start].whole


def verified(signature: str, content: str, certificates: str) -> bool:
    """True if a signature is of somebody with one of the certificates, or with one that they have signed.

    All three are files: the signature in DER, the bytes that are signed, and the certificates in PEM.

    :raises CommandError: when openssl is missing.
    """
    argv = ["openssl", "smime", "-verify", "-inform", "DER", "-in", signature, "-content", content, "-binary"]
    argv += ["-CAfile", certificates, "-no-CApath", "-no-CAstore", "-partial_chain", "-no_check_time"]
    argv += ["-purpose", "any", "-out", "/dev/null"]
    return run(argv, ok=(0, *_NOT_VERIFIED)).code == 0

# SPDX-License-Identifier: Apache-2.0
"""X.509 certificates, by the names in them: RFC 5280. Firmware looks at no dates, so nothing here does."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from bareon.text import visible
from bareon.tools import der

_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "1.2.840.113549.1.9.1": "emailAddress",
}
_CODINGS = {0x1E: "utf-16-be", 0x1C: "utf-32-be", 0x14: "latin-1"}
_LONGEST = 256  # characters of a name that is shown


@dataclass(frozen=True)
class Certificate:
    """A certificate: whose it is and who signed it, as RFC 4514 writes names, and the SHA-256 of the whole.

    ``signed`` is the part of it that its issuer has signed (TBSCertificate).
    """

    subject: str
    issuer: str
    fingerprint: str
    content: bytes = field(repr=False)
    signed: bytes = field(repr=False)

    def digest(self, algorithm: str) -> bytes:
        """The hash of what its issuer has signed, by which lists of firmware name it."""
        return hashlib.new(algorithm, self.signed).digest()

    @property
    def pem(self) -> str:
        """It as openssl(1) takes it."""
        text = base64.encodebytes(self.content).decode()
        return f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"


def certificate(content: bytes) -> Certificate:
    """A certificate in DER; what follows it is cut off.

    :raises ValueError: when it is none.
    """
    whole = der.first(content)
    try:
        signed = whole.inside()[0]
        fields = signed.inside()
        # Version comes first, where it is not that of 1988: version, serial, algorithm, issuer, validity, subject.
        start = 1 if fields[0].tag == 0xA0 else 0
        issuer, subject = fields[start + 2], fields[start + 4]
    except IndexError:
        raise ValueError("no X.509 certificate") from None
    fingerprint = hashlib.sha256(whole.whole).hexdigest()
    return Certificate(_name(subject), _name(issuer), fingerprint, whole.whole, signed.whole)


def _name(name: der.Element) -> str:
    """A name as RFC 4514 writes it, the most telling part first."""
    words = []
    for part in name.inside():
        pairs = [pair.inside() for pair in part.inside()]
        words.append("+".join(f"{_kind(pair[0])}={_text(pair[1])}" for pair in pairs if len(pair) == 2))
    return ",".join(reversed(words))[:_LONGEST] or "a certificate without a name"


def _kind(kind: der.Element) -> str:
    known = der.identifier(kind.content)
    return _NAMES.get(known, known)


def _text(value: der.Element) -> str:
    text = value.content.decode(_CODINGS.get(value.tag, "utf-8"), errors="replace")
    return visible("".join(f"\\{char}" if char in ',+"\\<>;' else char for char in text))


def common_names(names: Iterable[str]) -> str:
    """Names of certificates for people: the common name of each where there is one."""
    short = [next((x[3:] for x in name.split(",") if x.startswith("CN=")), name) for name in names]
    return ", ".join(repr(x) for x in dict.fromkeys(short))

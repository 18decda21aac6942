# SPDX-License-Identifier: Apache-2.0
"""Signatures of images in registries by a key of cosign: Simple Signing payloads, each with its signature.

``specs/SIGNATURE_SPEC.md`` of cosign. No certificate and no transparency log is looked at: the key is known.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bareon.errors import ImageFailed
from bareon.tools import openssl

#: What a layer of a signature's manifest is, and which of its annotations has the signature.
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
#: Signatures that are looked at.
MOST = 64

_TYPE = "cosign container image signature"
_KEY = re.compile(rb"^-----BEGIN PUBLIC KEY-----\r?\n[A-Za-z0-9+/=\r\n]+-----END PUBLIC KEY-----\s*$", re.MULTILINE)
_LARGEST_KEY = 64 * 1024  # bytes
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Signature:
    """One signature: the bytes that are signed, and the signature in base64, as an annotation has it."""

    payload: bytes
    signature: str


def tag(digest: str) -> str:
    """The tag of the signatures of a manifest with such a digest, ``sha256:`` and 64 digits in hexadecimal.

    :raises ImageFailed: for a digest of another kind.
    """
    if not _DIGEST.fullmatch(digest):
        raise ImageFailed(
            "cosign signs SHA-256 digests only, and the reference has another: name the image by its SHA-256"
        )
    return f"{digest.replace(':', '-')}.sig"


def public_key(path: str) -> bytes:
    """The public key in a file, in PEM.

    :raises ImageFailed: when it cannot be read, or is none.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):  # a FIFO is waited for, and a device may have no end
            raise ImageFailed(f"the key {path} cannot be read: it is no regular file")
        with Path(path).open("rb") as file:
            data = file.read(_LARGEST_KEY)
    except OSError as error:
        raise ImageFailed(f"the key {path} cannot be read: {error.strerror}") from None
    if not (found := _KEY.search(data)):
        raise ImageFailed(f"the key {path} is no public key in PEM, as cosign.pub is")
    return found[0] + b"\n"


def verify(digest: str, signatures: Sequence[Signature], key: bytes) -> None:
    """See that one of the signatures is by the owner of the key, and of the manifest with this digest.

    :param key: the public key in PEM.
    :raises ImageFailed: with the reason.
    :raises CommandError: when openssl is missing.
    """
    signed = [x.payload for x in signatures[:MOST] if _is_by(key, x)]
    if digest in (found := [_subject(x) for x in signed]):
        return
    if other := next((x for x in found if x), None):
        raise ImageFailed(f"the signature by the key is one of another image, {other}")
    if signed:
        raise ImageFailed("what the key has signed is no image")
    how_many = f"none of its {len(signatures)} signatures is" if len(signatures) > 1 else "its signature is not"
    raise ImageFailed(f"{how_many} by the key" if signatures else "has no signature of cosign")


def _is_by(key: bytes, signature: Signature) -> bool:
    try:
        blob = base64.b64decode(signature.signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    with tempfile.TemporaryDirectory(prefix="bareon-") as folder:
        for name, content in (("key", key), ("signature", blob), ("payload", signature.payload)):
            Path(folder, name).write_bytes(content)
        return openssl.verified(f"{folder}/key", f"{folder}/signature", f"{folder}/payload")


def _subject(payload: bytes) -> str | None:
    """The digest of the manifest that a payload is about."""
    try:
        critical = json.loads(payload)["critical"]
        kind, digest = critical["type"], critical["image"]["docker-manifest-digest"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    return digest if kind == _TYPE and isinstance(digest, str) and _DIGEST.fullmatch(digest) else None

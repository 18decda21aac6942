# SPDX-License-Identifier: Apache-2.0
"""Lists of checksums that vendors publish beside their images, and the signatures of such lists.

A line is ``DIGEST  NAME`` as of sha256sum(1), or ``SHA256 (NAME) = DIGEST`` as with ``--tag``. The algorithm follows
from the length of the digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bareon.errors import ImageFailed
from bareon.model.image import DIGEST_LENGTHS, Digest, HashAlgorithm
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.tools import gpgv
from bareon.transfer.document import fetched
from bareon.transfer.failure import named
from bareon.transfer.signature import signed

_PLAIN = re.compile(r"([0-9A-Fa-f]+) [ *](?:\./)?(.+)")
_TAGGED = re.compile(r"[A-Z0-9-]+ \((?:\./)?(.+)\) = ([0-9A-Fa-f]+)")
_ALGORITHMS: dict[int, HashAlgorithm] = {length: name for name, length in DIGEST_LENGTHS.items()}


def look_up(image: Location, checksums: Location, signature: Location | None, settings: TransferSettings) -> Digest:
    """The digest that a list of checksums has for the file name of ``image``.

    With a keyring in ``settings`` the list must be signed: by what is at ``signature``, or around it.

    :raises ImageFailed: when there is none, the list cannot be fetched, or it is not signed by a key of the keyring.
    """
    text = fetched(checksums, settings, "a list of checksums")
    beside = fetched(signature, settings, "a signature") if signature else None
    with named(checksums):
        return digest(_trusted(text, beside, settings).decode(errors="replace"), image.name)


def _trusted(text: bytes, signature: bytes | None, settings: TransferSettings) -> bytes:
    """What of a list may be believed."""
    if settings.keyring is None:
        return text
    if signature is None and not gpgv.is_signed(text):
        raise ImageFailed("it has no signature, and none is named with image_signature_url")
    return signed(text, signature, settings.keyring)


def digest(text: str, name: str) -> Digest:
    """The strongest digest that a list has for a file.

    :raises ImageFailed: when it has none, or two for one algorithm.
    """
    found: dict[HashAlgorithm, set[str]] = {}
    for value in (value for file, value in _entries(text) if file == name):
        if algorithm := _ALGORITHMS.get(len(value)):
            found.setdefault(algorithm, set()).add(value.lower())
    if not found:
        raise ImageFailed(f"it lists no checksum for {name!r} that can be used")
    strongest = max(found, key=DIGEST_LENGTHS.__getitem__)
    if len(found[strongest]) > 1:
        raise ImageFailed(f"it lists more than one {strongest} for {name!r}")
    return Digest(strongest, found[strongest].pop())


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """The names of files with their digests in hexadecimal."""
    for line in re.split("\r?\n", text):  # a name may have what else ends a line
        if plain := _PLAIN.fullmatch(line):
            yield plain[2], plain[1]
        elif tagged := _TAGGED.fullmatch(line):
            yield tagged[1], tagged[2]

# SPDX-License-Identifier: Apache-2.0
"""The list of checksums of images as vendors publish it, signed, with the key to believe beside it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

from building.process import run

KEYRING = "vendor.asc"
CHECKSUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.gpg"


def add(place: Path, names: Iterable[str]) -> None:
    """Put the list of these images beside them, with its detached signature and the public key."""
    lines = []
    for name in names:
        with (place / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()} *{name}\n")
    (place / CHECKSUMS).write_text("".join(lines))
    # Not in the cache's folder: gpg-agent has a socket there, whose path must be short.
    with tempfile.TemporaryDirectory() as home:
        gpg = ("gpg", "--homedir", home, "--batch", "--quiet", "--no-tty", "--passphrase", "")
        run([*gpg, "--quick-generate-key", "vendor", "ed25519", "sign", "never"], timeout=60)
        run([*gpg, "--output", place / SIGNATURE, "--detach-sign", place / CHECKSUMS], timeout=60)
        run([*gpg, "--armor", "--output", place / KEYRING, "--export", "vendor"], timeout=60)
        run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], timeout=60)

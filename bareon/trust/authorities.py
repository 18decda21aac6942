# SPDX-License-Identifier: Apache-2.0
"""The certificates of ``bareon.ca=``: whom this ramdisk trusts besides the authorities that it was built with.

Who answers for a URL is not known before the authority is. So either the command line has the digest of the file, or
the server is one that the ramdisk trusts already.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from bareon.errors import ImageFailed
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.transfer.document import fetched

#: Where Debian's programs look, bareon's among them.
BUNDLE = Path("etc/ssl/certs/ca-certificates.crt")
#: A minute for all files: the SSH server starts after this.
SETTINGS = TransferSettings(
    attempts=4, total_timeout=60.0, connect_timeout=10.0, idle_timeout=10.0, longest_wait=10.0
)


@dataclass(frozen=True)
class Authority:
    """A file with certificates in PEM; ``digest`` is its SHA-256 in hexadecimal digits."""

    location: Location
    digest: str | None = None


def parse(text: str) -> Authority:
    """Return what ``URL`` or ``URL#sha256=DIGEST`` names.

    :raises ValueError: for anything else; its text is for people.
    """
    url, sharp, fragment = text.partition("#")
    location = Location(url)
    if location.scheme not in ("http", "https") or not location.sound or not location.host:
        raise ValueError(f"{location} must be a URL that begins with http:// or https://")
    found = re.fullmatch("sha256=([0-9A-Fa-f]{64})", fragment)
    if sharp and not found:
        raise ValueError("what stands behind # must be sha256= and 64 hexadecimal digits")
    if not found and location.scheme != "https":
        raise ValueError(f"{location} could come from anybody: write #sha256= and its digest behind it, or use https")
    return Authority(location, found[1].lower() if found else None)


def certificates(authority: Authority, settings: TransferSettings = SETTINGS) -> bytes:
    """Fetch the file, and return it.

    :raises ImageFailed: when it does not come, or is not what it should be.
    """
    if settings.total_timeout <= 0:
        raise ImageFailed(f"{authority.location} is not asked for: the time for all of them is over")
    text = fetched(authority.location, settings, "certificates")
    digest = hashlib.sha256(text).hexdigest()
    if authority.digest and digest != authority.digest:
        raise ImageFailed(f"{authority.location} has the SHA-256 {digest}, and not {authority.digest}")
    try:
        ssl.create_default_context(cadata=text.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        raise ImageFailed(f"{authority.location} has no certificate that can be read (PEM)") from None
    return text


def add(text: bytes, root: Path) -> None:
    """Add certificates to those of the ramdisk, unless they are among them.

    :raises OSError: when they cannot be written.
    """
    bundle = root / BUNDLE
    bundle.parent.mkdir(parents=True, exist_ok=True)
    if bundle.exists() and text.rstrip(b"\n") in bundle.read_bytes():
        return
    with bundle.open("ab") as file:
        file.write(b"\n" + text.rstrip(b"\n") + b"\n")

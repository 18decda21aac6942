# SPDX-License-Identifier: Apache-2.0
"""The keys of ``bareon.sshkey=``: who may log in to the ramdisk as root. Without one only Ironic may."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bareon.callback import key


def parse(text: str) -> str:
    """Return type and key of a public key as ``ssh-keygen`` writes it, or of base64url of that, which has no blanks.

    :raises ValueError: for anything else; its text is for people.
    """
    if "://" in text:
        # Whoever answers there would be let in, and the time to check who answers has not come yet.
        raise ValueError("must be the key itself, and not where it is")
    return key.public(text) if " " in text else key.conductors(text)


def admit(keys: Sequence[str], home: Path) -> None:
    """Let the holders of these keys log in, besides those of the keys that the ramdisk was built with.

    :raises OSError: when the file cannot be written.
    """
    place = home / ".ssh"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = place / "authorized_keys"
    old = file.read_text().splitlines() if file.exists() else []
    file.touch(mode=0o600)
    file.write_text("".join(f"{line}\n" for line in dict.fromkeys([*old, *keys])))

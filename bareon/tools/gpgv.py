# SPDX-License-Identifier: Apache-2.0
"""Signatures of OpenPGP: gpgv(1), which knows the keys of one keyring and nothing of trust or of key servers."""

from __future__ import annotations

import base64
import binascii
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from bareon.errors import ImageFailed
from bareon.run import Command, run

PROGRAMS = ("gpgv",)
KEYS = "keys"
"""The name of the file with the keys."""

_ARMOR = re.compile(
    rb"^-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n:]+: [^\r\n]*\r?\n)*\r?\n"
    rb"(.*?)(?:^=[^\r\n]{4}\r?\n)?^-----END PGP PUBLIC KEY BLOCK-----",
    re.MULTILINE | re.DOTALL,
)
_CLEAR = b"-----BEGIN PGP SIGNED MESSAGE-----"

#: What gpgv says of a signature that does not hold, doc/DETAILS of GnuPG, and what that means; the worst first.
_WORDS = {
    "BADSIG": "does not fit: what was signed has been changed, or the signature is that of something else",
    "REVKEYSIG": "was made with key {key}, which has been revoked",
    "EXPKEYSIG": "was made with key {key}, which has expired",
    "EXPSIG": "has expired",
    "NO_PUBKEY": "was made with key {key}, which is not in the keyring",
    "ERRSIG": "cannot be checked: key {key}, or an algorithm that is no longer trusted",
}


def is_signed(text: bytes) -> bool:
    """True if a text has its signature around it: the Cleartext Signature Framework of RFC 9580."""
    return text.startswith(_CLEAR)


def verify(
    home: str, files: Sequence[str], *, output: str | None = None, keep: Sequence[int] = (), timeout: float = 60.0
) -> None:
    """See that a file is signed by a key that is valid now.

    :param home: a folder in which ``keys`` has the public keys, without armor. Options and keys of the user's are not
        looked for.
    :param files: the signature and the file, or one file with its signature around it.
    :param output: where to write what is signed of such a file.
    :param keep: descriptors that are among the files as ``/dev/fd/N``.
    :raises ImageFailed: when it is not.
    """
    argv = ["gpgv", "--homedir", home, "--status-fd", "1", "--weak-digest", "SHA1", "--keyring", f"{home}/{KEYS}"]
    _judge(run([*argv, *(["--output", output] if output else []), *files], ok=range(256), keep=keep, timeout=timeout))


def _judge(said: Command) -> None:
    """Take one good signature by a valid key, if there is none that does not fit.

    :raises ImageFailed: with the reason.
    """
    lines = [line.split() for line in said.stdout.split("\n") if line.startswith("[GNUPG:] ")]
    found = {words[1]: words[2] if len(words) > 2 else "" for words in lines}
    if "GOODSIG" in found and "VALIDSIG" in found and "BADSIG" not in found:
        return
    reason = next((text.format(key=found[word]) for word, text in _WORDS.items() if word in found), None)
    raise ImageFailed(f"its signature {reason or 'is no signature of OpenPGP that can be read'}")


def keys(keyring: str) -> bytes:
    """The keys of a file in the form that gpgv reads: without armor.

    :raises ImageFailed: when it cannot be read, or has none.
    """
    try:
        if not stat.S_ISREG(Path(keyring).stat().st_mode):  # a FIFO is waited for, and a device may have no end
            raise ImageFailed(f"the keyring {keyring} cannot be read: it is no regular file")
        data = Path(keyring).read_bytes()
        if data.lstrip().startswith(b"-----"):
            data = b"".join(base64.b64decode(x, validate=False) for x in _ARMOR.findall(data))
    except (OSError, binascii.Error) as error:
        raise ImageFailed(f"the keyring {keyring} cannot be read: {error}") from None
    if not data:
        raise ImageFailed(f"the keyring {keyring} has no public key")
    return data

# SPDX-License-Identifier: Apache-2.0
"""Public keys of SSH: the conductor's, which alone may come in, and the ramdisk's own, which the conductor pins."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from bareon.errors import UnsuitableNode

#: Types of keys that sshd(8) takes in authorized_keys; certificates are none of one key.
TYPES = (
    *("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    *("sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"),
)
_LARGEST = 8192  # characters; a key of RSA with 16384 bits has 2800
_ADMITTED = "authorized_keys"
_ALSO_READ = "authorized_keys2"  # by sshd too, as long as sshd_config(5) names no files


def conductors(encoded: str) -> str:
    """The line of authorized_keys(5) that ``bareon-key`` holds as base64url, the padding left out.

    :raises ValueError: unless it is exactly one key of a known type, without options; its text is for people.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+={0,2}", encoded):
        raise ValueError("must be base64url of a line of authorized_keys")
    try:
        line = base64.b64decode(encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), b"-_").decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("must be base64url of a line of authorized_keys, in ASCII") from None
    return public(line)


def public(line: str) -> str:
    """Type and key of a line with one public key; its comment is left out.

    :raises ValueError: for anything else; its text is for people.
    """
    line = line.removesuffix("\n").removesuffix("\r")
    if len(line) > _LARGEST or not re.fullmatch(r"[ -~]+", line):
        raise ValueError("must be one line with one key, without control characters")
    words = line.split(" ", 2)
    if words[0] not in TYPES:
        raise ValueError(f"must begin with the type of the key, one of {', '.join(TYPES)}; options are not taken")
    if len(words) < 2 or not _is_of(words[0], words[1]):
        raise ValueError(f"has no key of the type {words[0]} behind the type")
    return f"{words[0]} {words[1]}"


def _is_of(kind: str, text: str) -> bool:
    """Whether a key says of itself that it has this type, and ends with a field; RFC 4253, 6.6."""
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    fields = []
    while len(blob) >= 4:
        length = int.from_bytes(blob[:4], "big")
        if length > len(blob) - 4:
            return False
        fields.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return not blob and len(fields) > 1 and fields[0] == kind.encode() and all(fields)


def admit(line: str, home: Path) -> None:
    """Let the holder of this key log in as the user whose home folder that is, and nobody else.

    :raises UnsuitableNode: when it cannot be written.
    """
    from bareon.atomic import replacing_in

    with _ssh_folder(home) as folder:
        _remove(folder, _ALSO_READ)
        with replacing_in(folder, _ADMITTED, 0o600) as file:
            file.write(f"{line} conductor\n".encode("ascii"))


def admit_nobody(home: Path) -> None:
    """Let nobody log in by a key as the user whose home folder that is.

    :raises UnsuitableNode: when that cannot be had.
    """
    with _ssh_folder(home) as folder:
        _remove(folder, _ADMITTED)
        _remove(folder, _ALSO_READ)


@contextlib.contextmanager
def _ssh_folder(home: Path) -> Iterator[int]:
    """The folder of SSH in a home, made where it is missing; errors within are told of it."""
    place = home / ".ssh"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(folder, 0o700)
            yield folder
        finally:
            os.close(folder)
    except OSError as error:
        raise UnsuitableNode(f"{place}/{_ADMITTED} cannot be written: {error.strerror}") from None


def _remove(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def of_this_host(etc: Path) -> str:
    """The public keys of this host's SSH server, a line for each.

    :raises UnsuitableNode: when there is none, or what is there is no key.
    """
    lines = []
    for path in sorted(etc.glob("ssh_host_*_key.pub")):
        try:
            lines.append(public(path.read_text("ascii")))
        except OSError as error:
            raise UnsuitableNode(f"{path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise UnsuitableNode(f"{path} {error}") from None
    if not lines:
        raise UnsuitableNode(
            f"{etc} has no ssh_host_*_key.pub: ssh-keygen -A makes them, before the SSH server starts"
        )
    return "\n".join(lines)

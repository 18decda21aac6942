# SPDX-License-Identifier: Apache-2.0
"""The SSH connection from the conductor to a ramdisk, by OpenSSH's program.

Nothing of the conductor's own SSH configuration takes part, and a host is known by the key that it sent along with
its heartbeat or not at all.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import ipaddress
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bareon.errors import ActionFailed, CommandError, Defect, InvalidInput
from bareon.run import Command, run
from bareon.text import visible

_ALIAS = "ramdisk"
"""The name of each ramdisk in its file of known hosts, which holds no other."""

_KEY_TYPE = re.compile(r"(ssh|ecdsa)-[a-z0-9@.-]{1,60}")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}")
_SSH_FAILED = 255
"""The exit code of ssh(1) for an error of its own."""

LARGEST = 1 << 20
"""Bytes of an answer, unless more is asked for: a ramdisk that sends without end takes no more memory."""

_SHOWN = 300  # characters of what a ramdisk says, in an error


class Unreachable(ActionFailed):
    """The ramdisk does not answer, or is not the one that is known."""


@dataclass(frozen=True)
class Address:
    """Where a ramdisk listens: a literal IP address and a port."""

    host: str
    port: int

    @classmethod
    def of_url(cls, url: str, port: int | None = None) -> Address:
        """That of a heartbeat's URL, such as ``https://192.0.2.7:22``; ``port`` wins over the one in it.

        :raises Unreachable: when it has no literal address.
        """
        try:
            parts = urlsplit(url)
            host = str(ipaddress.ip_address(parts.hostname or ""))
            return cls(host, port or parts.port or 22)
        except ValueError:
            raise Unreachable(f"the ramdisk gave {url[:200]!r} as its address, not https://IP:PORT") from None


def host_keys(text: str) -> tuple[str, ...]:
    """The public host keys in a heartbeat, a line each, without comments.

    :raises Unreachable: when there is none, or a line is something else.
    """
    found = []
    for line in text.splitlines():
        if not line.strip():
            continue
        words = line.split()
        if len(words) < 2 or not _KEY_TYPE.fullmatch(words[0]) or not _is_key(words[1], words[0]):
            raise Unreachable("what the ramdisk sent as its SSH host key is none")
        found.append(" ".join(words[:2]))
    if not found:
        raise Unreachable(
            "the ramdisk sent no SSH host key with its heartbeat, so it cannot be told from another host"
        )
    return tuple(found)


def _is_key(text: str, kind: str) -> bool:
    """Whether it is a public key of that type: its first field names the type; RFC 4253, 6.6."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return content[4 : 4 + int.from_bytes(content[:4], "big")] == kind.encode()


def check_key_file(path: str, where: str) -> None:
    """See that a private key is there and that nobody else can read it.

    :param where: names it in the defect.
    :raises InvalidInput: when it is not so.
    """
    try:
        state = Path(path).stat()
    except OSError as error:
        raise InvalidInput([Defect(where, f"the SSH key {path} cannot be read: {error.strerror}")]) from None
    if not stat.S_ISREG(state.st_mode):
        raise InvalidInput([Defect(where, f"the SSH key {path} is no file")])
    if (mode := stat.S_IMODE(state.st_mode)) & 0o077:
        message = f"the SSH key {path} is open to others (mode {mode:04o}): chmod go= {path}"
        raise InvalidInput([Defect(where, message)])


def public_key(path: str, where: str) -> str:
    """The public half of a private key, as a line of ``authorized_keys``.

    :raises InvalidInput: when there is none.
    """
    check_key_file(path, where)
    try:
        done = run(["ssh-keygen", "-y", "-P", "", "-f", path], timeout=20)
    except CommandError as error:
        message = f"the SSH key {path} cannot be used; a key without a passphrase is needed: {error.reason}"
        raise InvalidInput([Defect(where, message)]) from None
    return " ".join(done.stdout.split()[:2])


def kernel_parameter(line: str) -> str:
    """A line of ``authorized_keys`` as the value of a kernel parameter: base64url without padding."""
    return base64.urlsafe_b64encode(line.encode()).decode().rstrip("=")


def last_line(said: str) -> str:
    """The last line of what a ramdisk said, for people; empty where it said nothing."""
    lines = said.strip().splitlines()
    return visible(lines[-1][:_SHOWN]) if lines else ""


@contextlib.contextmanager
def _readable(text: str | None) -> Iterator[int | None]:
    """A descriptor that a text can be read from: a configdrive is more than a pipe holds, and belongs on no disk."""
    if text is None:
        yield None
        return
    with os.fdopen(os.memfd_create("bareon-ssh"), "w+b") as file:
        file.write(text.encode())
        file.seek(0)
        yield file.fileno()


@dataclass(frozen=True)
class Connection:
    """A way to run commands in a ramdisk. ``patience`` is seconds without any sign of life."""

    address: Address
    user: str
    key_file: str
    host_keys: tuple[str, ...]
    patience: int = 30

    def run(
        self,
        command: str,
        *,
        stdin: str | None = None,
        timeout: float = 60,
        ok: Iterable[int] = (0,),
        at_most: int = LARGEST,
    ) -> Command:
        """Run a shell command to its end.

        :param at_most: how many of the last bytes of each output are kept.
        :raises Unreachable: when the ramdisk cannot be reached.
        :raises CommandError: when the command ends with another code than those in ``ok``, or takes too long.
        """
        with tempfile.TemporaryDirectory(prefix="bareon-ssh-") as place, _readable(stdin) as source:
            known = Path(place) / "known_hosts"
            known.write_text("".join(f"{_ALIAS} {key}\n" for key in self.host_keys))
            argv = [*self.argv(str(known)), command]
            # Codes that are not fine are told here, since 255 is not the command's own.
            done = run(argv, source=source, timeout=timeout, ok=range(256), at_most=at_most)
        if done.code == _SSH_FAILED:
            said = last_line(done.stderr) or "no reason given"
            raise Unreachable(f"no SSH connection to the ramdisk at {self.address.host}: {said}")
        if done.code not in tuple(ok):
            # Not the command itself, which may be a long script.
            raise CommandError(
                ["ssh", self.address.host], done.code, f"failed with exit code {done.code}", "", done.stderr
            )
        return done

    def argv(self, known_hosts: str) -> Sequence[str]:
        """The command line up to the remote command.

        :raises Unreachable: when the user is no name.
        """
        if not _USER.fullmatch(self.user):
            raise Unreachable(f"{self.user!r} is no name of a user of the ramdisk")
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": known_hosts,
            "GlobalKnownHostsFile": "none",
            "HostKeyAlias": _ALIAS,
            "CheckHostIP": "no",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PreferredAuthentications": "publickey",
            "ForwardAgent": "no",
            "ControlPath": "none",
            "ConnectTimeout": str(self.patience),
            "ServerAliveInterval": str(max(1, self.patience // 3)),
            "ServerAliveCountMax": "3",
            "LogLevel": "ERROR",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        target = ["-i", self.key_file, "-p", str(self.address.port), "-l", self.user, "--", self.address.host]
        return ["ssh", "-F", "none", "-T", *words, *target]

# SPDX-License-Identifier: Apache-2.0
"""Keys of encrypted devices: where they come from, and what they are good for. None is a part of any value here."""

from __future__ import annotations

import functools
import json
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import urlsplit

from bareon import tools
from bareon.errors import CommandError, UnsuitableNode

LARGEST = 8 << 20
"""Bytes of a key file that cryptsetup(8) takes."""

LONGEST_TYPED = 512
"""Characters of a passphrase that cryptsetup(8) takes from a console."""

# Letters that are at the same place of most keyboards; those of systemd-cryptenroll(1).
_MODHEX = "cbdefghijklnrtuv"
_RECOVERY = 32  # bytes


@dataclass(frozen=True)
class KeyFile:
    """A file of the ramdisk."""

    file: str
    source: ClassVar[str] = "file"

    def __str__(self) -> str:
        return f"the key in {self.file}"


@dataclass(frozen=True)
class KeyUrl:
    """What an HTTPS server gives."""

    url: str = field(repr=False)
    source: ClassVar[str] = "url"

    def __str__(self) -> str:
        return f"the key of {urlsplit(self.url).hostname}"


@dataclass(frozen=True)
class Sealed:
    """A key that nobody has: it is sealed by a pin of clevis(1), with ``config`` in JSON, for whom can open that.

    ``pins`` are all of them that take part, and ``words`` say of what it is made.
    """

    source: str
    pin: str
    config: str
    pins: tuple[str, ...]
    words: str

    def __str__(self) -> str:
        return f"a key that {self.words}"


Source = KeyFile | KeyUrl


def of_tpm(pcrs: Sequence[int]) -> Sealed:
    """A key that the node's TPM gives out while these PCRs have the values that they have now."""
    numbers = [str(x) for x in sorted(pcrs)]
    # clevis goes by SHA-1 otherwise, of which many a TPM has no PCRs any more.
    config = {"pcr_bank": "sha256", "pcr_ids": ",".join(numbers)} if numbers else {}
    bound = f"seals to PCR {', '.join(numbers)}" if numbers else "seals"
    return Sealed("tpm2", "tpm2", json.dumps(config), ("tpm2",), f"the TPM {bound}")


def of_tang(servers: Sequence[tuple[str, str]], threshold: int) -> Sealed:
    """A key that is to be had while ``threshold`` of some tang servers answer.

    :param servers: the URL of each, and the thumbprint of the key by which it signs.
    """
    tang = [{"url": url, "thp": thumbprint} for url, thumbprint in servers]
    hosts = ", ".join(str(urlsplit(url).hostname) for url, _ in servers)
    if len(tang) == 1:
        return Sealed("clevis", "tang", json.dumps(tang[0]), ("tang",), f"tang on {hosts} seals")
    config = json.dumps({"t": threshold, "pins": {"tang": tang}})
    return Sealed("clevis", "sss", config, ("sss", "tang"), f"{threshold} of tang on {hosts} open")


@functools.cache
def try_out(sealed: Sealed) -> None:
    """See that keys can be sealed so, and opened again.

    :raises UnsuitableNode: when they cannot.
    """
    trial = machine_key()
    try:
        found = tools.clevis.unseal(tools.clevis.seal(sealed.pin, sealed.config, trial))
    except CommandError as error:
        raise UnsuitableNode(f"{sealed} cannot be had: {tools.clevis.reason(error)}") from None
    if found != trial:
        raise UnsuitableNode(f"{sealed} cannot be had: another one comes back")


def machine_key() -> bytes:
    """A new key of 256 bits that no person ever sees; letters, as scripts pass it on."""
    return secrets.token_hex(_RECOVERY).encode()


@functools.cache
def content(source: Source) -> bytes:
    """The key itself. It is asked for once in a run: some servers give one but once.

    :raises UnsuitableNode: when it cannot be had, or is empty.
    """
    found = tools.https.fetch(source.url, LARGEST) if isinstance(source, KeyUrl) else _read(source.file)
    if not found:
        raise UnsuitableNode(f"{source} is empty")
    return found


def _read(path: str) -> bytes:
    try:
        # Not to wait for whoever might write to a FIFO; what is none reads as always.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnsuitableNode(f"the key in {path} cannot be read: it is no regular file")
            found = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise UnsuitableNode(f"the key in {path} cannot be read: {getattr(error, 'strerror', error)}") from None
    if len(found) > LARGEST:
        raise UnsuitableNode(f"the key in {path} has more than {LARGEST} bytes")
    return found


def untypable(key: bytes) -> str | None:
    """Why nobody could type a key at a console; ``None`` where one can."""
    text = key.decode(errors="replace")
    if text.endswith("\n"):
        return "it ends with a newline, which is a part of it: write it without one, as printf does"
    if "\ufffd" in text or not text.isprintable():
        return "it is no text in one line"
    return f"it is longer than {LONGEST_TYPED} characters" if len(text) > LONGEST_TYPED else None


def recovery_key() -> str:
    """A new key of 256 bits that somebody can write down and type, in the form of systemd-cryptenroll(1)."""
    letters = "".join(_MODHEX[byte >> 4] + _MODHEX[byte & 15] for byte in secrets.token_bytes(_RECOVERY))
    return "-".join(letters[i : i + 8] for i in range(0, len(letters), 8))

# SPDX-License-Identifier: Apache-2.0
"""Keys that a TPM 2.0 or tang servers seal: clevis(1). What it seals reaches it by descriptors of memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from bareon.errors import CommandError
from bareon.run import run
from bareon.tools import memory

_SECONDS = 120.0  # a TPM is slow, and tang is asked over the network
#: The parts of what is sealed, in the order of its compact form; RFC 7516, 3.1. In a token they have their names.
_PARTS = ("protected", "encrypted_key", "iv", "ciphertext", "tag")
TOKEN = "clevis"
"""The type of the tokens in a header by which clevis(1), and so the initramfs of a system, knows its keys again."""


def programs(pins: Iterable[str]) -> tuple[str, ...]:
    """The programs that seal by ``pins`` and open again."""
    return ("clevis", *(f"clevis-{what}-{pin}" for pin in pins for what in ("encrypt", "decrypt")))


def seal(pin: str, config: str, key: bytes) -> str:
    """A key, sealed by a pin of clevis: JWE, in the compact form.

    :param config: JSON, as ``clevis-encrypt-PIN(1)`` has it.
    """
    return _through(["clevis", "encrypt", pin, config], key).decode().strip()


def unseal(sealed: str) -> bytes:
    """The key that was sealed."""
    return _through(["clevis", "decrypt"], sealed.encode())


def token(sealed: str, slot: int) -> str:
    """What a header is told of a sealed key that opens a slot: JSON, as ``clevis luks bind`` has it."""
    parts = dict(zip(_PARTS, sealed.split("."), strict=True))
    return json.dumps({"type": TOKEN, "keyslots": [str(slot)], "jwe": parts})


def sealed(found: Mapping[str, object]) -> str | None:
    """What is sealed in a token of a header; ``None`` for one of another form."""
    parts = found.get("jwe")
    if not isinstance(parts, Mapping) or not all(isinstance(parts.get(x), str) for x in _PARTS):
        return None
    return ".".join(str(parts[x]) for x in _PARTS)


def reason(error: CommandError) -> str:
    """Why one of these failed: what was said first, since all that follows comes of it."""
    said = [line.strip() for line in error.stderr.splitlines() if line.strip()]
    return f"{error.argv[0]} {error.argv[1]} {error.reason}" + (f": {said[0]}" if said else "")


def _through(argv: Sequence[str], given: bytes) -> bytes:
    """What a command makes of its standard input; neither is kept anywhere."""
    with memory.held(given) as source, memory.held() as sink:
        run(argv, source=source, sink=sink, timeout=_SECONDS)
        return memory.content(sink)

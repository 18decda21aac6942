# SPDX-License-Identifier: Apache-2.0
"""Encrypted devices: cryptsetup(8). Keys reach it as descriptors of memory, and are in no argument list."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from bareon.run import run
from bareon.tools import memory

PROGRAMS = ("cryptsetup",)

NO_KEY_FITS = 2
"""The exit code for a key that opens nothing."""

_SECTOR = 512  # bytes, in which --offset counts
_SECONDS = 300.0  # a key is derived on purpose slowly, and under emulation more so


@dataclass(frozen=True)
class Header:
    """The header of a container. Of LUKS1 the format alone is known: it is told in no form for programs."""

    format: str
    cipher: str | None = None


def header(device: str) -> Header | None:
    """The header of a container; ``None`` where it is damaged."""
    found = run(["cryptsetup", "luksDump", "--dump-json-metadata", device], ok=(0, 1))
    if found.code == 0:
        return parse(found.stdout)
    first = run(["cryptsetup", "isLuks", "--type", "luks1", device], ok=(0, 1))
    return Header("luks1") if first.code == 0 else None


def parse(output: str) -> Header | None:
    """The header in the output of ``luksDump --dump-json-metadata``; LUKS2 On-Disk Format, chapter 3."""
    try:
        return Header("luks2", str(json.loads(output)["segments"]["0"]["encryption"]))
    except (ValueError, KeyError, TypeError):
        return None


def tokens(device: str) -> list[Mapping[str, object]]:
    """The tokens of a LUKS2 container: how each of some keys can be had, which is not to be kept secret."""
    return parse_tokens(run(["cryptsetup", "luksDump", "--dump-json-metadata", device]).stdout)


def parse_tokens(output: str) -> list[Mapping[str, object]]:
    """The tokens in that output; chapter 3.5."""
    try:
        return [x for x in json.loads(output)["tokens"].values() if isinstance(x, Mapping)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def add_token(device: str, token: str) -> None:
    """Give a container a token, JSON."""
    run(["cryptsetup", "token", "import", device], stdin=token)


def make(device: str, uuid: str, label: str, offset: int, key: bytes) -> None:
    """Make a LUKS2 container whose data begin after ``offset`` bytes."""
    argv = ["cryptsetup", "luksFormat", "--type", "luks2", "--batch-mode", f"--uuid={uuid}", f"--label={label}"]
    argv += [f"--offset={offset // _SECTOR}", "--key-file=-", device]
    with memory.held(key) as source:
        run(argv, source=source, timeout=_SECONDS)


def add_key(device: str, key: bytes, new: bytes) -> None:
    """Give a container another key beside the one that it has."""
    with memory.held(key) as source, memory.held(new) as added:
        argv = ["cryptsetup", "luksAddKey", "--batch-mode", "--key-file=-", device, f"/proc/self/fd/{added}"]
        run(argv, source=source, keep=(added,), timeout=_SECONDS)


def fits(device: str, key: bytes) -> bool:
    """True where a key opens a container, which stays closed."""
    with memory.held(key) as source:
        argv = ["cryptsetup", "open", "--type", "luks2", "--test-passphrase", "--key-file=-", device]
        return run(argv, source=source, ok=(0, NO_KEY_FITS), timeout=_SECONDS).code == 0


def open_container(device: str, name: str, key: bytes, *, discard: bool = False) -> None:
    """Open a container as ``/dev/mapper/NAME``; ``discard`` lets it say which blocks are unused."""
    discards = ["--allow-discards"] if discard else []
    with memory.held(key) as source:
        argv = ["cryptsetup", "open", "--type", "luks2", *discards, "--key-file=-", device, name]
        run(argv, source=source, timeout=_SECONDS)


def close(name: str) -> None:
    """Close what is open as ``/dev/mapper/NAME``, of whatever format."""
    run(["cryptsetup", "close", name])

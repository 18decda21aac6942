# SPDX-License-Identifier: Apache-2.0
"""Disks' own reports of their health: smartctl(8) of smartmontools, version 7.0 or later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bareon.errors import CommandError
from bareon.run import run

PROGRAMS = ("smartctl",)
_PATIENCE = 10.0  # seconds; a disk that is dying may take for ever
_ANY = range(256)  # The exit status is a mask of what is wrong with the disk.

# NVMe specification, SMART / Health Information log, critical warning: bits, and whether the disk is failing by them.
# It may cool down again, and the persistent memory region is no part of what it stores.
_NVME_READ_ONLY = 3
_NVME = (
    (0, True, "its spare capacity is used up"),
    (1, False, "its temperature is out of bounds"),
    (2, True, "it has become unreliable by errors of the media or inside"),
    (_NVME_READ_ONLY, True, "its media is read-only"),
    (4, True, "the backup of its volatile memory has failed"),
    (5, False, "its persistent memory region is read-only or unreliable"),
)
_NVME_MILD = sum(1 << bit for bit, fails, _ in _NVME if not fails)
# SCSI additional sense codes with their qualifiers: too hot, and an enclosure that is degraded.
_SCSI_MILD = ((0x0B, 0x01), (0x0B, 0x02))


@dataclass(frozen=True)
class Health:
    """A disk's judgement of itself, with its words where it says more than that it is well.

    ``read_only`` says that it takes no more writes, of which the kernel need not know.
    """

    state: Literal["ok", "failing", "unknown"]
    words: tuple[str, ...] = ()
    read_only: bool = False


UNKNOWN = Health("unknown")


def ask(device: str) -> Health:
    """Ask a disk for its health; ``unknown`` where it, or smartctl, does not answer."""
    try:
        done = run(["smartctl", "--json", "--info", "--health", device], ok=_ANY, timeout=_PATIENCE)
    except CommandError:
        return UNKNOWN
    return parse(done.stdout)


def parse(output: str) -> Health:
    """The health in the output of ``smartctl --json --health``."""
    try:
        said = json.loads(output)
    except ValueError:
        return UNKNOWN
    status = _object(said, "smart_status")
    if not isinstance(status.get("passed"), bool):
        return UNKNOWN
    warning = _object(status, "nvme").get("value")
    if warning is None:
        warning = _object(said, "nvme_smart_health_information_log").get("critical_warning")
    if isinstance(warning, int):
        return _of_nvme(warning)
    if status["passed"]:
        return Health("ok")
    return _of_scsi(_object(status, "scsi")) or Health(
        "failing", ("its self-assessment has failed", *_attributes(said))
    )


def _object(value: object, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _of_nvme(warning: int) -> Health:
    words = tuple(text for bit, _, text in _NVME if warning >> bit & 1)
    if unknown := warning & ~((1 << len(_NVME)) - 1):
        words += (f"critical warning {unknown:#x}",)
    return Health("failing" if warning & ~_NVME_MILD else "ok", words, bool(warning >> _NVME_READ_ONLY & 1))


def _of_scsi(status: Mapping[str, Any]) -> Health | None:
    text = status.get("ie_string")
    if not isinstance(text, str):
        return None
    mild = (status.get("asc"), status.get("ascq")) in _SCSI_MILD
    return Health("ok" if mild else "failing", (text,))


def _attributes(said: object) -> tuple[str, ...]:
    """The attributes of an ATA disk that are below their thresholds now."""
    table = _object(said, "ata_smart_attributes").get("table")
    rows = [row for row in table if isinstance(row, dict)] if isinstance(table, list) else []
    return tuple(f"{row.get('name')} is below its threshold" for row in rows if row.get("when_failed") == "now")


@dataclass(frozen=True)
class Security:
    """State of an ATA disk's Security feature set: whether a password is set, and whether it takes none now."""

    enabled: bool
    frozen: bool


def security(device: str) -> Security | None:
    """Ask a disk for its Security feature set; ``None`` where it has none, or nobody answers."""
    try:
        done = run(["smartctl", "--json", "--get=security", device], ok=_ANY, timeout=_PATIENCE)
    except CommandError:
        return None
    return parse_security(done.stdout)


def parse_security(output: str) -> Security | None:
    """The state in the output of ``smartctl --json --get=security``."""
    try:
        found = _object(json.loads(output), "ata_security")
    except ValueError:
        return None
    enabled, frozen = found.get("enabled"), found.get("frozen")
    return Security(enabled, frozen) if isinstance(enabled, bool) and isinstance(frozen, bool) else None

# SPDX-License-Identifier: Apache-2.0
"""Identifiers that are decided, not discovered.

Each is derived from one random seed and the name of what it identifies: unique to the run, and the same every time
the same run is planned.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

_NONE = str(uuid.UUID(int=0))


def as_kind(identifier: str, kind: str) -> str:
    """An identifier that was decided, in the form of a kind of file system that may be another one than decided for.

    vfat has a volume id of four bytes, such as ``ABCD-0123``; all others have a UUID.
    """
    digits = identifier.replace("-", "")
    if kind == "vfat":
        digits = digits[-8:].upper()
        return f"{digits[:4]}-{digits[4:]}"
    return str(uuid.UUID(digits.lower() if len(digits) == 32 else digits.lower() * 4))


@dataclass(frozen=True)
class Identifiers:
    """Source of the UUIDs of one run."""

    seed: uuid.UUID

    def _derived(self, what: str) -> uuid.UUID:
        return uuid.uuid5(self.seed, what)

    def guid(self, what: str) -> str:
        """A GPT disk or partition GUID, in capitals as the tools print it."""
        return str(self._derived(what)).upper()

    def array(self, name: str) -> str:
        """The UUID of an md array in the form that mdadm prints."""
        digits = self._derived(f"array {name}").hex
        return ":".join(digits[i : i + 8] for i in range(0, 32, 8))

    def filesystem(self, kind: str, device: str) -> str:
        """The UUID of a file system in the form blkid prints it; vfat has a volume id instead."""
        decided = str(self._derived(f"{kind} {device}"))
        return as_kind(decided, kind) if kind == "vfat" else decided


class NoIdentifiers(Identifiers):
    """For layouts of which only the sizes matter: everything has the same identifier."""

    def __init__(self) -> None:
        super().__init__(uuid.UUID(int=0))

    def guid(self, what: str) -> str:
        return _NONE

    def array(self, name: str) -> str:
        return _NONE

    def filesystem(self, kind: str, device: str) -> str:
        return _NONE

# SPDX-License-Identifier: Apache-2.0
"""Secure Boot as firmware and shim tell of it by their variables, read from efivarfs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bareon.errors import CommandError
from bareon.text import visible
from bareon.tools import efi
from bareon.tools.signature_list import Signatures, signatures

State = Literal["enabled", "disabled", "setup", "unsupported", "unknown"]
_SECURITY = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
_NONE = Signatures()
_SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"


@dataclass(frozen=True)
class Keys:
    """Secure Boot of a node: what may start, what may not, and what shim adds to either; ``reason`` of ``unknown``.

    ``sbat`` are the lines of the SBAT level, where shim has started this system and shows it. ``mok`` and ``mokx``
    are its own lists.
    """

    state: State
    db: Signatures = _NONE
    dbx: Signatures = _NONE
    mok: Signatures = _NONE
    mokx: Signatures = _NONE
    sbat: tuple[str, ...] = ()
    reason: str = ""


def read(place: str = efi.VARIABLES) -> Keys:
    """Secure Boot of this node; ``unknown`` with the reason where its variables cannot be read."""
    try:
        with efi.variables(place):
            return _read(place)
    except (CommandError, OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Keys("unknown", reason=visible(f"its variables cannot be read: {reason}"))


def _read(place: str) -> Keys:
    enabled, setup = (efi.variable(name, efi.GLOBAL, place) for name in ("SecureBoot", "SetupMode"))
    state: State = "disabled"
    if not enabled:
        state = "unsupported"
    elif setup and setup[0]:
        state = "setup"
    elif enabled[0]:
        state = "enabled"
    lists = (("db", _SECURITY), ("dbx", _SECURITY), ("MokListRT", _SHIM), ("MokListXRT", _SHIM))
    db, dbx, mok, mokx = (_list(name, vendor, place) for name, vendor in lists)
    return Keys(state, db, dbx, mok, mokx, sbat_lines(efi.variable("SbatLevelRT", _SHIM, place) or b""))


def _list(name: str, vendor: str, place: str) -> Signatures:
    try:
        return signatures(efi.variable(name, vendor, place) or b"")
    except ValueError as error:
        raise ValueError(f"{name} is {error}") from None


def sbat_lines(text: bytes) -> tuple[str, ...]:
    """The lines of an SBAT level, or of the ``.sbat`` section of a program: comma-separated values."""
    plain = text.partition(b"\0")[0].decode("ascii", errors="replace")
    return tuple(visible(line.strip()) for line in plain.splitlines() if line.strip())

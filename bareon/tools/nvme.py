# SPDX-License-Identifier: Apache-2.0
"""NVMe namespaces and their formatting: nvme(1) of nvme-cli, version 2.0 or later; NVM Express base specification."""

from __future__ import annotations

import json
from dataclasses import dataclass

from bareon.run import Command, run

PROGRAMS = ("nvme",)
_FORMAT_SUPPORTED = 1 << 1  # of OACS
_FORMATS_ALL, _ERASES_ALL = 1 << 0, 1 << 1  # of FNA
_USER_DATA_ERASE = 1
_PROTECTION = 0b111  # of DPS: the type of protection information
_EXTENDED = 1 << 4  # of FLBAS: metadata comes with the data


@dataclass(frozen=True)
class Namespace:
    """A namespace as far as a format concerns it.

    ``formats`` says that its controller knows the command at all, ``alone`` that it would format and erase no other
    namespace with it. ``lbaf`` is the number of its format of blocks; ``protected`` and ``extended`` say that its
    blocks have protection information, or metadata within.
    """

    formats: bool
    alone: bool
    lbaf: int
    protected: bool = False
    extended: bool = False


def namespace(device: str) -> Namespace:
    """Ask a namespace and its controller; a figure that is missing counts as the one that allows least.

    :raises CommandError: when one does not answer in that form.
    """
    oacs, fna = _asked("id-ctrl", device).read(lambda text: _figures(text, oacs=0, fna=_FORMATS_ALL))
    flbas, dps = _asked("id-ns", device).read(lambda text: _figures(text, flbas=_EXTENDED, dps=_PROTECTION))
    namespaces = _asked("list-ns", device).read(lambda text: len(json.loads(text).get("nsid_list", ())))
    return Namespace(
        formats=bool(oacs & _FORMAT_SUPPORTED),
        alone=namespaces == 1 or not fna & (_FORMATS_ALL | _ERASES_ALL),
        lbaf=(flbas & 0xF) | (flbas >> 5 & 0b11) << 4,
        protected=bool(dps & _PROTECTION),
        extended=bool(flbas & _EXTENDED),
    )


def _asked(what: str, device: str) -> Command:
    return run(["nvme", what, "--output-format=json", device])


def _figures(text: str, **least: int) -> list[int]:
    value = json.loads(text)
    return [int(value.get(key, figure)) for key, figure in least.items()]


def format_namespace(device: str, lbaf: int, timeout: float) -> None:
    """Format a namespace with its present format of blocks, and erase all user data of it.

    :param timeout: seconds.
    :raises CommandError: when it does not work.
    """
    patience = f"--timeout={int(timeout * 1000)}"  # milliseconds
    argv = ["nvme", "format", f"--lbaf={lbaf}", f"--ses={_USER_DATA_ERASE}", "--force", patience, device]
    run(argv, timeout=timeout + 60)

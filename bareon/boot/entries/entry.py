# SPDX-License-Identifier: Apache-2.0
"""An entry of a boot loader's menu, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BootEntry:
    """What one entry starts.

    ``kernel`` and ``initrds`` are paths as the boot loader knows them, on the file system with the UUID
    ``filesystem``; where that is empty, on the one of ``/boot``. ``kernel`` is empty where none is started.
    ``source`` is the file that it stands in, ``name`` the one by which a default is chosen. It is not ``certain``
    where the file has commands that might choose or start something else, and were not carried out. ``hypervisor`` is
    what is started in front of the kernel, by the multiboot protocol.
    """

    title: str
    source: str
    kernel: str = ""
    initrds: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    filesystem: str = ""
    name: str = ""
    certain: bool = True
    hypervisor: str = ""

    def value(self, argument: str) -> str | None:
        """The value that a kernel takes of an argument: the last one; ``None`` without any."""
        start = f"{argument}="
        return next((x.removeprefix(start) for x in reversed(self.arguments) if x.startswith(start)), None)

# SPDX-License-Identifier: Apache-2.0
"""The search for containers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from bareon import tools
from bareon.storage.kind import UNKNOWN, Found, Look, Search, Signature
from bareon.storage.luks.found import ContainerFacts
from bareon.storage.luks.mapper import MAPPER, Opened, called, open_now
from bareon.storage.luks.step import PROGRAMS, SIGNATURE
from bareon.storage.luks.wanted import NAME


class ContainerSearch(Search):
    """Containers by their signatures, and what is open by the device mapper. None is opened: nobody has a key."""

    def __init__(self, look: Look) -> None:
        self._look = look
        # By the kernel's name of what each lies on, and the name that it is open as: one may be open more than once.
        self._seen: dict[tuple[str, str], ContainerFacts] = {}

    def go_on(self, *, sure: bool) -> bool:
        running = open_now()
        known = {below for below, _ in self._seen}
        closed = {tools.device.kernel_name(x): x for x in self._look.devices(SIGNATURE)}
        new = {below: device for below, device in closed.items() if below not in known}
        new |= {opened.below: called(opened.below) for opened in running if opened.below not in {*closed, *known}}
        for below, device in new.items():
            of_it = [x for x in running if x.below == below]
            self._seen |= {(below, x.name): self._facts(device, x) for x in of_it}
            if not of_it:
                self._seen[below, ""] = self._facts(device, None)
        return bool(new)

    def _facts(self, device: str, opened: Opened | None) -> ContainerFacts:
        """A container on ``device``, and what is open of it."""
        signature = self._look.content(device)
        luks = signature if signature and signature.type == SIGNATURE else Signature(SIGNATURE)
        header = _header(device) if luks.uuid else None
        if opened is None:
            # A label may be any text, and this becomes a path.
            name = luks.label if luks.label and re.fullmatch(NAME, luks.label) else f"luks-{luks.uuid}"
            form = header.format if header else "damaged"
            return ContainerFacts(
                *(name, form, (device,), "", luks.uuid, luks.label),
                cipher=header.cipher if header else None,
                content=UNKNOWN,
            )
        content = self._look.content(opened.kernel)
        self._look.offer(str(MAPPER / opened.name), content)
        return ContainerFacts(
            *(opened.name, opened.format, (device,), "", luks.uuid, luks.label, header.cipher if header else None),
            device=opened.kernel,
            size=tools.lsblk.size(opened.kernel),
            content=content,
        )

    def found(self) -> Sequence[ContainerFacts]:
        names = Counter(x.name for x in self._seen.values())
        found = []
        for x in self._seen.values():
            alias = str(MAPPER / (x.name if names[x.name] == 1 or x.running else f"luks-{x.uuid}"))
            if x.device:
                self._look.name(x.device, alias)
            found.append(replace(x, alias=alias, members=tuple(map(self._look.name_of, x.members))))
        return found

    def as_left(self, found: Sequence[Found]) -> Sequence[Found]:
        running = {opened.name for opened in open_now()}
        return [x for x in found if isinstance(x, ContainerFacts) and (x.name in running or x.format != "plain")]


def _header(device: str) -> tools.cryptsetup.Header | None:
    if tools.device.missing(PROGRAMS):  # what is closed may go unread: there is nothing to stop
        return tools.cryptsetup.Header("luks")
    return tools.cryptsetup.header(device)

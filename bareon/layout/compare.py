# SPDX-License-Identifier: Apache-2.0
"""Comparison of the wanted with the found: the differences, or the layout with all that is there taken over."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from bareon.errors import DisksDiffer
from bareon.layout.stack import on_disks
from bareon.model.layout import Layout
from bareon.model.node import NodeFacts
from bareon.storage import gpt
from bareon.storage.kind import UNKNOWN, Device, Found, Policy, Signature, Structure

F = TypeVar("F", bound=Found)
D = TypeVar("D", bound=Device)


def adopt(layout: Layout, node: NodeFacts, *, make: bool, copy: bool = False) -> tuple[Layout, tuple[str, ...]]:
    """The wanted layout with the identifiers that are there, everything kept, and warnings.

    :param make: whether file systems with ``keep_data: false`` are to be made anew.
    :param copy: whether images are to be copied; those that hold a whole file system replace what is there.
    :raises DisksDiffer: listing every difference.
    """
    comparison = _Comparison(layout, node, make, copy)
    if differences := list(comparison.all_differences()):
        raise DisksDiffer(differences, layout)
    return comparison.all_adopted(), tuple(comparison.warnings)


@dataclass(frozen=True)
class _Comparison:
    """A :class:`bareon.storage.kind.Comparison` of a whole layout."""

    layout: Layout
    node: NodeFacts
    make: bool
    copy: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def policy(self) -> Policy:
        return self.layout.policy

    def warn(self, words: str) -> None:
        self.warnings.append(words)

    def found(self, form: type[F], *, everywhere: bool = False) -> list[F]:
        there = self.node.structures if everywhere else self._here
        # What cannot be looked at is taken to be as it is described, until it is used.
        return [x for x in (*there, *(structure.found() for structure in self._hidden)) if isinstance(x, form)]

    def differences(self, device: Device, found: Signature | None) -> Iterator[str]:
        if device.content and not self._is_hidden(device, found):
            yield from device.content.differences(found, self)

    def adopted(self, device: D, found: Signature | None) -> D:
        there = UNKNOWN if self._is_hidden(device, found) else found
        content = device.content.adopted(there, self) if device.content else None
        return replace(device, content=content, decision=content.decision if content else "keep")

    def all_differences(self) -> Iterator[str]:
        """All differences from the layout, bottom first."""
        disks = {disk.device: disk for disk in self.node.disks}
        for disk in self.layout.disks:
            yield from gpt.differences(disk, disks[disk.device], self)
        for aggregate in self.layout.aggregates:
            yield from aggregate.differences(self)
        yield from self._unasked()

    def all_adopted(self) -> Layout:
        """The layout with what is there. There are no differences."""
        disks = {disk.device: disk for disk in self.node.disks}
        return replace(
            self.layout,
            disks=tuple(gpt.adopted(disk, disks[disk.device], self) for disk in self.layout.disks),
            aggregates=tuple(aggregate.adopted(self) for aggregate in self.layout.aggregates),
        )

    @functools.cached_property
    def _hidden(self) -> tuple[Structure, ...]:
        """The wanted structures that lie on devices that cannot be looked at, or on each other."""
        devices = {device for x in self.node.structures for device, content in x.offers if content == UNKNOWN}
        found = []
        for structure in self.layout.structures():
            seen = any(structure.means(x) for x in self.node.structures)
            if devices.issuperset(structure.members) and not seen:
                found.append(structure)
                devices |= {device.device for device in structure.devices}
        return tuple(found)

    def _is_hidden(self, device: Device, found: Signature | None) -> bool:
        return found == UNKNOWN or any(device in structure.devices for structure in self._hidden)

    @functools.cached_property
    def _here(self) -> list[Found]:
        return on_disks(self.node, {disk.device for disk in self.layout.disks})

    def _unasked(self) -> Iterator[str]:
        """Differences: found structures that the layout does not have. They may reach to other disks."""
        wanted = list(self.layout.structures())
        for found in self._here:
            if not any(structure.means(found) for structure in wanted):
                on = ", ".join(sorted(found.stands_on)) or "none"
                yield f"{found.title}: expected none, found one on {on}"

# SPDX-License-Identifier: Apache-2.0
"""The step that asks whether Secure Boot will let a node start what is deployed: before the first write and after."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bareon.boot.disks import BootDisk
from bareon.boot.installed import own_kernels
from bareon.boot.platform import Platform
from bareon.boot.secure_boot import Loader, refusal
from bareon.boot.signed import Shipped, shipped
from bareon.errors import ActionFailed, UnsuitableNode
from bareon.model.image import Early
from bareon.model.layout import Layout
from bareon.model.node import SecureBootFacts
from bareon.run import missing
from bareon.step import Outcome, Progress, Step
from bareon.system.tree import Tree, mounted_tree
from bareon.tools import authenticode, mount, secure_boot
from bareon.tools.pe import LARGEST

LOG = logging.getLogger(__name__)

REMEDY = "or turn Secure Boot off in the firmware"


def concerns(facts: SecureBootFacts | None) -> bool:
    """True where Secure Boot is on, or could be turned on with the keys that are there."""
    if facts is None:
        return False
    return facts.state == "enabled" or (facts.state in ("disabled", "setup") and bool(facts.db or facts.db_hashes))


@dataclass(frozen=True)
class VerifyLoader(Step):
    """Compare the boot loader with the keys of the firmware; ``early`` brings files of the image beforehand.

    Where Secure Boot is off (``enabled`` is false), what it would not start is a warning.
    """

    image: str
    layout: Layout
    disks: tuple[BootDisk, ...]
    enabled: bool
    early: Early | None = None

    @property
    def description(self) -> str:
        would = "lets" if self.enabled else "would let"
        return f"See whether Secure Boot {would} the boot loader of image {self.image!r} start"

    def preflight(self) -> Sequence[str]:
        """Compare the files of the image that will be installed, where they can be had by now."""
        if self.early is None:
            return []
        if lacking := self._lacking():
            return [lacking]
        platform = self.disks[0].platform
        places = shipped(platform, self.early.folders)
        found = self.early([path for place in places for path in (place.shim, place.grub)])
        reason = _of_image(found, places, platform)
        return [self._told(f"image {self.image!r}: {reason}", UnsuitableNode)] if reason else []

    def run(self, progress: Progress) -> Outcome:
        """Compare what was installed, and the kernel that it starts."""
        if self._lacking():
            return {}
        with mounted_tree(self.layout.tree(self.image), writing=()) as tree:
            there = own_kernels(tree, self.image)
            kernel = _loader(tree, f"/boot/{there[0].name}") if there else None
        found = (reason for disk in self.disks if (reason := installed(disk, kernel)))
        told = [self._told(f"image {self.image!r}: {reason}", ActionFailed) for reason in dict.fromkeys(found)]
        for warning in told:
            LOG.warning("%s", warning)
        return {"warnings": "; ".join(told)} if told else {}

    def _lacking(self) -> str | None:
        """What to say where a mere warning is not worth that a run stops for a program."""
        if self.enabled or not missing(authenticode.PROGRAMS):
            return None
        return "openssl is not installed: what Secure Boot would start is not looked at"

    def _told(self, reason: str, kind: type[UnsuitableNode] | type[ActionFailed]) -> str:
        """What to warn of; where Secure Boot is on, it is an error."""
        if self.enabled:
            message = f"Secure Boot is on, and the node would not start: {reason}"
            raise kind(f"{message}; bring an image with other signed loaders, add a key to the firmware, {REMEDY}")
        return f"Secure Boot is off; with it on, the node would not start: {reason}"


def check_unshimmed(tree: Tree, path: str, image: str) -> None:
    """See that firmware itself, without shim, starts a program of an image with Secure Boot on.

    :raises ActionFailed: when it does not.
    """
    loader = _loader(tree, path)
    reason = refusal(secure_boot.read(), loader) if loader else f"there is no {path}"
    if reason:
        raise ActionFailed(
            f"Secure Boot is on, and the node would not start: image {image!r}: {reason}; systemd-boot has firmware"
            f" alone say what starts: add a key to it, {REMEDY}"
        )


def _of_image(found: Mapping[str, bytes], places: Sequence[Shipped], platform: Platform) -> str | None:
    """Why what an image brings would not start."""
    nameless = ""
    for place in places:
        shim, grub = (Loader(x, found[x]) if x in found else None for x in (place.shim, place.grub))
        if grub and place.folder(grub.data, "own"):
            return refusal(secure_boot.read(), shim or grub, grub if shim else None)
        nameless = nameless or (grub.path if grub else "")
    if nameless:
        return (
            f"{nameless} names no folder of its own below EFI; one that is put together instead is signed by nobody"
        )
    return f"it has no {platform.signed_grub}, and a GRUB that is put together on the node is signed by nobody"


def installed(disk: BootDisk, kernel: Loader | None = None) -> str | None:
    """Why what lies on the EFI system partition of a disk would not start from its removable path, or the kernel."""
    assert disk.esp
    with (
        tempfile.TemporaryDirectory(prefix="bareon-") as place,
        mount.mounted(disk.esp.device, place, kind="vfat", options="ro"),
    ):
        tree = Tree(place, name="the EFI system partition")
        first, grub = (_loader(tree, f"/EFI/BOOT/{x}") for x in (disk.platform.removable, disk.platform.grub))
    if first is None:
        return f"{disk.esp.device} has no EFI/BOOT/{disk.platform.removable}"
    reason = refusal(secure_boot.read(), first, grub, kernel)
    return f"on {disk.esp.device}, {reason}" if reason else None


def _loader(tree: Tree, path: str) -> Loader | None:
    content = tree.content(path, LARGEST)
    return None if content is None else Loader(path, content)

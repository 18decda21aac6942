# SPDX-License-Identifier: Apache-2.0
"""Secure Boot with several images: shim and GRUB of one of them start the kernels of all, or what is missing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bareon.boot.disks import BootDisk
from bareon.boot.platform import Platform
from bareon.boot.secure_boot import Loader, Verify, refusal, verify
from bareon.boot.signed import Shipped, Signed, folders_of, shipped, signed
from bareon.boot.verification import REMEDY, installed
from bareon.errors import ActionFailed, UnsuitableNode
from bareon.model.image import Early
from bareon.step import Outcome, Progress, Step
from bareon.system.family import kernel_starts
from bareon.system.kernel import by_version, is_odd
from bareon.system.module import module_folders
from bareon.system.tree import Tree
from bareon.tools import secure_boot
from bareon.tools.pe import LARGEST
from bareon.tools.secure_boot import Keys

LOG = logging.getLogger(__name__)

_LOADERS = f"have one of the images bring a shim that the firmware starts and a GRUB that this shim starts, {REMEDY}"
_KERNELS = (
    "bring kernels that are signed under one of these and not revoked, make the certificate of the others known to"
    f" shim as the owner's (mokutil --import), {REMEDY}"
)


@dataclass(frozen=True)
class Brought:
    """What an image brings: its signed loaders, and those of its kernels of which one will boot, the first first."""

    image: str
    shim: Loader | None = None
    grub: Loader | None = None
    kernels: tuple[Loader, ...] = ()


@dataclass(frozen=True)
class Chain:
    """The image whose shim and GRUB start the menu, if one has such, and why not all would start by that."""

    image: str | None
    missing: tuple[str, ...]

    @property
    def refusal(self) -> str | None:
        """What is missing, and what would mend it."""
        if not self.missing:
            return None
        by = f"with the shim and the GRUB of image {self.image!r}, " if self.image else ""
        what = "not all of the images would start" if self.image else "none of the images would start"
        remedy = _KERNELS if self.image else _LOADERS
        return f"Secure Boot is on, and {what}: {by}{'; '.join(self.missing)}; {remedy}"


def chain(keys: Keys, images: Sequence[Brought], platform: Platform, verify: Verify = verify) -> Chain:
    """Whose loaders start the kernels of all images; without such, whose come next to it.

    :param images: the best one for it first.
    """
    lacking = {x.image: _loaders(keys, x, platform, verify) for x in images}
    able = [x for x in images if not lacking[x.image]]
    if not able:
        return Chain(None, tuple(f"image {name!r} {reason}" for name, reason in lacking.items()))
    found = [Chain(x.image, tuple(_kernels(keys, x, images, verify))) for x in able]
    return min(found, key=lambda x: len(x.missing))


def _loaders(keys: Keys, brought: Brought, platform: Platform, verify: Verify) -> str | None:
    """Why the loaders of an image would not start, in words that follow its name."""
    if not brought.grub and not brought.shim:
        return f"ships no shim (such as {platform.signed_shim}) and no signed GRUB (such as {platform.signed_grub})"
    if not brought.grub:
        return f"ships no signed GRUB (such as {platform.signed_grub})"
    if not brought.shim:
        return f"ships no shim beside {brought.grub.path} (such as {platform.signed_shim})"
    reason = refusal(keys, brought.shim, brought.grub, verify=verify)
    return f"would not start: {reason}" if reason else None


def _kernels(keys: Keys, loaders: Brought, images: Sequence[Brought], verify: Verify) -> list[str]:
    """Why the loaders of one image do not start the kernel of each; of an image without one nothing is said."""
    assert loaders.shim
    missing = []
    for image in images:
        reasons = [refusal(keys, loaders.shim, loaders.grub, kernel, verify) for kernel in image.kernels]
        if reasons and all(reasons):
            missing.append(f"the kernel of image {image.image!r}: {reasons[0]}")
    return missing


def early_brought(image: str, early: Early, platform: Platform) -> Brought:
    """What an image will bring: of its kernels the newest ones, if each of them has the name of its modules."""
    places = shipped(platform, early.folders)
    newest = sorted((x for x in module_folders(early) if not is_odd(x)), key=by_version, reverse=True)[:3]
    names = [[f"/boot/{start}{x}" for start in kernel_starts()] for x in newest]
    found = early([y for x in places for y in (x.shim, x.grub)] + [y for x in names for y in x])
    kernels = [Loader(y, found[y]) for x in names for y in [next((y for y in x if y in found), "")] if y]
    return brought(image, found, places, kernels if len(kernels) == len(names) else [])


def brought(image: str, found: Mapping[str, bytes], places: Sequence[Shipped], kernels: Sequence[Loader]) -> Brought:
    """What an image brings, of the files that were found in it, by their paths; ``places`` are where they may be.

    A GRUB counts that has a folder of its own below ``EFI``, as where bareon puts it.
    """
    shim = None
    for place in places:
        shim = shim or (Loader(place.shim, found[place.shim]) if place.shim in found else None)
        if place.grub in found and place.folder(found[place.grub], "own"):
            beside = Loader(place.shim, found[place.shim]) if place.shim in found else None
            return Brought(image, beside, Loader(place.grub, found[place.grub]), tuple(kernels))
    return Brought(image, shim, None, tuple(kernels))


def common(trees: Mapping[str, Tree], kernels: Mapping[str, str], platform: Platform) -> Signed:
    """The signed loaders of one of several images in their trees which start the kernels of all.

    :param kernels: the path from ``/boot`` of the kernel that boots, by the images, the best one for it first.
    :raises ActionFailed: when no image has such.
    """
    images = [_installed(name, trees[name], platform, kernel) for name, kernel in kernels.items()]
    chosen = chain(secure_boot.read(), images, platform)
    found = signed(trees[chosen.image], platform) if chosen.image else None
    if chosen.refusal or not found:
        raise ActionFailed(chosen.refusal or "the signed loaders are gone")
    LOG.info("the shim and the GRUB of image %s start all of the images", chosen.image)
    return found


def _installed(image: str, tree: Tree, platform: Platform, kernel: str) -> Brought:
    places = shipped(platform, folders_of(tree))
    found = {y: data for x in places for y in (x.shim, x.grub) if (data := tree.content(y))}
    path = f"/boot/{kernel}"
    data = tree.content(path, LARGEST)
    return brought(image, found, places, [Loader(path, data)] if data else [])


@dataclass(frozen=True)
class VerifyChain(Step):
    """Compare the loaders and kernels of several images with the keys of the firmware.

    ``images`` are those that can boot, the default one first; ``early`` brings files of them beforehand, where it can
    be had.
    """

    images: tuple[str, ...]
    early: Mapping[str, Early]
    disks: tuple[BootDisk, ...]

    @property
    def description(self) -> str:
        names = ", ".join(map(repr, self.images))
        return f"See whether Secure Boot lets one boot loader start images {names}"

    def preflight(self) -> None:
        """Compare what the images will bring, if all can be asked: else another one may have what is missing."""
        if len(self.early) < len(self.images):
            return
        platform = self.disks[0].platform
        images = [early_brought(name, self.early[name], platform) for name in self.images]
        if reason := chain(secure_boot.read(), images, platform).refusal:
            raise UnsuitableNode(reason)

    def run(self, progress: Progress) -> Outcome:
        """Compare the loaders that were installed; the kernels were compared before that."""
        for disk in self.disks:
            if reason := installed(disk):
                raise ActionFailed(f"Secure Boot is on, and the node would not start: {reason}; {_LOADERS}")
        return {}

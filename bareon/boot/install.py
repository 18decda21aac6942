# SPDX-License-Identifier: Apache-2.0
"""GRUB on each disk that the node boots from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bareon.boot import esp, nvram, signed
from bareon.boot.disks import BootDisk
from bareon.boot.signed import Signed
from bareon.errors import ActionFailed
from bareon.model.deployment import BootOrder
from bareon.sizes import MIB, human
from bareon.step import Outcome
from bareon.storage.filesystem import ESP_MOUNT, PlannedFilesystem
from bareon.system.tree import Tree, holder
from bareon.tools import grub, mount

PLACE = "/run/bareon/grub"
"""The folder of the ramdisk where an installation is put together."""

#: Bytes of all modules of GRUB for a platform: ten times what they have.
_LARGEST = 64 * MIB


@dataclass(frozen=True)
class Source:
    """What is installed. ``tree`` takes GRUB's files, in ``folder``, and its configuration comes to lie there.

    ``modules`` is the folder of GRUB's modules for the platform in the tree; without one they are the ramdisk's.
    ``signed``, which is to be there in place of a GRUB without a signature, needs none of them. ``loader`` is the
    folder below ``EFI`` on an EFI system partition.
    """

    tree: Tree
    folder: str
    modules: str = ""
    loader: str = "bareon"
    signed: Signed | None = None


def install(disks: Sequence[BootDisk], source: Source, order: BootOrder) -> Outcome:
    """Install GRUB on every disk by the ramdisk's ``grub-install``, with an NVRAM entry for each on UEFI.

    :raises ActionFailed: as :func:`install_loaders`.
    """
    loaders = install_loaders(disks, source)
    return nvram.remember(disks, loaders, order) if loaders else {}


def install_loaders(disks: Sequence[BootDisk], source: Source) -> list[str]:
    """Install GRUB on every disk, without a word to the firmware.

    :returns: the path of the loader on the EFI system partition of each disk, as firmware writes it; none for a BIOS.
    :raises ActionFailed: when the tree has links or special files where GRUB's are, which could lead anywhere.
    """
    loaders = []
    with _staged(source, disks[0].platform.grub_target) as (boot, modules):
        for disk in disks:
            if disk.esp:
                place = source.tree.folder(ESP_MOUNT)
                with _at_its_place(disk.esp, source.tree):
                    if source.modules or not source.signed:
                        grub.install_uefi(place, boot, modules=modules, loader=source.loader)
                    _place_signed(source, place, boot, disk.platform.grub_target)
                    loaders.append(esp.add_removable(place, disk.platform))
                    mount.write_back(place)
            else:
                grub.install_bios(disk.device, boot, modules=modules)
    return loaders


@contextlib.contextmanager
def _staged(source: Source, target: str) -> Iterator[tuple[str, str]]:
    """The folder to install below, with GRUB's own one in it, and that of the modules.

    GRUB's own one is called ``grub``, which ``grub-install`` insists on, whatever its name in the tree is: GRUB knows
    from where a folder was bound. That of the modules has no other one beside it from which ``grub-install`` of
    Debian and Ubuntu would take a signed GRUB, through any link.
    """
    tree, boot, modules = source.tree, f"{PLACE}/boot", source.modules or f"{grub.MODULES}/{target}"
    with contextlib.ExitStack() as stack:
        own = tree.folder(source.folder)
        if Path(own, "grubenv").is_symlink():  # to the EFI system partition, in images of Fedora and its kin
            tree.remove(f"{source.folder}/grubenv")
        tree.refuse_links(source.folder)
        stack.enter_context(_bound(own, f"{boot}/grub"))
        if source.modules:
            tree.refuse_links(modules)
            modules = stack.enter_context(_bound(tree.folder(modules), f"{PLACE}/modules"))
            if sum(path.stat().st_size for path in Path(modules).rglob("*")) > _LARGEST:
                raise ActionFailed(f"the modules of GRUB in the image have more than {human(_LARGEST)}")
        yield boot, modules


def _bound(folder: str, place: str) -> contextlib.AbstractContextManager[str]:
    Path(place).mkdir(parents=True, exist_ok=True)
    return mount.mounted(folder, place, kind="bind")


def _place_signed(source: Source, esp: str, boot: str, target: str) -> None:
    if source.signed:
        uuid = holder(source.folder, source.tree.mounts).uuid
        # Modules of another build, of an earlier deployment, must not be loaded.
        prefix = bool(source.modules) or not Path(boot, "grub", target).exists()
        text = signed.configuration(uuid, grub.relative(f"{boot}/grub"), prefix=prefix)
        signed.place(source.signed, esp, text)


def _at_its_place(esp: PlannedFilesystem, tree: Tree) -> contextlib.AbstractContextManager[object]:
    """Mount an EFI system partition where the system has it, unless it is one of the tree's file systems there."""
    if any((x.point, x.device) == (ESP_MOUNT, esp.device) for x in tree.mounts):
        return contextlib.nullcontext()
    return mount.mounted(esp.device, tree.outside(ESP_MOUNT), kind="vfat")

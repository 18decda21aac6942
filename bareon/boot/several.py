# SPDX-License-Identifier: Apache-2.0
"""More than one image on the node: one boot loader apart from all of them, on a partition of its own."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bareon.boot import at_hand, bareon_boot, info, nvram, other_systems
from bareon.boot.arguments import arguments, of_image
from bareon.boot.chain import common
from bareon.boot.deployed import check, check_system, root_words
from bareon.boot.disks import BootDisk
from bareon.boot.entries import grub_cfg
from bareon.boot.entries.entry import BootEntry
from bareon.boot.grub_defaults import defaults
from bareon.boot.info import Listed
from bareon.boot.install import Source, install_loaders
from bareon.boot.installed import check_processor, check_usr, own_kernels, release, warned
from bareon.boot.menu import FOLDER, Entry, configuration, environment, once, terminal
from bareon.boot.signed import Signed
from bareon.boot.single import parameters
from bareon.errors import ActionFailed, CommandError, UnsuitableNode
from bareon.model.deployment import BootOrder
from bareon.model.image import Image
from bareon.model.layout import Layout
from bareon.step import Outcome, Progress, Step
from bareon.storage.filesystem import Mount, Mounted, PlannedFilesystem
from bareon.system.initramfs import with_modules
from bareon.system.kernel import Kernel, kernels
from bareon.system.tree import Tree, holder, mounted_tree
from bareon.tools import grub, mount, udev

LOG = logging.getLogger(__name__)

ROOT = "/run/bareon"


@dataclass(frozen=True)
class Found:
    """A system that was found: ``entry`` boots its ``kernel``; ``settings`` are those of its ``/etc/default/grub``.

    ``place`` is where its root lies, for people. ``kernel`` is a path from ``/boot``. ``older`` is the next newest of
    its kernels, as ``bareon-boot refresh`` chooses it, with paths as the entry has them.
    """

    device: str
    uuid: str
    os_id: str | None
    name: str
    entry: Entry
    settings: Mapping[str, str]
    kernel: str
    place: str
    older: Kernel | None = None

    def listed(self, image: Image, number: int) -> Listed:
        """Its image as it is listed, with the number of its entry."""
        return Listed(image, number, self.os_id, f"{self.name} (on {self.place})", self.uuid)


@dataclass(frozen=True)
class InstallMultiboot(Step):
    """One GRUB with a menu of all images that hold a system, each with one entry.

    ``default`` is the image that boots; ``boot_info`` the path of the file that tells about all of them. With
    ``secure_boot`` the GRUB is a signed one of an image. ``document`` is left beside the menu.
    """

    images: tuple[Image, ...]
    default: str
    layout: Layout
    disks: tuple[BootDisk, ...]
    kernel_params: str
    boot_info: str
    boot_order: BootOrder = "first"
    secure_boot: bool = False
    document: str | None = None

    @property
    def description(self) -> str:
        names = ", ".join(repr(image.name) for image in self.images)
        on = ", ".join(disk.device for disk in self.disks)
        what = "shim and a signed GRUB of one image" if self.secure_boot else "GRUB"
        menu = f"Install {what} with a menu of images {names} on {on}, {self.default!r} by default"
        copies = f", a copy of the menu on each of {', '.join(self._menus)}" if len(self._menus) > 1 else ""
        return menu + copies + nvram.order_promise(self.disks, self.boot_order)

    def preflight(self) -> None:
        target = self.disks[0].platform.grub_target
        if not grub.has_modules(target):
            raise UnsuitableNode(f"the ramdisk has no GRUB for {target}, which several images need")
        if not Path(self.boot_info).parent.is_dir():
            raise UnsuitableNode(f"--boot_info_path: the folder of {self.boot_info} does not exist")

    def run(self, progress: Progress) -> Outcome:
        udev.settle()
        with contextlib.ExitStack() as stack:
            trees = {image.name: stack.enter_context(self._mounted(i)) for i, image in enumerate(self.images)}
            systems = {name: self._found(name, trees) for name in trees}
            if not systems[self.default]:
                raise ActionFailed(
                    f"image {self.default!r} has no kernel in /boot, and it is the one to boot by default"
                )
            starting = {name: found.kernel for name, found in systems.items() if found}
            for name, kernel in starting.items():
                check_processor(trees[name], kernel, self.disks[0].platform, name)
            first = sorted(starting, key=lambda x: x != self.default)
            signed = self._signed(trees, {x: starting[x] for x in first})
            _warn_of_one_kernel({name: found.entry for name, found in systems.items() if found})
            places = {disk: stack.enter_context(self._menu_mounted(disk)) for disk in self._menus}
            with other_systems.esps_mounted(self.disks, {x.device for tree in trees.values() for x in tree.mounts}):
                outcome = other_systems.probed({name: found.device for name, found in systems.items() if found})
            listed = self._listed(systems)
            outcome |= self._install(places, systems, listed, signed)
            for x in listed:
                if x.number is not None:
                    bareon_boot.install(trees[x.image.name], self._uuids)
        content = info.document(listed, self.default, self._uuids[0])
        info.save(content, self.boot_info)
        if utilities := [x.image.name for x in listed if x.number is None]:
            LOG.warning("images without a system, not in the boot menu: %s", ", ".join(utilities))
            outcome["not_bootable"] = ", ".join(utilities)
        copies = {"menu_copies": ", ".join(self._menus)} if len(self._menus) > 1 else {}
        return {"menu": f"{len(content['elements'])} of {len(listed)} images", **copies, **outcome}

    @contextlib.contextmanager
    def starting(self) -> Iterator[tuple[BootEntry, Tree]]:
        """The entry that boots by default, as the menu on the first disk has it, and the tree of that image.

        :raises ActionFailed: when it cannot be read.
        """
        with self._menu_mounted(next(iter(self._menus)), writing=()) as menu:
            entry = grub_cfg.default(menu, f"{FOLDER}/grub.cfg", "efi" if self.disks[0].esp else "pc")
        number = [x.name for x in self.images].index(self.default)
        with self._mounted(number, writing=()) as tree:
            yield entry, tree

    @property
    def _menus(self) -> Mapping[str, PlannedFilesystem]:
        return self.layout.menus

    @property
    def _uuids(self) -> list[str]:
        """The UUIDs of the multiboot partitions."""
        return [partition.uuid for partition in self._menus.values()]

    def _menu_mounted(
        self, disk: str, writing: Sequence[str] | None = None
    ) -> contextlib.AbstractContextManager[Tree]:
        number = list(self._menus).index(disk)
        called = f"the multiboot partition of {disk}" if len(self._menus) > 1 else "the multiboot partition"
        mounts = [Mounted(self._menus[disk], Mount("/"))]
        return mounted_tree(mounts, root=f"{ROOT}/multiboot/{number}", writing=writing, name=called)

    def _mounted(self, number: int, writing: Sequence[str] | None = None) -> contextlib.AbstractContextManager[Tree]:
        """The volumes of an image, each mounted on a folder of its own: os-prober is quick with mounted ones."""
        tree = self.layout.tree(self.images[number].name)
        return mounted_tree(tree, root=f"{ROOT}/images/{number}", writing=writing)

    def _found(self, name: str, trees: Mapping[str, Tree]) -> Found | None:
        return find(name, trees[name], self.layout, self.kernel_params, _kernels_of_others(name, trees))

    def _listed(self, systems: Mapping[str, Found | None]) -> list[Listed]:
        """The images in the order of the input; those that can boot are numbered as the menu will be."""
        listed = []
        number = 0
        for image in self.images:
            if found := systems[image.name]:
                listed.append(found.listed(image, number))
                number += 1
            else:
                listed.append(Listed(image))
        return listed

    def _signed(self, trees: Mapping[str, Tree], kernels: Mapping[str, str]) -> Signed | None:
        return common(trees, kernels, self.disks[0].platform) if self.secure_boot else None

    def _install(
        self,
        places: Mapping[str, Tree],
        systems: Mapping[str, Found | None],
        listed: Sequence[Listed],
        signed: Signed | None = None,
    ) -> Outcome:
        """GRUB and its menu on each of the multiboot partitions, by their disks, the menu last.

        A disk starts the menu that it has itself, so that it needs no other one; one without starts the first.
        """
        text = self._menu(systems, listed)
        loaders: dict[str, str] = {}
        for device, tree in places.items():
            first = device == next(iter(places))
            disks = [x for x in self.disks if x.device == device or (first and x.device not in places)]
            found = _reporting_room(tree, disks, signed)
            loaders |= zip([x.device for x in disks], found, strict=False)  # none for a BIOS
            tree.write("/bareon-boot", bareon_boot.script(self._uuids), 0o755)
            if len(places) > 1:
                tree.write(f"{FOLDER}/bareon-copies", "".join(f"{uuid}\n" for uuid in self._uuids))
            elif tree.is_file(f"{FOLDER}/bareon-copies"):
                tree.remove(f"{FOLDER}/bareon-copies")
            tree.write(f"{FOLDER}/grubenv", environment())
            tree.write(f"{FOLDER}/bareon-images", info.table(listed))
            at_hand.leave(tree, self.document)
            tree.write(f"{FOLDER}/grub.cfg", text)
            mount.write_back(tree.root)
        return nvram.remember(self.disks, [loaders[x.device] for x in self.disks], self.boot_order) if loaders else {}

    def _menu(self, systems: Mapping[str, Found | None], listed: Sequence[Listed]) -> str:
        bootable = [x for x in listed if x.number is not None]
        entries = [replace(_sure(systems[x.image.name]).entry, title=x.title) for x in bootable]
        older = {
            x.number or 0: with_older_kernel(entry, kernel)
            for x, entry in zip(bootable, entries, strict=True)
            if (kernel := _sure(systems[x.image.name]).older)
        }
        first = next(x.number or 0 for x in bootable if x.image.name == self.default)
        settings = _sure(systems[self.default]).settings
        timeout = settings.get("GRUB_TIMEOUT", "")
        return configuration(
            entries,
            [*once(self._uuids if len(self._menus) > 1 else (), signed=self.secure_boot), *terminal(settings)],
            default=first,
            timeout=int(timeout) if re.fullmatch("[0-9]{1,4}", timeout) else 5,
            older=older,
            signed=self.secure_boot,
        )


def find(name: str, tree: Tree, layout: Layout, kernel_params: str, others: Collection[str] = ()) -> Found | None:
    """The system of an image in its tree, with the newest of its own kernels; ``None`` where there is none.

    :param others: the paths of kernels on the file system of its ``/boot`` that belong to other images.
    """
    root = tree.mounts[0]
    if root.point != "/":
        return None
    boot = holder("/boot", tree.mounts)
    there = own_kernels(tree, name, others)
    if not there:
        return None
    check_system(tree, name, there)
    check_usr(tree, name, there[0])
    settings, about, brought = defaults(tree), release(tree), of_image(tree, there[0])
    newest = there[0].from_top(boot)
    entry = Entry(
        name,
        newest.image,
        newest.initrd,
        boot.uuid,
        arguments(
            root_words(root, layout, initramfs=there[0].initrd is not None),
            *(brought.words, root, parameters(kernel_params, tree, layout, name)),
        ),
        layout.system(boot.filesystem).grub_modules,
    )
    warned(name, [*brought.warnings, *check(entry.read("the menu"), tree, layout, name)])
    older = next((x for x in there[1:] if x.initrd or not there[0].initrd), None)
    called = about.get("PRETTY_NAME") or name
    inside = [f"subvolume {x}" for x in (root.mount.subvolume,) if x]
    more = (there[0].name, ", ".join([root.device, *inside]), older and older.from_top(boot))
    return Found(root.device, root.uuid, about.get("ID"), called, entry, settings, *more)


def _kernels_of_others(name: str, trees: Mapping[str, Tree]) -> set[str]:
    """The paths of kernels on the file system of an image's ``/boot`` that have their modules in another image."""
    systems = {x: tree for x, tree in trees.items() if tree.mounts[0].point == "/"}
    boots = {x: holder("/boot", tree.mounts).place for x, tree in systems.items()}
    return {
        kernel.image
        for x, tree in systems.items()
        if x != name and boots[x] == boots[name]
        for kernel in kernels(tree)
        if kernel.release in with_modules(tree)
    }


def _warn_of_one_kernel(entries: Mapping[str, Entry]) -> None:
    """Warn of images with one kernel file on a common ``/boot``, and so with one initramfs."""
    images: dict[tuple[str, str], list[str]] = {}
    for name, entry in entries.items():
        images.setdefault((entry.uuid, entry.kernel), []).append(name)
    for (_, kernel), names in images.items():
        if len(names) > 1:
            LOG.warning(
                "images %s share %s and its initramfs, those of the first of them; give each its own /boot if they"
                " differ",
                *(", ".join(names), kernel),
            )


def with_older_kernel(entry: Entry, kernel: Kernel) -> Entry:
    title = f"{entry.title}, older kernel {kernel.release}"
    return replace(entry, title=title, kernel=kernel.image, initrd=kernel.initrd)


def _sure(found: Found | None) -> Found:
    assert found
    return found


def _reporting_room(tree: Tree, disks: Sequence[BootDisk], signed: Signed | None) -> list[str]:
    """Install GRUB; if it fails because the partition is full, the error says so."""
    loader = signed.folder if signed else "bareon"
    try:
        return install_loaders(disks, Source(tree, FOLDER, loader=loader, signed=signed)) if disks else []
    except CommandError as error:
        if mount.lacks(tree.root):
            raise ActionFailed(f"{tree.name} is full") from error
        raise

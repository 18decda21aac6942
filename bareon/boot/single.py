# SPDX-License-Identifier: Apache-2.0
"""One image on the node: its own GRUB or systemd-boot boots it, or the ramdisk's GRUB where it brings neither."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from bareon.boot import bareon_boot, deployed, esp, esp_copies, esp_room, grub_probe, systemd_boot
from bareon.boot.arguments import Parameters, arguments, of_image
from bareon.boot.deployed import check_system, root_words
from bareon.boot.disks import BootDisk
from bareon.boot.entries import bls, grub_cfg
from bareon.boot.entries.entry import BootEntry
from bareon.boot.grub_defaults import defaults, with_kernel_params
from bareon.boot.install import Source, install
from bareon.boot.installed import check_processor, check_usr, own_kernels, warned
from bareon.boot.menu import Entry, configuration, terminal
from bareon.boot.nvram import order_promise
from bareon.boot.signed import signed
from bareon.boot.verification import check_unshimmed
from bareon.errors import ActionFailed, UnsuitableNode
from bareon.model.deployment import BootOrder
from bareon.model.image import Early
from bareon.model.layout import Layout
from bareon.step import Outcome, Progress, Step
from bareon.storage.filesystem import Mounted
from bareon.system import sandbox, selinux
from bareon.system.family import menu_makers
from bareon.system.initramfs import is_dracut
from bareon.system.kernel import Kernel, kernels
from bareon.system.tree import Tree, holder, mounted_tree
from bareon.tools import grub, udev
from bareon.tools.sandbox import View

_FOLDER = "/boot/grub"
"""That of the ramdisk's GRUB."""


def parameters(asked: str, tree: Tree, layout: Layout, image: str) -> str:
    """The kernel parameters of an image besides its own: those ``asked`` for, and what its initramfs must be told.

    dracut starts nothing that it is not told of; other initramfs start all that is there.
    """
    if not is_dracut(tree):
        return asked
    resumes = any(word.startswith("resume=") for word in (*of_image(tree).words, *asked.split()))
    return " ".join(dict.fromkeys([*asked.split(), *layout.kernel_arguments(image, resumes=resumes)]))


@dataclass(frozen=True)
class InstallGrub(Step):
    """GRUB on each disk: that of the image where it brings one, else its systemd-boot, else the ramdisk's GRUB.

    ``programs`` is whether the image's own may run, to write the menu. If not, GRUB is the ramdisk's, its menu
    bareon's. ``esp_copies`` is whether the system copies its boot loader to the other disks after an update of it,
    ``secure_boot`` whether that is on. ``early`` brings files of the image before the first write.
    """

    image: str
    layout: Layout
    disks: tuple[BootDisk, ...]
    kernel_params: str
    boot_order: BootOrder = "first"
    programs: bool = True
    esp_copies: bool = False
    secure_boot: bool = False
    early: Early | None = None

    @property
    def description(self) -> str:
        what = "GRUB" if self.programs else "the ramdisk's GRUB, with a menu of bareon's own,"
        if self.disks[0].platform.systemd_boot:
            what = f"{what.rstrip(',')}, or its own systemd-boot,"
        on = ", ".join(disk.device for disk in self.disks)
        copies = ", and what copies its updates to all of them" if self.esp_copies else ""
        return f"Install {what} for image {self.image!r} on {on}{copies}{order_promise(self.disks, self.boot_order)}"

    def preflight(self) -> Sequence[str]:
        target = self.disks[0].platform.grub_target
        if self.programs:
            sandbox.check()
        elif not grub.has_modules(target):
            raise UnsuitableNode(f"the ramdisk has no GRUB for {target}, which --image_programs none needs")
        return self._without_room(self.early) if self.early else []

    def _without_room(self, early: Early) -> list[str]:
        """See that kernels have room where systemd-boot needs them, as far as the image tells by now."""
        platform = self.disks[0].platform
        programs = systemd_boot.programs(platform)
        makers = [f"{place}/{program}" for program, *_ in menu_makers() for place in _PLACES]
        found = early([*programs, *makers]) if programs else {}
        loader = next((found[x] for x in programs if x in found), None)
        if loader is None or any(x in found for x in makers):
            return []  # it may boot by GRUB
        return esp_room.check(self.image, early, self.disks, len(loader))

    def _brought(self, tree: Tree) -> tuple[str, str, str] | None:
        """What :func:`_own_grub` tells, without modules where a signed GRUB of the image needs none for its menu."""
        platform = self.disks[0].platform
        own = _own_grub(tree.is_file, platform.grub_target)
        maker = next((x for x in menu_makers() if _has_maker(tree.is_file, x[0])), None)
        if own or not maker or not bls.read(tree):
            return own
        found = signed(tree, platform)
        return (*maker[:2], "") if found and found.reads_entries else None

    def run(self, progress: Progress) -> Outcome:
        udev.settle()  # grub-install looks for devices by what udev knows
        with mounted_tree(self.layout.tree(self.image)) as tree:
            there = own_kernels(tree, self.image)
            brings, loader = self._loaders(tree, there)
            starts = systemd_boot.starts(tree, there) if loader else []
            check_system(tree, self.image, starts or there)
            if there:
                check_usr(tree, self.image, there[0])
                check_processor(tree, there[0].name, self.disks[0].platform, self.image)
            bareon_boot.remove(tree)
            bls.add(tree, self._parameters(tree).split())
            if loader:
                done = self._from_systemd_boot(tree, loader, starts)
            else:
                done = self._from_grub(tree, there, brings if self.programs else None)
            selinux.label(tree)
        return done

    @contextlib.contextmanager
    def starting(self) -> Iterator[tuple[BootEntry, Tree]]:
        """The entry that boots, as it lies on the disks, and the tree with the files that it names.

        :raises ActionFailed: when it cannot be read.
        """
        with mounted_tree(self.layout.tree(self.image), writing=()) as tree:
            brings, loader = self._loaders(tree, own_kernels(tree, self.image))
            esp = self.disks[0].esp
            if loader and esp:
                with systemd_boot.mounted(esp, tree) as own:
                    yield systemd_boot.default(own), own
            else:
                yield self._default(tree, brings[1] if brings and self.programs else _FOLDER), tree

    def _loaders(self, tree: Tree, there: Sequence[Kernel]) -> tuple[tuple[str, str, str] | None, str | None]:
        """What :func:`_own_grub` tells, and the path of systemd-boot where the image has that instead."""
        brings = self._brought(tree) if there else None
        return brings, None if brings else systemd_boot.program(tree, self.disks[0].platform)

    def _default(self, tree: Tree, folder: str) -> BootEntry:
        return grub_cfg.default(tree, f"{folder}/grub.cfg", "efi" if self.disks[0].esp else "pc")

    def _from_grub(self, tree: Tree, there: Sequence[Kernel], own: tuple[str, str, str] | None) -> Outcome:
        if own:
            _check_default(tree, self.image, there)
            return {"grub": "image", **self._from_image(tree, there, *own)}
        return {"grub": "ramdisk", **self._from_ramdisk(tree, there)}

    def _from_systemd_boot(self, tree: Tree, loader: str, starts: Sequence[systemd_boot.Start]) -> Outcome:
        brought = [_brought(x, tree) for x in starts]
        wanted = [self._start(x, tree, words.words) for x, words in zip(starts, brought, strict=True)]
        entry = systemd_boot.read(wanted[0], tree, secure_boot=self.secure_boot)
        if self.secure_boot:
            check_unshimmed(tree, wanted[0].kernel, self.image)
        warnings = [*brought[0].warnings, *deployed.check(entry, tree, self.layout, self.image)]
        done = systemd_boot.install(tree, loader, wanted, self.disks, self.boot_order)
        done |= esp_copies.renew(
            tree, self.disks, systemd_boot.FOLDER, systemd_boot.token(tree), wanted=self.esp_copies
        )
        return {"systemd_boot": "image", **done} | warned(self.image, warnings)

    def _start(self, start: systemd_boot.Start, tree: Tree, brought: Sequence[str]) -> systemd_boot.Start:
        """What is to be started, as it is told on this node."""
        root = tree.mounts[0]
        initramfs = bool(start.embedded.initrds if start.embedded else start.initrd)
        words = arguments(
            *(root_words(root, self.layout, initramfs=initramfs), brought, root, self._parameters(tree))
        )
        return replace(start, title=f"{self.image}, {start.version}", arguments=words)

    def _parameters(self, tree: Tree) -> str:
        return parameters(self.kernel_params, tree, self.layout, self.image)

    def _from_image(self, tree: Tree, there: Sequence[Kernel], mkconfig: str, folder: str, modules: str) -> Outcome:
        settings = tree.read("/etc/default/grub") or ""
        changed = with_kernel_params(settings, self._parameters(tree))
        if changed != settings:
            tree.write("/etc/default/grub", changed)
        found = signed(tree, self.disks[0].platform)
        source = Source(tree, folder, modules, found.folder if found else esp.vendor(tree), found)
        done = self._install(source)
        grub.mkconfig(self._view(tree), f"{folder}/grub.cfg", mkconfig)
        return done | self._checked(tree, folder, there)

    def _install(self, source: Source) -> Outcome:
        done = install(self.disks, source, self.boot_order)
        return done | esp_copies.renew(source.tree, self.disks, source.loader, wanted=self.esp_copies)

    def _checked(self, tree: Tree, folder: str, there: Sequence[Kernel], warnings: Sequence[str] = ()) -> Outcome:
        """See that the entry that boots is one of the system that was deployed."""
        entry = self._default(tree, folder)
        found = deployed.check(entry, tree, self.layout, self.image)
        found += _odd(tree, self.image, entry.kernel, there)
        return warned(self.image, [*warnings, *found])

    def _view(self, tree: Tree) -> View:
        """What ``grub-mkconfig`` sees: no device, but names of them, and what ``grub-probe`` would tell."""
        volumes = grub_probe.volumes(tree.mounts, self.layout)
        view = sandbox.view(tree, grub_probe.stand_ins(volumes))
        partitions = (f"/dev/disk/by-partuuid/{x.partuuid}" for x in volumes if x.partuuid)
        return replace(view, names=tuple(dict.fromkeys([*view.names, *partitions])))

    def _from_ramdisk(self, tree: Tree, there: Sequence[Kernel]) -> Outcome:
        found = signed(tree, self.disks[0].platform)
        source = Source(tree, _FOLDER, loader=found.folder if found else "bareon", signed=found)
        done = self._install(source)
        settings = defaults(tree)
        brought = {x: of_image(tree, x) for x in there}
        boot = holder("/boot", tree.mounts)
        entries = [self._entry(x, tree, words.words, boot) for x, words in brought.items()]
        tree.write(f"{_FOLDER}/grub.cfg", configuration(entries, terminal(settings)))
        return done | self._checked(tree, _FOLDER, there, brought[there[0]].warnings)

    def _entry(self, kernel: Kernel, tree: Tree, brought: Sequence[str], boot: Mounted) -> Entry:
        root = tree.mounts[0]
        named = root_words(root, self.layout, initramfs=kernel.initrd is not None)
        words = arguments(named, brought, root, self._parameters(tree))
        title, read = f"{self.image}, {kernel.name}", kernel.from_top(boot)
        return Entry(title, read.image, read.initrd, boot.uuid, words)


def _brought(start: systemd_boot.Start, tree: Tree) -> Parameters:
    """The kernel parameters that an image brings: a unified kernel image has them in itself."""
    if start.embedded and start.embedded.arguments:
        return Parameters(start.embedded.arguments)
    return of_image(tree, Kernel(start.kernel, start.initrd, start.version))


_PLACES = ("/usr/sbin", "/usr/bin", "/sbin")


def _own_grub(has: Callable[[str], bool], target: str) -> tuple[str, str, str] | None:
    """(grub-mkconfig, folder of grub.cfg, folder of the modules) of an image that brings GRUB for ``target``.

    :param has: tells whether the image has a file.
    """
    for program, folder, modules in menu_makers():
        if _has_maker(has, program) and has(f"{modules}/{target}/normal.mod"):
            return program, folder, f"{modules}/{target}"
    return None


def _has_maker(has: Callable[[str], bool], program: str) -> bool:
    return any(has(f"{place}/{program}") for place in _PLACES)


def _check_default(tree: Tree, image: str, own: Sequence[Kernel]) -> None:
    """See that the newest kernel, which ``grub-mkconfig`` puts first, is one of the image's own.

    :raises ActionFailed: when it is not, and the image's settings name no other one as the default.
    """
    newest = kernels(tree)[0]
    if newest not in own and defaults(tree).get("GRUB_DEFAULT", "0") == "0":
        reason = f"there are no modules of {newest.release} in /lib/modules"
        raise ActionFailed(
            f"image {image!r} would boot {newest.name}, the newest kernel in its /boot, and {reason}:"
            " take it out of the image, or bring its modules"
        )


def _odd(tree: Tree, image: str, kernel: str, own: Sequence[Kernel]) -> list[str]:
    """Warn of a kernel that no ordinary boot takes, where the image's settings choose it although it has another.

    :raises ActionFailed: when they choose none.
    """
    if own[0].odd or not any(x.odd for x in kernels(tree) if kernel.endswith(f"/{x.name}")):
        return []
    name = kernel.rpartition("/")[2]
    reason = f"would boot {name}, which is for debugging, rescue or tests, though it has {own[0].name}"
    choice = defaults(tree).get("GRUB_DEFAULT", "0")
    if choice == "0" or (choice == "saved" and not grub_cfg.saved(tree).get("saved_entry")):
        raise ActionFailed(
            f"image {image!r} {reason}: take it out of the image, or have GRUB_DEFAULT name the other one"
        )
    return [f"it {reason}; so its settings choose"]

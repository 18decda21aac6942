# SPDX-License-Identifier: Apache-2.0
"""systemd-boot of an image on each EFI system partition, with an entry for each kernel or unified kernel image.

It reads FAT alone, so what it starts is copied there, to where kernel-install(8) of the system goes on with it.
Nothing of the image runs. Its files are described in loader.conf(5), the entries in the Boot Loader Specification.
"""

from __future__ import annotations

import contextlib
import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bareon.boot import esp_room, nvram
from bareon.boot.disks import BootDisk
from bareon.boot.entries import bls, uki
from bareon.boot.entries.entry import BootEntry
from bareon.boot.installed import release
from bareon.boot.platform import Platform
from bareon.errors import ActionFailed
from bareon.model.deployment import BootOrder
from bareon.sizes import human
from bareon.step import Outcome
from bareon.storage.filesystem import ESP_MOUNT, Mount, Mounted, PlannedFilesystem
from bareon.system.bindings.boot_entries import ENDING
from bareon.system.kernel import Kernel, by_version, is_odd
from bareon.system.tree import Tree, holder
from bareon.tools import mount

ENTRIES = "/loader/entries"
FOLDER = "systemd"
"""That of the loader below ``EFI``, as bootctl(1) has it."""
PLACE = "/run/bareon/esp"
"""Where the EFI system partition is mounted that the system itself mounts nowhere."""

_SOURCE = "/usr/lib/systemd/boot/efi"
_ENTRY_TOKEN = "/etc/kernel/entry-token"
_WRITTEN = "# Written by bareon.\n"
_PLAIN = re.compile(r"[A-Za-z0-9._+~-]{1,128}")
_TOKEN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
#: Settings of an image's loader.conf that are kept, with what they may be.
_KEPT = re.compile(r"(?m)^(?:timeout[ \t]+[0-9]{1,4}|editor[ \t]+[a-z0-9]+|console-mode[ \t]+[a-z0-9]+)[ \t]*$")
_NAMED = re.compile(r"(?m)^(?:linux|initrd|efi) (/[A-Za-z0-9._+~/-]+)$")


@dataclass(frozen=True)
class Start:
    """What an entry starts: a kernel and its initramfs, or a unified kernel image, as paths in the system.

    ``version`` is in the name of the entry. ``embedded`` is the entry in a unified kernel image itself.
    """

    version: str
    kernel: str
    initrd: str | None = None
    embedded: BootEntry | None = None
    arguments: tuple[str, ...] = ()
    title: str = ""

    def files(self, token: str) -> dict[str, str]:
        """The files on the EFI system partition, by their paths there, with those that they are copies of."""
        if not self.embedded:
            folder = f"/{token}/{self.version}"
            initrd = {f"{folder}/initrd.img": self.initrd} if self.initrd else {}
            return {f"{folder}/linux": self.kernel, **initrd}
        on_esp = self.kernel.startswith(f"{ESP_MOUNT}/")
        return {self.kernel.removeprefix(ESP_MOUNT) if on_esp else f"/{token}/{self.version}.efi": self.kernel}

    def text(self, token: str) -> str:
        """The file of the entry: without a ``sort-key`` it stands behind kernels that are installed later."""
        files = list(self.files(token))
        lines = [f"efi {files[0]}"] if self.embedded else [f"linux {files[0]}", *(f"initrd {x}" for x in files[1:])]
        title = "".join(x for x in self.title if x.isprintable())
        options = " ".join(f'"{x}"' if " " in x and '"' not in x else x for x in self.arguments)
        return "\n".join([f"{_WRITTEN}title {title}", f"version {self.version}", *lines, f"options {options}", ""])


def program(tree: Tree, platform: Platform) -> str | None:
    """The path of an image's systemd-boot, a signed one first; ``None`` where it brings none for the platform."""
    return next(filter(tree.is_file, programs(platform)), None)


def programs(platform: Platform) -> list[str]:
    """The paths at which images bring systemd-boot, a signed one first; none where there is none for the platform."""
    return [f"{_SOURCE}/{platform.systemd_boot}{end}" for end in (".signed", "") if platform.systemd_boot]


def starts(tree: Tree, kernels: Sequence[Kernel]) -> list[Start]:
    """What there is to start, the default first.

    A kernel with an initramfs beside it comes before unified kernel images: bareon has that initramfs made anew
    where it must know the node.

    :param kernels: those of the system in ``/boot``, as :func:`bareon.boot.installed.own_kernels` gives them.
    """
    whole = [x for x in kernels if x.initrd]
    chosen = [x for x in whole if not x.odd] or whole[:1]
    unified = [] if chosen else _unified(tree)
    if unified:
        return [x for x in unified if not is_odd(x.version)] or unified[:1]
    found: dict[str, Start] = {}
    for x in chosen or kernels:
        initrd = f"/boot/{x.initrd.removeprefix('/boot/').lstrip('/')}" if x.initrd else None
        found.setdefault(x.release, Start(x.release, f"/boot/{x.name}", initrd))
    return list(found.values())


def _unified(tree: Tree) -> list[Start]:
    found: dict[str, Start] = {}
    for entry in uki.read(tree):
        folder, _, name = entry.source.rpartition("/")
        in_modules = folder.startswith(uki.MODULES)
        version = folder.rpartition("/")[2] if in_modules else name.removesuffix(".efi")
        if _PLAIN.fullmatch(version) and _PLAIN.fullmatch(name):
            found.setdefault(version, Start(version, entry.source, embedded=entry))
    return list(found.values())


def token(tree: Tree) -> str:
    """The name by which entries of the system are called, as kernel-install(8) finds it."""
    words = ((tree.read(_ENTRY_TOKEN) or "").strip(), release(tree).get("ID", ""))
    return next((x for x in words if _TOKEN.fullmatch(x) and x not in ("efi", "loader")), "bareon")


def install(tree: Tree, source: str, wanted: Sequence[Start], disks: Sequence[BootDisk], order: BootOrder) -> Outcome:
    """Put the loader at ``source``, and what it starts, onto every disk, with an NVRAM entry for each.

    :raises ActionFailed: when an EFI system partition has no room for the first of them.
    """
    name, loaders = token(tree), []
    least = len(wanted)
    if tree.read(_ENTRY_TOKEN) != f"{name}\n":
        # Else kernel-install of some versions goes by the machine's ID, and its entries are not those of the default.
        tree.write(_ENTRY_TOKEN, f"{name}\n")
    for disk in disks:
        assert disk.esp
        with mounted(disk.esp, tree) as esp:
            _forget(esp)
            own = f"/EFI/{FOLDER}/{disk.platform.systemd_boot}"
            fitting = _fitting(tree, esp, source, wanted, disk.esp.device)
            least = min(least, len(fitting))
            for path in (own, f"/EFI/BOOT/{disk.platform.removable}"):
                esp.copy(source, path, of=tree)
            for start in fitting:
                _place(start, name, tree, esp)
            esp.write("/loader/entries.srel", "type1\n")
            esp.write("/loader/loader.conf", _settings(tree, esp, name, wanted[0]))
            mount.write_back(esp.root)
            loaders.append(own.replace("/", "\\"))
    done = nvram.remember(disks, loaders, order)
    left = ", ".join(x.version for x in wanted[least:])
    return {**done, "left_out": f"{left}: the EFI system partition has no room for them"} if left else done


def default(esp: Tree) -> BootEntry:
    """The entry that systemd-boot starts by itself, as its files on an EFI system partition say.

    :raises ActionFailed: when there is none.
    """
    settings = (esp.read("/loader/loader.conf") or "").split("\n")
    patterns = [line.split()[1] for line in settings if re.match(r"default[ \t]+\S", line)]
    names = [x for x in esp.names(ENTRIES) if patterns and fnmatch.fnmatchcase(x, patterns[-1])]
    if not names:
        raise ActionFailed(f"{esp.name} has no entry that is the default")
    path = f"{ENTRIES}/{max(names, key=by_version)}"
    return bls.parse(esp.read(path) or "", path, {})


@contextlib.contextmanager
def mounted(esp: PlannedFilesystem, tree: Tree) -> Iterator[Tree]:
    """The files of an EFI system partition. It is not mounted over a folder in which an image has files for it."""
    called, own = "the EFI system partition", (Mounted(esp, Mount("/")),)
    if any((x.point, x.device) == (ESP_MOUNT, esp.device) for x in tree.mounts):
        yield Tree(tree.folder(ESP_MOUNT), own, name=called)
        return
    Path(PLACE).mkdir(parents=True, exist_ok=True)
    with mount.mounted(esp.device, PLACE, kind="vfat"):
        yield Tree(PLACE, own, name=called)


def _forget(esp: Tree) -> None:
    """Take out the entries of an earlier deployment, and the copies that they start."""
    for name in esp.names(ENTRIES):
        if not _is_own(esp, name):
            continue
        text = esp.read(f"{ENTRIES}/{name}") or ""
        esp.remove(f"{ENTRIES}/{name}")
        for copy in _NAMED.findall(text):
            if ".." not in copy and not copy.startswith("/EFI/"):
                esp.remove(copy)
                if folder := copy.rpartition("/")[0]:
                    esp.remove_folder(folder)


def _fitting(tree: Tree, esp: Tree, source: str, wanted: Sequence[Start], device: str) -> list[Start]:
    """Those that have room, in their order.

    :raises ActionFailed: when the first one has none.
    """
    free = mount.free(esp.root) - esp_room.SPARE - 2 * _size(tree, source)
    found: list[Start] = []
    for start in wanted:
        there = start.embedded and start.kernel.startswith(f"{ESP_MOUNT}/") and esp.is_file(_on_esp(start))
        need = 0 if there else sum(_size(tree, x) for x in (start.kernel, start.initrd) if x)
        if need > free and not found:
            raise ActionFailed(
                f"the EFI system partition {device} has {human(max(free, 0))} left for {start.kernel} and its"
                f" initramfs, which have {human(need)}: {esp_room.REMEDY}"
            )
        if need > free:
            break
        free -= need
        found.append(start)
    return found


def _on_esp(start: Start) -> str:
    return start.kernel.removeprefix(ESP_MOUNT)


def _size(tree: Tree, path: str) -> int:
    status = tree.status(path)
    return status.st_size if status else 0


def _place(start: Start, name: str, tree: Tree, esp: Tree) -> None:
    """Copy what an entry starts, then write the entry, which boots from then on."""
    for path, source in start.files(name).items():
        if esp.root != tree.outside(ESP_MOUNT) or source != f"{ESP_MOUNT}{path}":
            esp.copy(source, path, of=tree)
    esp.write(f"{ENTRIES}/{entry_name(name, start)}", start.text(name))


def entry_name(name: str, start: Start) -> str:
    """The file of an entry. What follows a ``+`` there would be counted as attempts to boot it."""
    return f"{name}-{start.version.replace('+', '_')}{ENDING}"


def _settings(tree: Tree, esp: Tree, name: str, first: Start) -> str:
    """``loader.conf``: the image's, with the default: the newest kernel, also of those that are installed later.

    Where entries of such names are there that are not bareon's, and nobody has checked, it is what was deployed.
    """
    files = (f"{x}/loader/loader.conf" for x in (ESP_MOUNT, "/efi", "/boot"))
    text = next(filter(None, (tree.read(x) for x in files)), "")
    kept = _KEPT.findall(text)
    default = entry_name(name, first)
    others = [x for x in esp.names(ENTRIES) if x.lower().startswith(f"{name}-") and not _is_own(esp, x)]
    if not first.embedded and not others:
        default = f"{name}-*{ENDING}"
    lines = [f"default {default}", *(kept if any(x.startswith("timeout") for x in kept) else ["timeout 3", *kept])]
    return _WRITTEN + "".join(f"{x}\n" for x in lines)


def _is_own(esp: Tree, name: str) -> bool:
    path = f"{ENTRIES}/{name}"
    return esp.is_file(path) and (esp.read(path) or "").startswith(_WRITTEN)


def read(start: Start, tree: Tree, *, secure_boot: bool) -> BootEntry:
    """What boots: the entry as it was written, with the file in the system that it is a copy of.

    With Secure Boot the stub of a unified kernel image goes by the command line in it, where it has one.
    """
    name = token(tree)
    written = bls.parse(start.text(name), f"{ENTRIES}/{entry_name(name, start)}", {})
    options = written.arguments
    initrds = (start.initrd,) if start.initrd else ()
    if start.embedded:
        initrds = (start.kernel,) if start.embedded.initrds else ()
        if secure_boot and start.embedded.arguments:
            written, options = start.embedded, start.embedded.arguments
    own = holder(start.kernel, tree.mounts)
    relative = tuple(own.above + _below(x, own.point) for x in (start.kernel, *initrds))
    return replace(written, kernel=relative[0], initrds=relative[1:], arguments=options, filesystem=own.uuid)


def _below(path: str, point: str) -> str:
    return path if point == "/" else path.removeprefix(point)

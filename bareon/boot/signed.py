# SPDX-License-Identifier: Apache-2.0
"""Signed EFI programs of an image: shim, GRUB and what belongs to them. They are copied, never run."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bareon.boot.esp import vendor
from bareon.boot.grub_script import quoted, word
from bareon.boot.platform import Platform
from bareon.storage.filesystem import ESP_MOUNT
from bareon.system.kernel import by_version
from bareon.system.tree import Tree

LOG = logging.getLogger(__name__)

#: The path that a GRUB for EFI takes for its prefix is a string in it.
_PREFIX = re.compile(rb"\0/EFI/([A-Za-z0-9][A-Za-z0-9._-]{0,63})\0")

Folders = Callable[[str], Sequence[str]]
"""Gives the paths of the folders in a folder of an image; none where there is no such folder."""

#: Where packages of Fedora have their programs since Fedora 44, each version in a folder of its own.
_PACKAGES = "/usr/lib/efi"

#: Folders below ``EFI`` of distributions whose packages have their programs on the EFI system partition itself, or
#: whose installers put them there.
_VENDORS = ("fedora", "centos", "redhat", "rocky", "almalinux", "amzn", "debian", "ubuntu")


@dataclass(frozen=True)
class Shipped:
    """Where a distribution has its programs: paths in an image of shim and GRUB, and of others that shim may need.

    ``helpers`` are paths by names on the EFI system partition. ``following`` is the name by which its shim looks for
    GRUB, where that is not the platform's. With ``anywhere`` none is built into GRUB, which goes by the folder that
    it lies in.
    """

    shim: str
    grub: str
    helpers: Mapping[str, str]
    following: str = ""
    anywhere: bool = False

    def folder(self, program: bytes, own: str) -> str | None:
        """The folder below ``EFI`` where GRUB looks for its configuration; ``None`` without one.

        :param own: of the image's own ``grub-install``.
        """
        return own if self.anywhere else folder_of(program)


def shipped(platform: Platform, folders: Folders) -> list[Shipped]:
    """The places where images bring signed programs for a platform, the best first.

    :param folders: tells those of one image.
    """
    if not platform.grub:
        return []
    beside = platform.signed_shim.rpartition("/")[0]
    packaged = Shipped(
        platform.signed_shim, platform.signed_grub, {name: f"{beside}/{name}" for name in platform.helpers}
    )
    places = [f"{ESP_MOUNT}/EFI/{vendor}" for vendor in _VENDORS]
    of_esp = [
        Shipped(f"{x}/{platform.shim}", f"{x}/{platform.grub}", {name: f"{x}/{name}" for name in platform.helpers})
        for x in places
    ]
    of_suse = Shipped(
        *(f"{platform.suse}/shim.efi", f"{platform.suse}/grub.efi"),
        {"MokManager.efi": f"{platform.suse}/MokManager.efi"},
        following="grub.efi",
        anywhere=True,
    )
    return [packaged, *_of_packages(platform, folders), *of_esp, of_suse]


def _of_packages(platform: Platform, folders: Folders) -> Iterator[Shipped]:
    """Those below :data:`_PACKAGES`: the newest of each package first."""
    grubs = sorted(folders(f"{_PACKAGES}/grub2"), key=by_version, reverse=True)
    shims = sorted(folders(f"{_PACKAGES}/shim"), key=by_version, reverse=True) if grubs else []
    shim = shims[0] if shims else f"{_PACKAGES}/shim"
    for grub in grubs:
        for place in folders(f"{grub}/EFI"):
            beside = f"{shim}/EFI/{place.rpartition('/')[2]}"
            # shim's fallback lies where firmware starts it.
            there = {x: f"{shim}/EFI/BOOT" if x.startswith("fb") else beside for x in platform.helpers}
            helpers = {name: f"{folder}/{name}" for name, folder in there.items()}
            yield Shipped(f"{beside}/{platform.shim}", f"{place}/{platform.grub}", helpers)


def folders_of(tree: Tree) -> Folders:
    """Tells the folders of an image in its tree; a file among them has none below it."""
    return lambda path: [f"{path}/{name}" for name in tree.names(path)]


@dataclass(frozen=True)
class Signed:
    """A signed GRUB, and what starts it: the content of each file by its name on the EFI system partition.

    ``folder`` is the one below ``EFI`` in which that GRUB looks for its configuration.
    """

    folder: str
    files: Mapping[str, bytes]

    @property
    def reads_entries(self) -> bool:
        """True where GRUB reads entries of the Boot Loader Specification by itself, as that of Fedora and its kin."""
        return any(b"blscfg\0" in content for content in self.files.values())


def signed(tree: Tree, platform: Platform) -> Signed | None:
    """That of an image; ``None`` where it brings none for the platform."""
    for place in shipped(platform, folders_of(tree)):
        program = tree.content(place.grub)
        if not program:
            continue
        if folder := place.folder(program, vendor(tree)):
            return Signed(folder, _files(place, program, tree, platform))
        LOG.warning("%s of the image names no folder of its own below EFI; it is not installed", place.grub)
    return None


def _files(place: Shipped, program: bytes, tree: Tree, platform: Platform) -> dict[str, bytes]:
    """The content of the files of a place by their names on the EFI system partition."""
    files = {platform.grub: program}
    if shim := tree.content(place.shim):
        files[platform.shim] = shim
        if place.following:
            files[place.following] = program
        for name, path in place.helpers.items():
            if found := tree.content(f"{path}.signed") or tree.content(path):
                files[name] = found
    return files


def folder_of(program: bytes) -> str | None:
    """The folder below ``EFI`` where a signed GRUB looks for its configuration; ``None`` without one of its own."""
    found = _PREFIX.search(program)
    return found[1].decode() if found and found[1].upper() != b"BOOT" else None


def place(found: Signed, esp: str, configuration: str) -> None:
    """Put them onto the EFI system partition that is mounted at ``esp``, in place of a GRUB without a signature.

    :raises ActionFailed: when it has no room for them.
    """
    tree = Tree(esp, name="the EFI system partition")
    for name, content in found.files.items():
        tree.write(f"/EFI/{found.folder}/{name}", content.decode(errors="surrogateescape"))
    tree.write(f"/EFI/{found.folder}/grub.cfg", configuration)


def configuration(uuid: str, folder: str, *, prefix: bool) -> str:
    """``grub.cfg`` beside a signed GRUB: it goes on with the one in a folder of another file system.

    :param folder: of GRUB there, from the root of the file system.
    :param prefix: whether that folder is to be GRUB's prefix, where it keeps its environment, and finds modules.
    """
    lines = [f"search.fs_uuid {word(uuid)} root"]
    lines += [f"set prefix=($root){quoted(folder)}"] if prefix else []
    return "\n".join([*lines, f"configfile ($root){quoted(f'{folder}/grub.cfg')}", ""])

# SPDX-License-Identifier: Apache-2.0
"""Signed EFI programs of an image: shim, GRUB and what belongs to them. They are copied, never run."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bareon.boot.grub_script import quoted, word
from bareon.boot.platform import Platform
from bareon.system.tree import Tree

LOG = logging.getLogger(__name__)

#: The path that a GRUB for EFI takes for its prefix is a string in it.
_PREFIX = re.compile(rb"\0/EFI/([A-Za-z0-9][A-Za-z0-9._-]{0,63})\0")


@dataclass(frozen=True)
class Signed:
    """A signed GRUB, and what starts it: the content of each file by its name on the EFI system partition.

    ``folder`` is the one below ``EFI`` in which that GRUB looks for its configuration.
    """

    folder: str
    files: Mapping[str, bytes]


def signed(tree: Tree, platform: Platform) -> Signed | None:
    """That of an image; ``None`` where it brings none for the platform."""
    if not platform.grub:
        return None
    program = tree.content(platform.signed_grub)
    if not program:
        return None
    folder = folder_of(program)
    if not folder:
        LOG.warning("%s of the image names no folder of its own below EFI; it is not installed", platform.signed_grub)
        return None
    sources = {platform.grub: program}
    if shim := tree.content(platform.signed_shim):
        sources[platform.shim] = shim
        for name in platform.helpers:
            path = f"{platform.signed_shim.rpartition('/')[0]}/{name}"
            if found := tree.content(f"{path}.signed") or tree.content(path):
                sources[name] = found
    return Signed(folder, sources)


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


def configuration(uuid: str, folder: str, *, modules: bool) -> str:
    """``grub.cfg`` beside a signed GRUB: it goes on with the one in a folder of another file system.

    :param folder: of GRUB there, from the root of the file system.
    :param modules: whether the modules there are of the same GRUB. Those of another one must not be loaded.
    """
    lines = [f"search.fs_uuid {word(uuid)} root"]
    lines += [f"set prefix=($root){quoted(folder)}"] if modules else []
    return "\n".join([*lines, f"configfile ($root){quoted(f'{folder}/grub.cfg')}", ""])

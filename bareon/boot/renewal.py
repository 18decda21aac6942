# SPDX-License-Identifier: Apache-2.0
"""The menu of several images where one of them runs: the entries of others are renewed in place."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bareon.boot import bareon_boot, info
from bareon.boot.menu import FOLDER, written
from bareon.boot.several import ROOT, Found, find, with_older_kernel
from bareon.errors import ActionFailed, UnsuitableNode
from bareon.model.image import Image
from bareon.model.layout import Layout
from bareon.step import Outcome, Progress, Step
from bareon.system.tree import Tree, holder, mounted_tree
from bareon.tools import menu, mount, udev

_ENTRY = re.compile(r"^menuentry .*?^\}$", re.MULTILINE | re.DOTALL)
ANEW = "have the menu made anew in the ramdisk, by do_bootloader without --image"
"""What mends a menu that cannot be changed in place."""


@dataclass(frozen=True)
class RenewEntries(Step):
    """Renew the entries of some images in the menu, of which another one may run, or add those that it has not.

    The default and all other entries stay as they are, and so does GRUB, which is none of the images'. ``document``
    lies beside each copy of the menu then; without one, an older one goes.
    """

    images: tuple[Image, ...]
    layout: Layout
    kernel_params: str
    document: str | None

    @property
    def description(self) -> str:
        names = ", ".join(repr(x.name) for x in self.images)
        what = f"Renew or add the entry of image {names} in the menu on {self._device}"
        return f"{what}; the default and other entries stay"

    def preflight(self) -> None:
        """See that there is a menu, and that it has what its list says."""
        text, listed = self._menu()
        entries = _ENTRY.findall(text)
        if lost := [name for name, number in numbers(listed).items() if number >= len(entries)]:
            raise UnsuitableNode(f"image {lost[0]!r} has no entry in the menu on {self._device}: {ANEW}")

    def run(self, progress: Progress) -> Outcome:
        udev.settle()
        added = [x.name for x in self.images if self._brought_up_to_date(x)]
        total = len(numbers(self._menu()[1]))
        return {"menu": f"{len(self.images)} of {total} images", **({"added": ", ".join(added)} if added else {})}

    def _brought_up_to_date(self, image: Image) -> bool:
        """Renew the entry of an image, or add it; whether it was added."""
        text, listed = self._menu()
        known = numbers(listed)
        number = known.get(image.name)
        uuids = [x.uuid for x in self.layout.menus.values()]
        with mounted_tree(self.layout.tree(image.name), root=f"{ROOT}/images/0") as tree:
            boot = holder("/boot", tree.mounts).uuid
            others = kernels(text, boot, number)
            found = find(image.name, tree, self.layout, self.kernel_params, others)
            if not found:
                raise ActionFailed(f"image {image.name!r} has no kernel in /boot; the menu is as it was")
            bareon_boot.install(tree, uuids)
        if number is not None:
            self._written(image, found, number, menu.renew)
        else:
            self._written(image, found, max(known.values(), default=-1) + 1, menu.add)
        return number is None

    @property
    def _device(self) -> str:
        return next(iter(self.layout.menus.values())).device

    def _menu(self) -> tuple[str, str]:
        return menu_on(self._device)

    def _written(self, image: Image, found: Found, number: int, write: Callable[[str, str, str], None]) -> None:
        listed = found.listed(image, number)
        texts: Mapping[str, str | None] = {
            "entry": _text(found, listed.title),
            "older": _text(found, listed.title, older=True) if found.older else None,
            "listed": info.table([listed]),
            "document": self.document,
        }
        with tempfile.TemporaryDirectory(prefix="bareon-") as folder:
            for name, text in texts.items():
                if text is not None:
                    (Path(folder) / name).write_text(text, errors="surrogateescape")
            write(bareon_boot.script([x.uuid for x in self.layout.menus.values()]), image.name, folder)


def menu_on(device: str) -> tuple[str, str]:
    """The menu on a multiboot partition and the list of the images beside it, read without changing anything.

    :raises UnsuitableNode: when it has none.
    """
    with (
        tempfile.TemporaryDirectory(prefix="bareon-") as folder,
        mount.mounted(device, folder, kind="ext4", options="ro,noload"),
    ):
        tree = Tree(folder, name="the multiboot partition")
        texts = [tree.read(f"{FOLDER}/{name}") for name in ("grub.cfg", "bareon-images")]
    if texts[0] is None or texts[1] is None:
        raise UnsuitableNode(f"there is no menu of images on {device}: {ANEW}")
    return texts[0], texts[1]


def _text(found: Found, title: str, *, older: bool = False) -> str:
    entry = found.entry.called(title)
    if older and found.older:
        entry = with_older_kernel(entry, found.older)
    return "\n".join(written(entry)) + "\n"


def numbers(listed: str) -> dict[str, int]:
    """The number of the entry of each image, by the lines of :func:`bareon.boot.info.table`."""
    fields = [line.split("\t") for line in listed.splitlines()]
    return {x[1]: int(x[0]) for x in fields if len(x) > 1 and re.fullmatch("[0-9]{1,4}", x[0])}


def kernels(text: str, uuid: str, number: int | None) -> set[str]:
    """The kernels that entries of a menu other than the one with a number, if any, start from a file system."""
    found = set()
    for place, entry in enumerate(_ENTRY.findall(text)):
        kernel = re.search(r"^  linux '?([^' \n]+)", entry, re.MULTILINE)
        if place != number and kernel and re.search(rf"--set=root '?{re.escape(uuid)}'?$", entry, re.MULTILINE):
            found.add(kernel[1])
    return found

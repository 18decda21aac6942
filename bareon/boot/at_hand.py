# SPDX-License-Identifier: Apache-2.0
"""The document of the deployment, beside the menu of several images: their systems have it at hand for later runs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bareon.boot.menu import FOLDER
from bareon.errors import ActionFailed, CommandError, UsageError
from bareon.sizes import MIB
from bareon.system.tree import Tree
from bareon.tools import blkid, mount

PLACE = f"{FOLDER}/bareon-input.json"
LABEL = "multiboot"
#: Bytes of a document that is read: the whole partition has no more.
LARGEST = 100 * MIB


@dataclass(frozen=True)
class Found:
    """The document, the devices that have it, and those with the label that cannot be read, with the reasons."""

    document: bytes | None
    devices: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def leave(tree: Tree, document: str | None) -> None:
    """Have the document on a multiboot partition be this one, for root alone; without one, an older one goes.

    It was of another deployment, and what it says of the disks may not be true any more.

    :raises ActionFailed: when it cannot be written.
    """
    if document is not None:
        tree.write_private(PLACE, document)
    elif tree.has(PLACE):
        tree.remove(PLACE)


def of_running_system() -> Found:
    """The document beside the menu that has the system that runs here; none in a ramdisk, which no menu has.

    What it mounts is seen by this process alone, which is in a mount namespace of its own from then on.

    :raises UsageError: when the copies of a mirrored menu have different ones.
    :raises ActionFailed: when there can be no such namespace.
    :raises CommandError: when the partitions cannot be looked for.
    """
    device = mount.root_device()
    root = blkid.probe([device]).get(device, {}).get("UUID") if device else None
    devices = blkid.labelled(LABEL) if root else []
    if not root or not devices:
        return Found(None)
    mount.enter_private_namespace()
    return beside_menus(devices, root)


def beside_menus(devices: Sequence[str], root: str) -> Found:
    """The document on the multiboot partitions whose list of images has one with the root file system of that UUID.

    :raises UsageError: when they have different ones.
    """
    documents: dict[str, bytes | None] = {}
    unread = []
    for device in devices:
        try:
            with _shown(device) as tree:
                if _lists(tree.read(f"{FOLDER}/bareon-images") or "", root):
                    documents[device] = tree.content(PLACE, LARGEST)
        except (ActionFailed, CommandError) as error:
            unread.append(f"{device} is labelled {LABEL}, but cannot be read: {error}")
    if len(set(documents.values())) > 1:
        raise UsageError(
            f"no input: {PLACE} is not the same on {', '.join(documents)}; name the right one by --input_data_file"
        )
    return Found(next(iter(documents.values()), None), tuple(documents), tuple(unread))


@contextlib.contextmanager
def _shown(device: str) -> Iterator[Tree]:
    """A file system, to be read without a change to it.

    One that is mounted is read where it is: it cannot be mounted read-only besides.
    """
    name = f"the multiboot partition {device}"
    if point := mount.place(device, "/"):
        yield Tree(point, name=name)
        return
    options = "ro,noload,nosuid,nodev,noexec"
    with (
        tempfile.TemporaryDirectory(prefix="bareon-") as folder,
        mount.mounted(device, folder, kind="ext4", options=options),
    ):
        yield Tree(folder, name=name)


def _lists(images: str, root: str) -> bool:
    """Whether a list, as :func:`bareon.boot.info.table` makes it, has an image with that root file system."""
    return any(line.split("\t")[3:4] == [root] for line in images.splitlines())

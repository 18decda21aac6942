# SPDX-License-Identifier: Apache-2.0
"""The document of the deployment, beside the menu of several images: their systems have it at hand for later runs."""

from __future__ import annotations

import contextlib
import re
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
_CHANGES = re.compile(r"^# Change ([1-9][0-9]{0,14})\.$", re.MULTILINE)
#: Bytes of a document that is read: the whole partition has no more.
LARGEST = 100 * MIB


@dataclass(frozen=True)
class Found:
    """The document, the devices that have it, and what people should know: of what cannot be read, for instance."""

    document: bytes | None
    devices: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Copy:
    """The document beside a copy of a menu, how often that changed, and the UUIDs of all copies in their order."""

    device: str
    document: bytes | None
    changes: int
    known: tuple[str, ...]


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

    :raises UsageError: as :func:`beside_menus`.
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

    Of copies of one menu that differ, as a power cut between two disks leaves them, that of the menu that was changed
    last counts, else the first: as for the menu itself.

    :raises UsageError: when menus that know nothing of each other have different ones.
    """
    copies: list[_Copy] = []
    warnings = []
    for device in devices:
        try:
            with _shown(device) as tree:
                if _lists(tree.read(f"{FOLDER}/bareon-images") or "", root):
                    copies.append(_copy(device, tree))
        except (ActionFailed, CommandError) as error:
            warnings.append(f"{device} is labelled {LABEL}, but cannot be read: {error}")
    if not copies:
        return Found(None, (), tuple(warnings))
    first = copies[0]
    if len({x.document for x in copies}) > 1:
        first = _ahead(copies)
        behind = ", ".join(x.device for x in copies if x.document != first.document)
        warnings.append(f"{PLACE} on {behind} is not that on {first.device}, whose copy of the menu counts")
    return Found(first.document, tuple(x.device for x in copies if x.document == first.document), tuple(warnings))


def _copy(device: str, tree: Tree) -> _Copy:
    changes = _CHANGES.search(tree.read(f"{FOLDER}/grub.cfg") or "")
    known = (tree.read(f"{FOLDER}/bareon-copies") or "").split()
    return _Copy(device, tree.content(PLACE, LARGEST), int(changes[1]) if changes else 0, tuple(known))


def _ahead(copies: Sequence[_Copy]) -> _Copy:
    """The one of several copies of one menu that counts, as ``choose`` of ``bareon-boot.sh`` has it."""
    place = {x.device: blkid.probe([x.device]).get(x.device, {}).get("UUID") for x in copies}
    known = copies[0].known
    if len(set(place.values())) < len(copies) or any(
        x.known != known or place[x.device] not in known for x in copies
    ):
        raise UsageError(
            f"no input: {PLACE} is not the same on {', '.join(place)}; name the right one by --input_data_file"
        )
    return min(copies, key=lambda x: (-x.changes, known.index(str(place[x.device]))))


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

# SPDX-License-Identifier: Apache-2.0
"""The document beside the menu, found by a running system on real file systems.

No virtual machine: the file systems are on loop devices of this machine.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from bareon.boot import at_hand, info
from bareon.boot.info import Listed
from bareon.errors import UsageError
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.system.tree import Tree
from bareon.tools import mount
from bareon.tools.blkid import labelled
from building.process import run
from tests_functional.bench import loop

LABEL = "at hand & here"
ROOT = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"


def attached(
    stack: ExitStack,
    file: Path,
    root: str = ROOT,
    document: str | None = "{}",
    copies: Sequence[str] = (),
    changes: int = 0,
) -> str:
    """Return a device with a menu beside which a document lies.

    Of ``copies`` of the menu, by the UUIDs of their file systems, this is one that was changed so often. Which one,
    the name of the file says.
    """
    with file.open("wb") as opened:
        opened.truncate(16 << 20)
    name = copies[int(file.name)] if copies else "random"
    run(["mkfs.ext4", "-q", "-F", "-L", LABEL, "-U", name, file], timeout=30)
    device = str(stack.enter_context(loop.attached(file)))
    point = file.with_suffix(".mounted")
    point.mkdir()
    with mount.mounted(device, str(point)):
        tree = Tree(str(point))
        image = Listed(Image("x", Location("rsync://a/a")), 0, None, "x", root)
        tree.write("/boot/grub2/bareon-images", info.table([image]))
        tree.write("/boot/grub2/grub.cfg", f"# A menu.\n# Change {changes}.\nset default=0\n")
        if copies:
            tree.write("/boot/grub2/bareon-copies", "".join(f"{x}\n" for x in copies))
        at_hand.leave(tree, document)
    return device


@pytest.mark.parametrize(
    ("copies", "document", "places"),
    [
        ([(ROOT, "{}")], b"{}", [0]),
        ([(OTHER, "{1}"), (ROOT, "{}"), (ROOT, "{}")], b"{}", [1, 2]),
        ([(OTHER, "{}")], None, []),
        ([(ROOT, None)], None, [0]),
    ],
)
def test_the_document_of_the_menu_that_has_this_system(
    tmp_path: Path, copies: Sequence[tuple[str, str | None]], document: bytes | None, places: Sequence[int]
) -> None:
    with ExitStack() as stack:
        devices = [attached(stack, tmp_path / f"{n}", *copy) for n, copy in enumerate(copies)]
        before = [(tmp_path / f"{n}").read_bytes() for n in range(len(devices))]
        found = at_hand.beside_menus(devices, ROOT)
        assert (found.document, found.warnings) == (document, ())
        assert found.devices == tuple(devices[n] for n in places)
        assert [(tmp_path / f"{n}").read_bytes() for n in range(len(devices))] == before


@pytest.mark.parametrize("other", ["{ }", None])
def test_documents_of_menus_that_know_nothing_of_each_other_are_refused(tmp_path: Path, other: str | None) -> None:
    with ExitStack() as stack:
        devices = [attached(stack, tmp_path / "0"), attached(stack, tmp_path / "1", document=other)]
        with pytest.raises(UsageError, match=f"is not the same on {devices[0]}, {devices[1]}; name the right one"):
            at_hand.beside_menus(devices, ROOT)


@pytest.mark.parametrize(("changes", "counts"), [((0, 0), 0), ((4, 4), 0), ((9, 10), 1), ((4, 3), 0)])
def test_of_copies_of_one_menu_that_of_the_last_change_counts(
    tmp_path: Path, changes: Sequence[int], counts: int
) -> None:
    copies = [str(uuid.uuid4()) for _ in changes]
    with ExitStack() as stack:
        devices = [
            attached(stack, tmp_path / f"{n}", ROOT, f"{{{n}}}", copies, number) for n, number in enumerate(changes)
        ]
        for order in (devices, devices[::-1]):
            found = at_hand.beside_menus(order, ROOT)
            assert (found.document, found.devices) == (f"{{{counts}}}".encode(), (devices[counts],))
            said = f"{at_hand.PLACE} on {devices[1 - counts]} is not that on {devices[counts]}, whose copy"
            assert found.warnings[0].startswith(said)


def test_a_partition_that_is_mounted_is_read_where_it_is(tmp_path: Path) -> None:
    with ExitStack() as stack:
        device = attached(stack, tmp_path / "0")
        stack.enter_context(mount.mounted(device, str(tmp_path / "0.mounted")))
        assert at_hand.beside_menus([device], ROOT).document == b"{}"


def test_a_partition_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with ExitStack() as stack:
        device = attached(stack, tmp_path / "0")
        file = tmp_path / "1"
        file.write_bytes(bytes(1 << 20))
        broken = str(stack.enter_context(loop.attached(file)))
        found = at_hand.beside_menus([broken, device], ROOT)
        assert found.document == b"{}" and found.devices == (device,)
        assert len(found.warnings) == 1 and found.warnings[0].startswith(
            f"{broken} is labelled multiboot, but cannot be"
        )


def test_devices_are_found_by_their_label(tmp_path: Path) -> None:
    with ExitStack() as stack:
        device = attached(stack, tmp_path / "0")
        assert device in labelled(LABEL)
    assert device not in labelled(LABEL)

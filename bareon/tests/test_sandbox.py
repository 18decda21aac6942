# SPDX-License-Identifier: Apache-2.0
"""What a program of an image is shown. That it sees nothing else, tests_functional/test_hostile_image.py tries."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from bareon.errors import ActionFailed, UnsuitableNode
from bareon.storage.filesystem import Filesystem, Mount, Mounted, PlannedFilesystem
from bareon.storage.kind import Decision
from bareon.system.sandbox import check, view
from bareon.system.tree import Tree, mounted_tree
from bareon.tools import seccomp


def _mounted(device: str, point: str, uuid: str, decision: Decision = "create") -> Mounted:
    mount = Mount(point, "defaults", True, ("a",))
    wanted = Filesystem("ext4", (mount,))
    return Mounted(PlannedFilesystem(device, 1, "ext4", uuid, wanted, decision=decision), mount)


def _tree(place: Path, *mounts: Mounted) -> Tree:
    tree = Tree(str(place), mounts)
    for mount in mounts:
        tree.folder(mount.point)
    return tree


def test_kept_data_is_hidden_and_the_system_is_not(tmp_path: Path) -> None:
    points = ("/", "/boot", "/usr", "/usr/local", "/var", "/var/lib/db", "/srv", "/home", "/var/tmp")
    kept = [_mounted(f"/dev/x{number}", point, "U", "keep") for number, point in enumerate(points)]
    assert view(_tree(tmp_path, *kept)).hidden == ("/var/lib/db", "/srv", "/home")
    fresh = [_mounted("/dev/x", point, "U") for point in points]
    assert view(_tree(tmp_path, *fresh)).hidden == ()


def test_own_volumes_have_names_without_devices(tmp_path: Path) -> None:
    found = view(_tree(tmp_path, _mounted("/dev/os/root", "/", "6f2a"), _mounted("/dev/vda2", "/boot", "77")))
    assert {"/dev/mapper/os-root", "/dev/disk/by-uuid/6f2a", "/dev/vda2", "/dev/disk/by-uuid/77"} <= set(found.names)
    assert found.devices == ()
    assert found.volumes == (str(tmp_path), f"{tmp_path}/boot")


def test_what_stands_in_for_a_program_does_so_where_it_really_is(tmp_path: Path) -> None:
    tree = _tree(tmp_path, _mounted("/dev/vda1", "/", "1"))
    tree.write("/usr/bin/grub-probe", "the image's")
    Path(tree.folder("/usr/sbin"), "grub-probe").symlink_to("/usr/bin/grub-probe")
    found = view(tree, {"/usr/sbin/grub-probe": "bareon's", "/usr/sbin/grub2-probe": "bareon's"})
    assert found.files == {"/usr/bin/grub-probe": "bareon's"}


def test_a_tree_below_a_link_of_the_ramdisk_is_known_by_what_that_leads_to(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to("somewhere")
    (tmp_path / "somewhere").mkdir()
    with mounted_tree((), root=f"{tmp_path}/run/target") as tree:
        assert tree.root == f"{tmp_path}/somewhere/target"


@pytest.mark.parametrize("folder", ["/dev", "/proc", "/sys", "/run"])
def test_links_in_place_of_folders_that_are_mounted_over(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder.lstrip("/")).symlink_to("/oldroot/root")
    with pytest.raises(ActionFailed, match="link"):
        view(_tree(tmp_path, _mounted("/dev/vda1", "/", "1")))


def test_a_link_in_place_of_tmp_is_the_image_s_own(tmp_path: Path) -> None:
    (tmp_path / "tmp").symlink_to("/var/tmp")
    assert view(_tree(tmp_path, _mounted("/dev/vda1", "/", "1"))).fresh == ("/run",)


def test_without_libseccomp_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    check()
    monkeypatch.setattr(seccomp, "LIBRARY", "libno-such.so.1")
    with pytest.raises(UnsuitableNode, match=re.escape("libno-such.so.1 is not installed")):
        check()


def test_the_filter_is_a_program_of_the_kernel_s(tmp_path: Path) -> None:
    """Instructions of struct sock_filter: loaded, compared, and returned as it was said."""
    seccomp.write_filter(tmp_path / "filter")
    data = (tmp_path / "filter").read_bytes()
    instructions = [struct.unpack_from("<HBBI", data, start) for start in range(0, len(data), 8)]
    results = {value for code, _, _, value in instructions if code == 0x06}  # BPF_RET
    assert results == {0x7FFF0000, 0x00050001, 0x00050026, 0x00000000}  # allow, EPERM, ENOSYS, kill
    assert len(instructions) > len(seccomp.REFUSED)

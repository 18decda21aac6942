# SPDX-License-Identifier: Apache-2.0
"""What a listing says of the volumes that a tree is spread over, and which answers of a daemon mean "later".

The numbers in names are those of the situations of the field that a test shows.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.drivers.deploy import fitness, vfat
from bareon.drivers.deploy.archive import UnpackArchive
from bareon.drivers.deploy.listing import Survey
from bareon.drivers.deploy.overlap import common
from bareon.drivers.deploy.rsync import FetchTree, flags_for
from bareon.errors import BareonError, CommandError, InvalidInput, UnsuitableNode
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.sizes import GIB, MIB
from bareon.storage.filesystem import Filesystem, Mount, Mounted, PlannedFilesystem
from bareon.storage.kind import Decision
from bareon.system.tree import Tree
from bareon.tests.cases import HERE, load, plan_of
from bareon.tools import inode, rsync
from bareon.tools.rsync import Entry


def _mounted(point: str, kind: str = "ext4", size: int = GIB, decision: Decision = "create") -> Mounted:
    wanted = Filesystem(kind, (Mount(point),), path=f"$[{point}]")
    return Mounted(PlannedFilesystem(f"/dev/{point}", size, kind, "", wanted, decision=decision), wanted.mounts[0])


def _survey(*entries: Entry, target: str = "/", mounts: tuple[Mounted, ...] = (_mounted("/"),)) -> Survey:
    found = Survey(target, mounts)
    for entry in entries:
        found.take(entry)
    return found


def _said(survey: Survey, kind: type[BareonError], *, sparse: bool = False) -> list[str]:
    with pytest.raises(kind) as caught:
        fitness.judge("a", survey, sparse=sparse)
    return caught.value.lines()


def _file(path: str, size: int = 1, **more: str) -> Entry:
    return Entry(path, "f", size, "0:0", **more)


def test_field_34_a_file_with_names_on_two_volumes_is_counted_on_each_once() -> None:
    kernel = _file("usr/vmlinuz", 5 * MIB)
    names = [_file(name, 5 * MIB, same="usr/vmlinuz") for name in ("usr/again", "boot/one", "boot/two")]
    survey = _survey(kernel, *names, mounts=(_mounted("/"), _mounted("/boot")))
    assert [(share.bytes, share.files) for share in survey.shares] == [(5 * MIB, 1), (5 * MIB, 1)]
    assert list(survey.notes()) == [
        "hard links across volumes become copies: 1, such as /usr/vmlinuz and /boot/one",
    ]


def test_what_lies_on_one_device_is_counted_together() -> None:
    whole = _mounted("/")
    mounts = (whole, replace(whole, mount=Mount("/home", subvolume="@home")))
    entries = [_file("vmlinuz", 5 * MIB), _file("home/again", 5 * MIB, same="vmlinuz")]
    assert list(_survey(*entries, mounts=mounts).notes()) == [
        "hard links across volumes become copies: 1, such as /vmlinuz and /home/again"
    ]
    large = [_file("a", 600 * MIB), _file("home/b", 600 * MIB)]
    fitness.judge("a", _survey(*large[:1], mounts=mounts), sparse=False)
    assert _said(_survey(*large, mounts=mounts), UnsuitableNode)[0].startswith(
        "image 'a' has 1200 MiB for /, /home, and /dev// holds 1024 MiB"
    )


def test_subvolumes_of_one_device_are_volumes_apart() -> None:
    plan = plan_of(load(HERE / "cases/plan/btrfs-two-images.yaml"))
    found = {x.image.name: [y.point for y in x.beside] for x in plan.steps if isinstance(x, FetchTree)}
    assert found == {"a": [], "b": ["/home"]}


def test_field_41_a_volume_of_two_systems_is_looked_up_for_the_second() -> None:
    volumes = [
        {"type": "partition", "mount": "/", "size": "1 GiB", "images": ["a"]},
        {"type": "partition", "mount": "/", "size": "1 GiB", "images": ["b"]},
        {"type": "partition", "mount": "/home", "size": "500 MiB", "images": ["a", "b"]},
        {"type": "partition", "mount": "/opt", "size": "500 MiB", "images": ["a", "tools"]},
    ]
    images = [
        {"name": "a", "image_pull_url": "rsync://server/a"},
        {"name": "b", "image_pull_url": "rsync://server/b"},
        {"name": "tools", "image_pull_url": "rsync://server/tools", "target": "/opt"},
    ]
    disk = {"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": volumes}
    wanted = {"partitions_policy": "clean", "partitions": [disk], "images": images}
    plan = plan_of({"node": "two-disks", "input": wanted, "actions": ["do_partitioning", "do_copyimage"]})
    found = {
        x.image.name: [(y.image.name, y.point) for y in x.beside] for x in plan.steps if isinstance(x, FetchTree)
    }
    # What goes into the tree of another image replaces files there on purpose.
    assert found == {"a": [], "b": [("a", "/home")], "tools": []}
    # The list of an archive is not known; its files stay, whichever comes first.
    images[0]["image_pull_url"] = "http://server/a.tar"
    actions = ["do_partitioning", "do_copyimage"]
    mixed = {"node": "two-disks", "input": wanted, "actions": actions, "deploy_driver": "auto"}
    assert {x.image.name: sorted(x.after) for x in plan_of(mixed).steps if isinstance(x, FetchTree)} == {
        "b": ["/home"],
        "tools": [],
    }
    images[0]["image_pull_url"], images[1]["image_pull_url"] = "rsync://server/a", "http://server/b.tar"
    (archive,) = (x for x in plan_of(mixed).steps if isinstance(x, UnpackArchive))
    assert archive.beside == {"/home"}


def test_field_41_what_is_no_folder_of_both_is_the_first_images() -> None:
    first = {"/home": True, "/home/x": False, "/home/d": True, "/home/f": False}
    second = {"/home": True, "/home/x": False, "/home/d": False, "/home/f": True, "/home/y": False}
    assert common(first, second) == ["/home/d", "/home/f", "/home/x"]


def test_each_volume_has_an_rsync_without_the_others() -> None:
    mounts = (_mounted("/"), _mounted("/boot", "vfat"), _mounted("/srv/a*", decision="keep"), _mounted("/srv/a*/b"))
    survey = _survey(mounts=mounts)
    image = Image("a", Location("rsync://server/a"))
    flags = {share.folder: flags_for(image, share, ["-a"]) for share in survey.shares}
    always = ("-a", "--numeric-ids", "--hard-links")
    apart = ("--exclude=/boot", r"--exclude=/srv/a\*", r"--exclude=/srv/a\*/b")
    assert flags[""] == (*apart, *always, "--whole-file", "--inplace")
    assert flags["boot"] == (*always, "--whole-file", "--inplace", *vfat.FLAGS)
    assert flags["srv/a*"] == (r"--exclude=/srv/a\*/b", *always, "--no-inc-recursive")


def test_what_an_image_of_another_kind_brought_stays() -> None:
    survey = _survey(mounts=(_mounted("/"), _mounted("/home")))
    image = Image("b", Location("rsync://server/b"))
    flags = {share.folder: flags_for(image, share, ["-a"], after={"/home"})[-2:] for share in survey.shares}
    assert flags == {"": ("--whole-file", "--inplace"), "home": ("--ignore-existing", "--no-inplace")}


def test_field_35_inodes_are_those_of_the_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "mke2fs.conf"
    monkeypatch.setenv("MKE2FS_CONFIG", str(conf))
    assert [inode.ext_ratio("ext4", x) for x in (2 * MIB, 64 * MIB, GIB, 5 << 40, 17 << 40)] == [
        8192, 4096, 16384, 32768, 65536,
    ]  # fmt: skip
    conf.write_text(
        "[defaults]\n\tinode_ratio = 2048\n[fs_types]\n\text4 = {\n\t\tinode_ratio = 1024\n\t}\n\tsmall = {\n"
        "\t\tblocksize = 1024\n\t\tinode_ratio = 4096\n\t}\n"
    )
    assert [inode.ext_ratio(kind, GIB) for kind in ("ext3", "ext4")] == [2048, 1024]
    assert inode.ext_ratio("ext4", 64 * MIB) == 4096
    assert inode.at_most("btrfs", GIB) is None


@pytest.mark.pain("more-files-than-inodes")
def test_field_35_files_are_counted_for_each_volume() -> None:
    small = _mounted("/srv", size=8 * MIB)
    entries = [_file(f"srv/{number}", 0) for number in range(2200)]
    said = _said(_survey(*entries, mounts=(_mounted("/"), small)), UnsuitableNode, sparse=True)
    assert said == [
        "image 'a' has 2200 files for /srv, and /dev//srv (8 MiB) has inodes for 2077 at most as ext4; "
        "make it larger, or btrfs"
    ]
    kept = _mounted("/srv", size=8 * MIB, decision="keep")
    fitness.judge("a", _survey(*entries, mounts=(_mounted("/"), kept)), sparse=False)


@pytest.mark.pain("links-at-mount-points")
def test_field_36_the_way_to_a_mount_point_is_of_folders() -> None:
    mounts = (_mounted("/"), _mounted("/var/lib/x"))
    fitness.judge("a", _survey(Entry("var", "d", 0, "0:0"), _file("var/lib2"), mounts=mounts), sparse=False)
    assert _said(_survey(Entry("var/lib", "L", 3, "0:0", "state"), mounts=mounts), InvalidInput) == [
        "$[/var/lib/x].mount: image 'a' has a link to state at /var/lib, on the way to /var/lib/x, where no volume "
        "can be; mount it at /var/state/x"
    ]
    below = _survey(Entry("lib", "L", 3, "0:0", "state"), target="/var", mounts=mounts)
    assert _said(below, InvalidInput)[0].endswith("mount it at /var/state/x")


@pytest.mark.parametrize(
    ("code", "said", "again"),
    [
        (5, "@ERROR: max connections (5) reached -- try again later", True),
        (5, "@ERROR: too many users", True),
        (5, "rsync: did not see server greeting", True),
        (5, "@ERROR: Unknown module 'a'", False),
        (5, "@ERROR: Unknown module 'busybox'", False),
        (5, "@ERROR: access denied to temporary from node (192.0.2.1)", False),
        (5, "@ERROR: auth failed on module too-many-busy", False),
        (5, "@ERROR: auth failed on module a", False),
        (5, "@ERROR: access denied to a from node (192.0.2.1)", False),
        (5, "@ERROR: failed to open lock file", False),
        (5, "@ERROR: chdir failed", False),
        (10, "rsync: [Receiver] failed to connect to server (192.0.2.1): Connection refused (111)", True),
        (10, "rsync: getaddrinfo: server 873: Temporary failure in name resolution", True),
        (10, "rsync: getaddrinfo: server 873: Name or service not known", False),
        (10, "bad response from proxy -- HTTP/1.0 503 Service Unavailable", True),
        (10, "bad response from proxy -- HTTP/1.0 403 Forbidden", False),
        (10, "bad response from proxy -- HTTP/1.1 403", False),
        (10, "bad response from proxy -- HTTP/1.1 407 Proxy Authentication Required", False),
        (10, "bad response from proxy -- HTTP/1.1 429 Too Many Requests", True),
        (12, "rsync: connection unexpectedly closed (0 bytes received so far) [receiver]", True),
        (23, 'rsync: [sender] send_files failed to open "try again": Permission denied (13)', False),
    ],
)
@pytest.mark.pain("busy-server")
def test_field_37_later_is_not_never(code: int, said: str, again: bool) -> None:
    assert rsync.is_transient(CommandError(["rsync"], code, "failed", stderr=said)) == again


def test_field_37_who_failed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def culprit(said: str) -> str | None:
        return rsync.culprit(CommandError(["rsync"], 10, "failed", stderr=said))

    refused = "rsync: [Receiver] failed to connect to x (192.0.2.1): Connection refused (111)"
    assert culprit("rsync: getaddrinfo: server 873: Name or service not known") == "the resolver"
    assert culprit("@ERROR: auth failed on module a") == (
        "the credentials, user in the URL and RSYNC_PASSWORD in the environment"
    )
    assert culprit(refused) is None
    monkeypatch.setenv("RSYNC_PROXY", "me:word@proxy:3128")
    assert culprit(refused) == "the proxy that RSYNC_PROXY names"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([Entry("boot/pipe", "S", 0, "0:0")], "vfat cannot hold /boot/pipe, a special file"),
        ([_file("boot/x", 4 * GIB)], "vfat cannot hold /boot/x, which has 4 GiB or more"),
        ([_file("boot/a?")], "vfat cannot hold the name /boot/a?"),
        ([_file("boot/dot.")], "vfat cannot hold the name /boot/dot."),
        ([_file("boot/A/x"), _file("boot/a/X")], "/boot/A/x and /boot/a/X are the same name to vfat"),
        ([Entry("boot/A", "L", 1, "0:0", "x"), _file("boot/a")], "/boot/A and /boot/a are the same name to vfat"),
        ([_file("boot/" + "\N{GRINNING FACE}" * 128)], "vfat cannot hold a name as long as /boot/"),
        ([_file(f"boot/vmlinuz-6.1.{n}-amd64") for n in range(200)], "has more in /boot than the top folder"),
    ],
)
def test_field_46_what_vfat_cannot_hold(entries: list[Entry], reason: str) -> None:
    mounts = (_mounted("/"), _mounted("/boot", "vfat", 8 * GIB))
    small = (_mounted("/"), _mounted("/boot", "vfat", 256 * MIB))
    lines = _said(_survey(*entries, mounts=small if len(entries) > 2 else mounts), InvalidInput)
    assert len(lines) == 1
    assert lines[0].startswith("$[/boot].file_system: image 'a'")
    assert reason in lines[0]


def test_field_46_what_vfat_holds_in_its_own_way() -> None:
    mounts = (_mounted("/"), _mounted("/boot", "vfat", 8 * MIB))
    survey = _survey(
        Entry("boot", "d", 0, "0:0"),
        Entry("boot/vmlinuz", "L", 3, "0:0", "vmlinuz-6"),
        Entry("boot/of-www", "f", 3, "33:33"),
        _file("boot/vmlinuz-6", 3 * MIB),
        _file("boot/again", 3 * MIB, same="boot/vmlinuz-6"),
        mounts=mounts,
    )
    fitness.judge("a", survey, sparse=False)
    assert list(survey.notes()) == ["vfat at /boot has no owners: files that become root's: 1"]
    # Names of one file are files of their own there, and take their room twice.
    assert survey.shares[1].bytes == 6 * MIB + 512


@pytest.mark.pain("links-on-vfat")
def test_field_46_links_on_vfat_become_copies(tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    (boot / "grub").mkdir(parents=True)
    (boot / "vmlinuz-6").write_text("kernel")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/x").touch()
    links = {
        "/boot/vmlinuz": "vmlinuz-6", "/boot/old": "/boot/vmlinuz", "/boot/boot": ".", "/boot/out": "../etc/x",
        "/boot/circle": "circle", "/boot/nothing": "nowhere", "/boot/grub/up": "../vmlinuz-6",
    }  # fmt: skip
    for _ in range(2):
        left = vfat.replace_links(links, "/boot", Tree(str(tmp_path)))
        assert left == ["/boot/boot", "/boot/circle", "/boot/nothing", "/boot/out"]
        copies = [boot / "vmlinuz", boot / "old", boot / "grub/up"]
        assert {x.read_text() for x in copies} == {"kernel"}
        assert not any(x.is_symlink() for x in copies)
        os.utime(boot / "vmlinuz", (1, 1))
    assert (boot / "vmlinuz").stat().st_mtime == 1  # what is there already is not written again

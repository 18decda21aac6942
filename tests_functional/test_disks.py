# SPDX-License-Identifier: Apache-2.0
"""Images of whole disks brought onto real file systems by the deploy driver's steps.

No virtual machine: the volumes are loop devices of this machine, the image is made by sfdisk and mkfs.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.drivers.deploy import staging
from bareon.drivers.deploy.asblocks import CheckOwnFstab, as_blocks
from bareon.drivers.deploy.disk import WriteParts
from bareon.drivers.deploy.parttree import CopyParts
from bareon.drivers.deploy.wholedisk import Looked
from bareon.errors import ActionFailed, BareonError, ImageFailed, UnsuitableNode
from bareon.model.deployment import Deployment
from bareon.model.image import Digest, Image, Part
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.sizes import Absolute
from bareon.step import Outcome, Step
from bareon.storage.disk import Disk, DiskId, Partition
from bareon.storage.filesystem import Filesystem, Mount
from bareon.tools import blkid, udev
from building.process import run
from tests_functional.bench.volumes import MIB, Volumes, volumes
from tests_functional.test_archives import entries, is_blank, source

SYSTEM = ("/", "ext4", 96), ("/boot", "ext4", 48), ("/var", "xfs", 320)
ROOT, BOOT, ESP = 2, 3, 4
TABLE = """\
label: gpt
start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649
start=34815, size=131072, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name="main"
start=165888, size=65536, type=BC13C2FF-59E6-4262-A352-B275FD6F7172, name="data"
start=231424, size=65536, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name="data"
"""
SIZE = 160 * MIB
START = 34815 * 512
FSTAB = """\
# /etc/fstab: static file system information
UUID={root} / ext4 errors=remount-ro 0 1
UUID={boot}  /boot ext4 defaults 0 2
UUID=ABCD-EF01 /boot/efi vfat umask=0077 0 1
tmpfs /tmp tmpfs defaults 0 0
"""
IDS = {"root": "11111111-2222-4333-8444-555555555555", "boot": "21111111-2222-4333-8444-555555555555"}
#: No other test's: mkfs.btrfs refuses an identity that any device has, those of tests beside this one as well.
BTRFS_ID = "31111111-2222-4333-8444-555555555555"


def whole_disk(place: Path, tree: Path, fstab: str = FSTAB) -> Path:
    """A disk as a vendor has it, with the files of a tree on its root, and a kernel on another file system."""
    kernel = place / "kernel"
    kernel.mkdir()
    (kernel / "vmlinuz").write_bytes(random.Random(1).randbytes(300000))
    (tree / "etc").mkdir(exist_ok=True)
    (tree / "etc/fstab").write_text(fstab.format(**IDS))
    disk = place / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(SIZE)
    run(["sfdisk", "--quiet", disk], timeout=60, stdin=TABLE)
    for start, size, content, uuid in ((34815, 131072, tree, IDS["root"]), (165888, 65536, kernel, IDS["boot"])):
        part = place / "part"
        with part.open("wb") as file:
            file.truncate(size * 512)
        run(["mke2fs", "-q", "-t", "ext4", "-U", uuid, "-d", content, part], timeout=60)
        run(["dd", f"if={part}", f"of={disk}", "bs=512", f"seek={start}", "conv=notrunc,sparse"], timeout=60)
        part.unlink()
    run(["mkfs.vfat", "-i", "ABCDEF01", "--offset=231424", disk, "32768"], timeout=60)
    return disk


def packed(disk: Path, form: str) -> Path:
    """The same disk in another form."""
    if form == "raw":
        return disk
    made = disk.with_name(f"disk.{form}")
    if form == "qcow2":
        run(["qemu-img", "convert", "-c", "-O", "qcow2", disk, made], timeout=300)
    else:
        run(["zstd", "-q", disk, "-o", made], timeout=300)
    return made


SUBVOLUMES = """\
mkdir "$2" && mount -o loop "$1" "$2" && cd "$2"
btrfs subvolume create system > /dev/null && btrfs subvolume create @home > /dev/null
mkdir system/etc system/nested
btrfs subvolume create system/nested/deep > /dev/null && echo deep > system/nested/deep/file
echo "UUID=$3 / btrfs subvol=system 0 0" > system/etc/fstab
echo "UUID=$3 /home btrfs subvol=/@home 0 0" >> system/etc/fstab
echo home > @home/file && echo top > top
cd / && umount "$2"
"""


def btrfs_disk(place: Path) -> Path:
    """A disk with a Btrfs, whose subvolumes its fstab mounts, but for one that lies in another."""
    part, disk = place / "part", place / "btrfs.raw"
    for file, size in ((part, 128), (disk, 130)):
        with file.open("wb") as made:
            made.truncate(size * MIB)
    run(["mkfs.btrfs", "--quiet", "--uuid", BTRFS_ID, part], timeout=60)
    run(["unshare", "--mount", "sh", "-ec", SUBVOLUMES, "fill", part, place / "top", BTRFS_ID], timeout=60)
    run(["sfdisk", "--quiet", disk], timeout=60, stdin="label: dos\nstart=2048, size=262144, type=83\n")
    run(["dd", f"if={part}", f"of={disk}", "bs=1M", "seek=1", "conv=notrunc,sparse"], timeout=60)
    return disk


def image(file: Path, *parts: Part, digest: str | None = None) -> Image:
    wanted = digest or hashlib.sha256(file.read_bytes()).hexdigest()
    return Image("a", Location(file.as_uri()), digest=Digest("sha256", wanted), parts=parts)


def copy(wanted: Image, made: Volumes) -> CopyParts:
    settings = TransferSettings()
    looked = Looked(wanted, settings)
    return CopyParts("do_copyimage", wanted, made.mounts, settings, looked=looked, parts=wanted.parts)


def brought(step: Step) -> Outcome:
    step.preflight()
    return step.run(lambda done, total: None)


def failed(step: Step, kind: type[BareonError] = ImageFailed) -> str:
    with pytest.raises(kind) as caught:
        brought(step)
    return str(caught.value)


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["in memory", "on a volume"])
@pytest.mark.parametrize("form", ["raw", "qcow2", "zst"])
def test_trees_arrive_as_they_were(form: str, memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "available_memory", lambda: memory)
    with source() as tree, volumes(*SYSTEM) as made:
        file = packed(whole_disk(tmp_path, tree), form)
        outcome = brought(copy(image(file), made))
        assert outcome["served_bytes"] == file.stat().st_size
        with made.tree() as root:
            assert (root / "boot/vmlinuz").read_bytes() == (tmp_path / "kernel/vmlinuz").read_bytes()
            assert (root / "d/f").samefile(root / "d/hard")
            found, wanted = entries(root), entries(tree)
    for name in (b".", b"boot", b"boot/vmlinuz", b"var"):
        found.pop(name, None), wanted.pop(name, None)
    lost = {x for x in found if x.endswith(b"lost+found")}
    assert {x: y for x, y in found.items() if x not in lost} == {
        x: y for x, y in wanted.items() if not x.endswith(b"lost+found")
    }


def test_parts_are_found_by_number_name_and_type(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    file = whole_disk(tmp_path, tree)
    with volumes(*SYSTEM[:2]) as made:
        brought(copy(image(file, Part("main"), Part("boot", "/boot/own")), made))
        with made.tree() as root:
            assert (root / "a").is_dir()
            assert (root / "boot/own/vmlinuz").is_file()
    with volumes(*SYSTEM[:1]) as made:
        said = failed(copy(image(file, Part(7)), made))
        assert "no partition is 7; there are: 1 (BIOS boot, 1 MiB); 2 (root of x86-64, 'main', 64 MiB" in said
        assert "2 partitions are 'data'; there are:" in failed(copy(image(file, Part("data")), made))
        assert "is a partition that another part has" in failed(copy(image(file, Part("root"), Part(2, "/x")), made))
        assert not is_blank(made)


def test_subvolumes_come_as_the_fstab_of_one_of_them_says(tmp_path: Path) -> None:
    file = btrfs_disk(tmp_path)
    with volumes(("/", "ext4", 32), ("/home", "ext4", 32)) as made:
        brought(copy(image(packed(file, "qcow2")), made))
        with made.tree() as root:
            assert (root / "home/file").read_text() == "home\n"
            assert "subvol=system" in (root / "etc/fstab").read_text()
            assert not (root / "top").exists()
            assert (root / "nested/deep/file").read_text() == "deep\n"


def test_a_block_and_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udev, "settle", lambda: None)  # not here
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    file = packed(whole_disk(tmp_path, tree), "qcow2")
    with volumes(*SYSTEM[:2]) as made:
        wanted = image(file, Part("root", form="block"))
        step = WriteParts(
            "do_copyimage", Looked(wanted, TransferSettings()), ((wanted.parts[0], made.mounts[0], 512),)
        )
        outcome = brought(step)
        assert outcome["form"] == "disk, qcow2"
        assert blkid.probe([made.mounts[0].device])[made.mounts[0].device]["UUID"] == IDS["root"]
        brought(copy(replace(wanted, parts=(Part("boot", "/boot"),)), made))
        with made.tree() as root:
            assert (root / "boot/vmlinuz").is_file()
            assert (root / "a").is_dir()


@pytest.mark.parametrize(
    ("fstab", "said"),
    [
        (FSTAB, ""),
        (FSTAB.replace("/boot ext4", "/srv ext4"), "mounts partition 3 at /srv, and its type says /boot"),
        (FSTAB + "PARTLABEL=data /srv ext4 x\n", "mounts partition 3 at /srv"),
        (FSTAB + "UUID=9 /srv ext4 x\n", "which is none of its partitions"),
        (FSTAB + "/dev/sda1 /srv ext4 x\n", "mounts partition 1 at /srv, and it was taken for none"),
    ],
    ids=["agrees", "elsewhere", "twice", "unknown", "another"],
)
def test_blocks_that_nobody_asked_for_are_held_to_the_own_fstab(
    fstab: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udev, "settle", lambda: None)  # not here
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    file = packed(whole_disk(tmp_path, tree, fstab), "qcow2")
    with volumes(*SYSTEM[:2]) as made:
        looked = Looked(image(file), TransferSettings())
        wanted = Deployment("clean", (Disk(DiskId("name", "vda"), None, described(made)),), images=(looked.image,))
        parts = as_blocks(looked.image, wanted, looked.disk)
        assert [(x.partition, x.target) for x in parts] == [(ROOT, "/"), (BOOT, "/boot")]
        held = tuple(zip(parts, made.mounts, strict=True))
        brought(WriteParts("do_copyimage", looked, tuple((part, fs, 512) for part, fs in held)))
        step = CheckOwnFstab("do_copyimage", looked, held)
        if said:
            assert said in failed(step)
            assert is_blank(made)
        else:
            brought(step)
            assert not is_blank(made)


def described(made: Volumes) -> tuple[Partition, ...]:
    """Volumes as an input has them."""
    kinds = ((x.point, x.type, x.size) for x in made.mounts)
    return tuple(Partition(Absolute(size), Filesystem(kind, (Mount(p, images=("a",)),))) for p, kind, size in kinds)


def test_a_wrong_digest_leaves_nothing(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    file = whole_disk(tmp_path, tree)
    with volumes(*SYSTEM[:2]) as made:
        assert "its sha256 is" in failed(copy(image(file, digest="00" * 32), made))
        assert is_blank(made)
    with volumes(*SYSTEM[:1]) as made:
        wanted = image(file, Part("root", form="block"), digest="00" * 32)
        step = WriteParts(
            "do_copyimage", Looked(wanted, TransferSettings()), ((wanted.parts[0], made.mounts[0], 512),)
        )
        assert "its sha256 is" in failed(step)
        assert is_blank(made)


def damaged(file: Path, offset: int, content: bytes) -> Path:
    with file.open("r+b") as disk:
        disk.seek(offset)
        disk.write(content)
    return file


@pytest.mark.parametrize(
    ("offset", "content", "said"),
    [
        (512 + 24, b"\2", "the check sum of its header is wrong"),
        (1024 + 40, b"\2", "the check sum of its partitions is wrong"),
        (START, b"LUKS\xba\xbe", "it holds crypto_LUKS"),
        (START + 512, b"LABELONE", "it holds LVM2_member"),
    ],
)
def test_what_is_refused_before_the_first_write(offset: int, content: bytes, said: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    file = whole_disk(tmp_path, tree)
    if offset >= START:
        damaged(file, START + 1024, bytes(1024))
    damaged(file, offset, content)
    with volumes(*SYSTEM[:1]) as made:
        assert said in failed(copy(image(file, Part("root")), made))
        assert not is_blank(made)


def test_links_lead_nowhere(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "boot").symlink_to("/run")
    (tree / "way").symlink_to("/")
    file = whole_disk(tmp_path, tree)
    with volumes(*SYSTEM[:2]) as made:
        assert "has a link to /run at /boot" in failed(copy(image(file, Part("root")), made))
        assert is_blank(made)
    with volumes(*SYSTEM[:1]) as made:
        said = failed(copy(image(file, Part("root"), Part("boot", "/way/x")), made), ActionFailed)
        assert "'way' is a link, a folder is needed" in said
        assert is_blank(made)


def test_a_damaged_file_system_is_no_system(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    file = packed(damaged(whole_disk(tmp_path, tree), START + 4096, bytes(2 * MIB)), "zst")
    with volumes(*SYSTEM[:1]) as made:
        assert "its ext4 file system is damaged" in failed(copy(image(file, Part("root")), made))
        assert is_blank(made)


def test_an_image_that_is_cut_short(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    file = whole_disk(tmp_path, tree)
    with file.open("r+b") as disk:
        disk.truncate(SIZE // 2)
    with volumes(*SYSTEM[:1]) as made:
        assert "it is cut short" in failed(copy(image(file, Part("root")), made))
        assert "it is cut short" in failed(copy(image(packed(file, "zst"), Part("root")), made))


def test_what_is_kept_gets_the_files_when_all_of_it_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    file = whole_disk(tmp_path, tree)
    with volumes(*SYSTEM[:2]) as made:
        with made.tree() as root:
            (root / "mine").write_text("mine")
        with monkeypatch.context() as patched:
            patched.setattr(staging, "available_memory", lambda: 0)
            assert "is to be read whole" in failed(copy(image(file), made.kept()), UnsuitableNode)
        assert "its sha256 is" in failed(copy(image(file, digest="00" * 32), made.kept()))
        brought(copy(image(file), made.kept()))
        with made.tree() as root:
            assert (root / "mine").read_text() == "mine"
            assert (root / "boot/vmlinuz").is_file()

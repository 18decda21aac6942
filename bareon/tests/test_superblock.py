# SPDX-License-Identifier: Apache-2.0
"""Superblocks of images: whole or cut short, half of a set, larger than the volume, or no file system at all."""

from __future__ import annotations

import base64
import bz2
import contextlib
import gzip
import json
import lzma
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from bareon.actions.copyimage import CopyImage
from bareon.actions.partitioning import Partitioning
from bareon.decide import decide
from bareon.drivers.data.ironic import Ironic
from bareon.drivers.deploy import offer
from bareon.drivers.deploy.swift import Swift, WriteImage
from bareon.errors import ImageFailed, UnsuitableNode
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.sizes import MIB
from bareon.storage.filesystem import Filesystem, Mount, Mounted, PlannedFilesystem
from bareon.tests.cases import SEED, node
from bareon.tests.filesystems import SIZES, made, with_ext2
from bareon.tests.imageserver import Fault, serving
from bareon.transfer.image import inspect, write
from bareon.transfer.source import FileSource
from bareon.transfer.superblock import SEEN, Superblock, read

SETTINGS = TransferSettings(attempts=2, back_off=0.01)
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda plain: gzip.compress(plain, 1),
    "zst": lambda plain: zstd.compress(plain, 1),
    "xz": lambda plain: lzma.compress(plain, preset=0),
    "bz2": lambda plain: bz2.compress(plain, 1),
}
#: Whether the size of an image can be told before it is brought.
FORMS = {"raw": True, "gz": True, "zst": True, "xz": True, "bz2": False, "qcow2": True}
KINDS = tuple(SIZES)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the programs for all file systems for installed."""
    monkeypatch.setattr(offer, "missing", lambda programs: [])


def packed(path: Path, form: str) -> Path:
    """The image in a file, in another form."""
    image = path.with_suffix(f".{form}")
    if form == "raw":
        return path
    if form == "qcow2":
        if shutil.which("qemu-img") is None:
            pytest.skip("needs qemu-img")
        argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", str(path), str(image)]
        subprocess.run(argv, check=True, capture_output=True)
    else:
        image.write_bytes(PACK[form](path.read_bytes()))
    return image


def step(url: str, room: int = 512 * MIB, point: str = "/srv") -> WriteImage:
    place = Mounted(PlannedFilesystem("/dev/none", room, "ext4", "", Filesystem("ext4")), Mount(point))
    return WriteImage("do_copyimage", Image("root", Location(url)), place, SETTINGS)


def bring(url: str, device: Path) -> None:
    with device.open("wb") as file:
        file.write(b"\xee" * MIB)
        file.truncate(512 * MIB)
    write(
        Location(url),
        str(device),
        limit=512 * MIB,
        digest=None,
        settings=SETTINGS,
        progress=lambda served, of: None,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_field_39_each_kind_says_its_size(tmp_path: Path, kind: str) -> None:
    found = read(made(tmp_path / "image", kind).read_bytes()[:SEEN])
    assert (found.type, found.table, found.lacking) == (kind, None, None)
    assert found.size is not None and SIZES[kind] - 64 * 1024 <= found.size <= SIZES[kind]


def test_field_39_vfat_is_as_large_as_it_says() -> None:
    captured = Path(__file__).parent / "captured" / "vfat16.gz.b64"
    content = gzip.decompress(base64.b64decode(captured.read_bytes()))
    assert read(content[:SEEN]) == Superblock("vfat", size=len(content))


@pytest.mark.parametrize("options", [["-b", "1024"], ["-b", "2048"], ["-O", "bigalloc"], ["-O", "^64bit"]], ids=str)
def test_field_39_any_ext4(tmp_path: Path, options: list[str]) -> None:
    assert read(made(tmp_path / "image", "ext4", *options).read_bytes()).size == SIZES["ext4"]


def test_field_39_more_blocks_than_32_bits_hold() -> None:
    head = bytearray(SEEN)
    struct.pack_into("<I", head, 1024 + 4, 5)
    struct.pack_into("<I", head, 1024 + 24, 2)
    struct.pack_into("<I", head, 1024 + 96, 1 << 7)
    struct.pack_into("<I", head, 1024 + 336, 3)
    head[1080:1082] = b"\x53\xef"
    assert read(bytes(head)) == Superblock("ext4", None, (3 << 32 | 5) * 4096, 4096)


@pytest.mark.parametrize("form", FORMS)
def test_field_39_a_whole_image_arrives(tmp_path: Path, form: str) -> None:
    url = f"file://{packed(made(tmp_path / 'image', 'ext4'), form)}"
    step(url).preflight()
    bring(url, tmp_path / "device")


@pytest.mark.parametrize(
    ("kind", "form", "left"),
    [
        *(("ext4", form, left) for form in FORMS for left in (3 * MIB, SIZES["ext4"] - 4096)),
        ("ext4", "raw", SIZES["ext4"] - 1),
        ("ext4", "raw", 2048),
        *(
            (kind, form, SIZES[kind] // 2)
            for kind in ("ext2", "ext3", "vfat", "btrfs", "xfs")
            for form in ("raw", "gz")
        ),
        ("btrfs", "qcow2", 100 * MIB),
        ("xfs", "zst", 299 * MIB),
    ],
)
@pytest.mark.pain("truncated-image")
def test_field_39_an_image_that_is_cut_short(tmp_path: Path, kind: str, form: str, left: int) -> None:
    path = made(tmp_path / "image", kind)
    os.truncate(path, left)
    url = f"file://{packed(path, form)}"
    words = rf"is cut short: its {kind} file system has .*, the image .*\({left} bytes\)"
    with pytest.raises(ImageFailed, match=words) if FORMS[form] else contextlib.nullcontext():
        step(url).preflight()
    with pytest.raises(ImageFailed, match=words):
        bring(url, tmp_path / "device")
    with (tmp_path / "device").open("rb") as device:
        assert not any(device.read(MIB))


@pytest.mark.parametrize("form", FORMS)
def test_field_39_little_of_a_whole_image_is_read_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    path = made(tmp_path / "image", "ext4")
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(random.Random(5).randbytes(SIZES["ext4"] - MIB))
    image = packed(path, form)
    assert image.stat().st_size > 7 * MIB
    read_of, counts = FileSource._read, list[int]()

    def counting(source: FileSource, offset: int, buffer: memoryview) -> int:
        counts.append(read_of(source, offset, buffer))
        return counts[-1]

    monkeypatch.setattr(FileSource, "_read", counting)
    step(f"file://{image}").preflight()
    assert 0 < sum(counts) < 2 * MIB


def test_field_39_without_a_length(tmp_path: Path) -> None:
    content = made(tmp_path / "image", "ext4").read_bytes()
    with serving(content[: 5 * MIB]) as site:
        site.always = Fault(chunked=True)
        step(site.url).preflight()
        with pytest.raises(ImageFailed, match="is cut short"):
            bring(site.url, tmp_path / "device")


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.pain("wrong-size-in-header")
def test_field_39_several_frames(tmp_path: Path, whole: bool) -> None:
    content = made(tmp_path / "image", "ext4").read_bytes()
    frames = [zstd.compress(content[start : start + MIB]) for start in range(0, (8 if whole else 7) * MIB, MIB)]
    skipped = struct.pack("<II", 0x184D2A50, 4) + b"size"
    for name, data in (("plain", b"".join(frames)), ("pzstd", b"".join(skipped + frame for frame in frames))):
        (tmp_path / name).write_bytes(data)
    known = step(f"file://{tmp_path}/plain")
    with contextlib.nullcontext() if whole else pytest.raises(ImageFailed, match=f"{7 * MIB} bytes"):
        known.preflight()
    step(f"file://{tmp_path}/pzstd").preflight()
    with contextlib.nullcontext() if whole else pytest.raises(ImageFailed, match="is cut short"):
        bring(f"file://{tmp_path}/pzstd", tmp_path / "device")


@pytest.mark.parametrize(
    ("form", "words"),
    [("qcow2", "outside the file"), ("gz", "is cut off"), ("xz", "does not end where the file does")],
)
def test_field_39_a_packed_file_that_is_cut_short(tmp_path: Path, form: str, words: str) -> None:
    image = made(tmp_path / "image", "ext4")
    with image.open("r+b") as file:
        file.seek(MIB)
        file.write(random.Random(6).randbytes(MIB))
    path = packed(image, form)
    os.truncate(path, path.stat().st_size * 2 // 3)
    with pytest.raises(ImageFailed, match=words):
        step(f"file://{path}").preflight()


def test_padding_behind_xz_is_no_fault(tmp_path: Path) -> None:
    path = packed(made(tmp_path / "image", "ext4"), "xz")
    path.write_bytes(path.read_bytes() + bytes(8))
    step(f"file://{path}").preflight()
    bring(f"file://{path}", tmp_path / "device")
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ImageFailed, match="something is behind it"):
        step(f"file://{path}").preflight()


def test_field_39_padding_is_no_fault(tmp_path: Path) -> None:
    path = made(tmp_path / "image", "ext4")
    os.truncate(path, SIZES["ext4"] + 5 * MIB)
    for form in FORMS:
        url = f"file://{packed(path, form)}"
        step(url).preflight()
        bring(url, tmp_path / "device")


@pytest.mark.parametrize("form", ["gz", "bz2"])
def test_field_39_a_file_system_larger_than_the_volume(tmp_path: Path, form: str) -> None:
    url = f"file://{packed(made(tmp_path / 'image', 'ext4'), form)}"
    with pytest.raises(
        UnsuitableNode, match="image 'root' has a file system of 8 MiB, and /dev/none for /srv holds 4 MiB"
    ):
        step(url, 4 * MIB).preflight()


def test_field_39_a_sparse_giant(tmp_path: Path) -> None:
    with (tmp_path / "image").open("wb") as file:
        file.truncate(1 << 42)
    image = packed(tmp_path / "image", "qcow2")
    with image.open("rb") as file:
        assert inspect(Location(f"file://{image}"), SETTINGS).size == 1 << 42
    (tmp_path / "small").write_bytes(with_ext2(bytes(MIB)))
    grown = packed(tmp_path / "small", "qcow2")
    subprocess.run(["qemu-img", "resize", "-f", "qcow2", str(grown), "1T"], check=True, capture_output=True)
    with pytest.raises(UnsuitableNode, match="image 'root' has 1048576 MiB, and"):
        step(f"file://{grown}").preflight()


@pytest.mark.pain("image-for-other-sectors")
def test_blocks_that_are_smaller_than_sectors(tmp_path: Path) -> None:
    small = step(f"file://{made(tmp_path / 'small', 'ext4', '-b', '1024')}")
    small.preflight()
    words = "image 'root' is ext4 with blocks of 1024 bytes, and /dev/none for /srv has sectors of 4096: make it with"
    with pytest.raises(UnsuitableNode, match=words):
        replace(small, sector=4096).preflight()
    large = step(f"file://{made(tmp_path / 'large', 'ext4', '-b', '4096')}")
    replace(large, sector=4096).preflight()


def test_sectors_of_what_a_volume_lies_on() -> None:
    facts = node("four-disks")
    facts = replace(
        facts, disks=tuple(replace(x, logical_sector=4096 if x.device == "/dev/vdb" else 512) for x in facts.disks)
    )

    def raid(name: str) -> dict[str, str]:
        return {"type": "raid", "name": name, "mount": "/", "size": "1 GiB", "images": ["a"]}

    disks: dict[str, list[dict[str, object]]] = {
        "vda": [{**raid("root")}, {"type": "partition", "mount": "/", "size": "1 GiB", "images": ["b"]}],
        "vdb": [{**raid("root")}, {"type": "pv", "vg": "v", "size": "1 GiB"}],
    }
    volume = {"type": "lv", "name": "c", "mount": "/", "size": "512 MiB", "images": ["c"]}
    parts = [{"type": "disk", "id": {"type": "name", "value": x}, "volumes": y} for x, y in disks.items()]
    given = {
        "partitions_policy": "clean",
        "images": [{"name": x, "image_pull_url": f"http://server/{x}"} for x in "abc"],
        "partitions": [*parts, {"type": "vg", "id": "v", "volumes": [volume]}],
    }
    deployment = Ironic().parse(json.dumps(given).encode())
    steps = decide(deployment, facts, [Partitioning(), CopyImage()], Swift(), SEED).plan.steps
    assert [x.sector for x in steps if isinstance(x, WriteImage)] == [4096, 512, 4096]


@pytest.mark.parametrize(
    ("kind", "options", "unit"),
    [
        ("ext2", ["-b", "2048"], 2048),
        ("xfs", [], 512),
        ("xfs", ["-s", "size=4096"], 4096),
        ("btrfs", [], 4096),
        ("vfat", [], 512),
        ("vfat", ["-S", "4096"], 4096),
    ],
)
def test_blocks_of_each_kind(tmp_path: Path, kind: str, options: list[str], unit: int) -> None:
    assert read(made(tmp_path / "image", kind, *options).read_bytes()[:SEEN]).unit == unit


@pytest.mark.parametrize("point", ["/", "/usr", "/var"])
def test_vfat_for_a_system(tmp_path: Path, point: str) -> None:
    url = f"file://{made(tmp_path / 'image', 'vfat')}"
    step(url).preflight()
    with pytest.raises(ImageFailed, match=f"it is vfat, which keeps no owners, modes and links for {point}$"):
        step(url, point=point).preflight()


def test_another_type_than_described_needs_its_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"file://{made(tmp_path / 'image', 'btrfs')}"
    monkeypatch.setattr(offer, "missing", lambda programs: ["btrfstune"] if "btrfstune" in programs else [])
    with pytest.raises(UnsuitableNode, match="image 'root' is btrfs, whose programs are not installed: btrfstune"):
        step(url).preflight()


def test_half_of_a_btrfs(tmp_path: Path) -> None:
    path, other = made(tmp_path / "image", "btrfs"), made(tmp_path / "other", "btrfs")
    subprocess.run(["mkfs.btrfs", "-q", "-f", str(path), str(other)], check=True, capture_output=True)
    with pytest.raises(ImageFailed, match="one of the 2 devices of a btrfs"):
        step(f"file://{path}").preflight()
    with pytest.raises(ImageFailed, match="one of the 2 devices of a btrfs"):
        bring(f"file://{path}", tmp_path / "device")


def test_a_log_or_journal_elsewhere(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(bytes(64 * MIB))
    path = made(tmp_path / "image", "xfs", "-l", f"logdev={log},size=64M")
    assert read(path.read_bytes()[:SEEN]).lacking == "its log is on another device"
    head = bytearray(made(tmp_path / "ext4", "ext4").read_bytes()[:SEEN])
    head[1024 + 224 : 1024 + 228] = bytes(4)
    assert read(bytes(head)).lacking == "its journal is on another device"


def _table(folder: Path, label: str) -> bytes:
    path = folder / label
    path.write_bytes(bytes(4 * MIB))
    subprocess.run(["sfdisk", "-q", str(path)], input=f"label: {label}\n,\n".encode(), check=True)
    return path.read_bytes()


@pytest.mark.parametrize("label", ["gpt", "dos"])
@pytest.mark.parametrize("form", FORMS)
def test_a_whole_disk(tmp_path: Path, label: str, form: str) -> None:
    (tmp_path / "image").write_bytes(_table(tmp_path, label))
    with pytest.raises(ImageFailed, match=rf"image 'root': it is a whole disk with a partition table \({label}\)"):
        step(f"file://{packed(tmp_path / 'image', form)}").preflight()


def _at(offset: int, magic: bytes) -> bytes:
    return bytes(offset) + magic + bytes(SEEN - offset - len(magic))


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (bytes(SEEN), "no file system"),
        (_at(0, b"LUKS\xba\xbe\0\x02"), "crypto_LUKS"),
        (_at(512, b"LABELONE"), "LVM2_member"),
        (_at(4096, struct.pack("<I", 0xA92B4EFC)), "linux_raid_member"),
        (_at(1024, struct.pack("<I", 0xE0F5E1E2)), "erofs"),
        (_at(3, b"NTFS    ") + b"\x55\xaa", "ntfs"),
        (_at(4086, b"SWAPSPACE2"), "swap"),
    ],
)
@pytest.mark.pain("tiny-image")
def test_what_no_system_could_live_on(tmp_path: Path, head: bytes, name: str) -> None:
    (tmp_path / "image").write_bytes(head)
    for form in FORMS:
        with pytest.raises(ImageFailed, match=f"image 'root': it holds {name}.*, and needs to hold one of ext2"):
            step(f"file://{packed(tmp_path / 'image', form)}").preflight()


@pytest.mark.parametrize(("head", "name"), [(_at(0, b"hsqs"), "squashfs"), (_at(257, b"ustar"), "tar")])
def test_a_tree_where_a_file_system_is_wanted(tmp_path: Path, head: bytes, name: str) -> None:
    (tmp_path / "image").write_bytes(head)
    for form in FORMS:
        with pytest.raises(ImageFailed, match=rf"image 'root': it holds a tree of files \({name}\), no file system"):
            step(f"file://{packed(tmp_path / 'image', form)}").preflight()


@pytest.mark.parametrize(
    ("inner", "words"), [("qcow2", "a qcow2 image inside gzip"), ("xz", "compressed twice, xz inside gzip")]
)
def test_a_form_inside_a_form(tmp_path: Path, inner: str, words: str) -> None:
    nested = packed(packed(made(tmp_path / "image", "ext4"), inner), "gz")
    with pytest.raises(ImageFailed, match=words):
        step(f"file://{nested}").preflight()
    with pytest.raises(ImageFailed, match=words):
        bring(f"file://{nested}", tmp_path / "device")


def test_a_beginning_that_does_not_come(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(struct.pack("<II", 0x184D2A50, 8 * MIB) + bytes(8 * MIB) + zstd.compress(b"x"))
    assert inspect(Location(f"file://{tmp_path}/image"), SETTINGS).superblock is None
    step(f"file://{tmp_path}/image").preflight()


@given(
    st.sampled_from(["ext2", "xfs", "btrfs", "vfat"]), st.lists(st.tuples(st.integers(0, 600), st.binary(max_size=9)))
)
@settings(max_examples=300, deadline=None)
def test_any_damage(kind: str, changes: list[tuple[int, bytes]]) -> None:
    starts = {"ext2": (1080, b"\x53\xef"), "xfs": (0, b"XFSB"), "btrfs": (65600, b"_BHRfS_M"), "vfat": (0, b"\xeb")}
    offset, magic = starts[kind]
    head = bytearray(_at(offset, magic))
    for place, new in changes:
        head[offset + place : offset + place + len(new)] = new
    found = read(bytes(head))
    assert found.size is None or found.size > 0
    assert read(bytes(head[: offset + 40])).size is None

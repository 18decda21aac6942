# SPDX-License-Identifier: Apache-2.0
"""What an initramfs carries, whoever made it, and what it lacks of what gets at a root file system."""

from __future__ import annotations

import bz2
import ctypes
import gzip
import io
import lzma
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from backports import zstd

from bareon.storage.disk import Driver
from bareon.system.carried import Carried, Needs, carried, missing, of_names
from bareon.system.tree import Tree
from bareon.tests import efiprogram
from bareon.tests.cases import HERE, load, plan_of
from bareon.transfer import cpio, lz4

PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": zstd.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "bzip2": bz2.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "lz4": lambda data: lz4_legacy(data),
}


def lz4_legacy(data: bytes) -> bytes:
    """A legacy frame, as ``lz4 -l`` makes it."""
    library, found = ctypes.CDLL(lz4.LIBRARY), lz4.MAGIC
    for start in range(0, len(data), 8 << 20):
        block = data[start : start + (8 << 20)]
        room = ctypes.create_string_buffer(len(block) + len(block) // 255 + 16)
        count = library.LZ4_compress_default(block, room, len(block), len(room))
        found += count.to_bytes(4, "little") + room.raw[:count]
    return found


def member(name: str, content: bytes = b"", magic: bytes = b"070701") -> bytes:
    """A member of an archive in the form newc, as ``cpio -H newc`` pads it."""
    named = name.encode() + b"\0"
    numbers = (1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(named), 0)
    head = magic + b"".join(b"%08X" % x for x in numbers) + named
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def archive(*names: str, content: bytes = b"x") -> bytes:
    """An archive with these members, which ends at a multiple of 512 bytes."""
    data = b"".join(member(name, content) for name in names) + member("TRAILER!!!")
    return data + bytes(-len(data) % 512)


def names(data: bytes) -> frozenset[str]:
    return cpio.names(io.BytesIO(data))


@pytest.mark.parametrize("form", PACKERS)
def test_names_of_each_form(form: str) -> None:
    pack = PACKERS[form]
    assert names(pack(archive("usr/sbin/lvm", "./init", "/etc/x", content=b"y" * 100_001))) == {
        *("usr/sbin/lvm", "init", "etc/x")
    }
    early = archive("kernel/x86/microcode/GenuineIntel.bin", content=bytes(5000))
    assert len(names(early + pack(archive("init")))) == 2
    # The kernel takes any number of archives, packed or not, in any order.
    assert names(pack(archive("a")) + bytes(8) + pack(archive("b")) + archive("c")) == {"a", "b", "c"}


def test_the_other_magic_is_one_with_checksums() -> None:
    assert names(member("a", b"xyz", b"070702") + member("TRAILER!!!")) == {"a"}
    assert names(member("a") + member("TRAILER!!!").rstrip(b"\0")) == {"a"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "there is nothing in it"),
        (bytes(512), "there is nothing in it"),
        (b"initramfs", "its form is none that is known"),
        (b"\x02\x21\x4c\x18....", "its form is none that is known"),
        (PACKERS["lz4"](archive("a"))[:-5], "the lz4 stream is damaged or cut off"),
        (lz4.MAGIC + b"\5\0\0\0\xff\xff\xff\xff\xff", "the lz4 stream is damaged or cut off"),
        (lz4.MAGIC, "there is nothing in it"),
        (b"\x89LZO\0....", "its form is lzo"),
        (b"\x5d\0\0\x80....", "the lzma stream does not end"),
        (b"\x5d\0\0\0\x80" + b"\xff" * 8 + bytes(32), "needs more memory than allowed"),
        (archive("a", "b")[:200], "cut off|no header"),
        (PACKERS["gzip"](archive("a"))[:-9], "the gzip stream does not end"),
        (zstd.compress(archive("a"))[:20], "damaged|does not end"),
        (PACKERS["gzip"](PACKERS["gzip"](archive("a"))), "something else than cpio in it"),
        (member("a")[:54] + b"FFFFFFFF" + member("a")[62:], "cut off"),
        *(
            (member("a")[:54] + number + member("a")[62:] + member("TRAILER!!!"), "a size that is no number")
            for number in (b"+0000000", b"-0000000", b"0000 000", b"      00", b"0_000000", b"0x000000", b"0000\n000")
        ),
        (member("a")[:94] + b"FFFFFFFF" + member("a")[102:], "no name that can be"),
        (member("a")[:94] + b"00000000" + member("a")[102:], "no name that can be"),
        (member("a") + b"070709", "has no header"),
    ],
    ids=lambda value: value if isinstance(value, str) else "bytes",
)
def test_what_cannot_be_read(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        names(data)


def test_lz4_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = PACKERS["lz4"](archive("a"))
    # Frames that were put together, as the kernel takes them.
    assert names(packed + PACKERS["lz4"](archive("b", content=b"y" * (9 << 20)))) == {"a", "b"}
    monkeypatch.setattr(lz4, "LIBRARY", "libnone.so.1")
    with pytest.raises(ValueError, match=r"its form is lz4, and the ramdisk has no libnone\.so\.1"):
        names(packed)


def test_there_is_a_limit_to_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = zstd.compress(archive("a", content=bytes(8 << 20)))
    assert len(data) < 4096
    monkeypatch.setattr(cpio, "_LARGEST", 4 << 20)
    with pytest.raises(ValueError, match="it holds more than"):
        names(data)
    part = zstd.compress(archive("a", content=bytes(1 << 20)))
    assert names(part * 3) == {"a"}
    with pytest.raises(ValueError, match="it holds more than"):
        names(part * 5)
    monkeypatch.setattr(cpio, "_TOGETHER", 2000)
    with pytest.raises(ValueError, match="longer names than can be"):
        names(archive("a" * 1000, "b" * 1000))
    packed = [zstd.compress(archive(x * 1000)) for x in ("a", "b")]
    for parts in ([packed[0], packed[1]], [archive("a" * 1000), packed[1]]):
        with pytest.raises(ValueError, match="longer names than can be"):
            names(b"".join(parts))
    monkeypatch.setattr(cpio, "_MOST", 2)
    with pytest.raises(ValueError, match="it has more than 2 members"):
        names(archive("a", "b", "c"))


def test_there_is_a_limit_to_the_number_of_parts() -> None:
    """Each has what is read ahead put back as a whole."""
    part = gzip.compress(b"\0", mtime=0)
    assert names(archive("a") + part * 1024) == {"a"}
    with pytest.raises(ValueError, match="it has more than 1024 parts"):
        names(archive("a") + part * 1025)


def test_few_zeros_in_many_places_are_looked_at_once() -> None:
    """The rest of a piece is not copied for each: from 64 MiB in few bytes that would be hours."""
    gaps = cpio._Bytes(iter([(b"\0" * 4 + b"x" * 12) * 65536]))
    seen = 0
    before = time.process_time()
    while gaps.more():
        gaps.skip_zeros()
        seen += len(gaps.take(12))
    assert (seen, time.process_time() - before < 5) == (12 * 65536, True)


@pytest.mark.parametrize("form", PACKERS)
def test_broken_ones_are_names_or_a_reason(form: str) -> None:
    dice = random.Random(form)
    whole = archive("early") + PACKERS[form](archive(*(f"usr/lib/modules/6.1/{x}.ko" for x in range(40))))
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(data))
            data[at : at + dice.randint(0, 3)] = dice.randbytes(dice.randint(0, 3))
        try:
            assert isinstance(names(bytes(data)), frozenset)
        except ValueError as error:
            assert str(error)


RELEASE = "6.1.0-9-amd64"
NAMES = frozenset(
    {
        f"usr/lib/modules/{RELEASE}/kernel/drivers/ata/ahci.ko",
        f"lib/modules/{RELEASE}/kernel/drivers/md/dm-mod.ko.xz",
        f"lib/modules/{RELEASE}/updates/raid1.ko.zst",
        "lib/modules/5.10.0-1-amd64/kernel/fs/ext4/ext4.ko",
        *("usr/sbin/lvm", "sbin/mdadm", "usr/lib/systemd/systemd-cryptsetup", "scripts/local-top/cryptsetup"),
    }
)
AHCI = Driver("ahci", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01")
BLK = Driver("virtio_blk", "virtio:d00000002v00001AF4")
INDEX = {
    "modules.dep": b"kernel/a/ahci.ko:\nkernel/b/virtio_blk.ko:\nkernel/c/dm-mod.ko:\nkernel/d/raid1.ko:\n"
    b"kernel/e/ata_piix.ko:\nkernel/f/ext4.ko:\n",
    "modules.alias": b"alias virtio:d00000002v* virtio_blk\nalias pci:v00008086d00002922sv*sd*bc*sc*i* ata-piix\n",
    "modules.builtin": b"kernel/fs/xfs/xfs.ko\n",
}


def test_modules_and_programs_have_their_places() -> None:
    found = of_names(NAMES, RELEASE)
    assert found.modules == {"ahci", "dm_mod", "raid1"}
    assert found.programs == {"lvm", "mdadm", "systemd-cryptsetup"}


@pytest.mark.parametrize(
    ("needs", "there", "gone"),
    [
        (Needs(), Carried(frozenset(), frozenset()), []),
        (Needs((AHCI,)), Carried(frozenset({"ahci"}), frozenset()), []),
        # Another module drives the device as well.
        (Needs((AHCI,)), Carried(frozenset({"ata_piix"}), frozenset()), []),
        (Needs((AHCI, BLK)), Carried(frozenset({"virtio_blk"}), frozenset()), ["the module ahci"]),
        (Needs((BLK,)), Carried(frozenset(), frozenset()), ["the module virtio_blk"]),
        # What the kernel does not know at all is said of the kernel.
        (Needs((Driver("nvme", "pci:v1"),)), Carried(frozenset(), frozenset()), []),
        (Needs(modules=("xfs", "ext4", "btrfs")), Carried(frozenset(), frozenset()), ["the module ext4"]),
        (Needs(modules=("dm_mod", "raid1")), of_names(NAMES, RELEASE), []),
        (
            Needs(programs=(("lvm",), ("mdadm",), ("cryptsetup", "systemd-cryptsetup"))),
            Carried(frozenset(), frozenset({"mdadm"})),
            ["the program lvm", "the program cryptsetup"],
        ),
        (Needs(programs=(("cryptsetup", "systemd-cryptsetup"),)), of_names(NAMES, RELEASE), []),
    ],
)
def test_what_is_missing(needs: Needs, there: Carried, gone: Sequence[str]) -> None:
    assert missing(needs, there, INDEX) == gone


def test_of_a_kernel_without_an_index_no_module_is_missing() -> None:
    needs = Needs((AHCI,), ("ext4",), (("lvm",),))
    assert missing(needs, Carried(frozenset(), frozenset()), {}) == ["the program lvm"]


def test_an_initramfs_in_a_tree(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/initrd.img").write_bytes(zstd.compress(archive(*NAMES)))
    assert carried(tree, "/boot/initrd.img", RELEASE) == of_names(NAMES, RELEASE)
    with pytest.raises(ValueError, match="no file"):
        carried(tree, "/boot/other", RELEASE)
    (tmp_path / "boot/initrd.img").write_bytes(efiprogram.program({".initrd": archive(*NAMES), ".sbat": b"x"}))
    assert carried(tree, "/boot/initrd.img", RELEASE) == of_names(NAMES, RELEASE)
    (tmp_path / "boot/initrd.img").write_bytes(efiprogram.program({".linux": b"x"}))
    with pytest.raises(ValueError, match="there is none in it"):
        carried(tree, "/boot/initrd.img", RELEASE)
    (tmp_path / "boot/initrd.img").write_bytes(archive("squash/root.img"))
    with pytest.raises(ValueError, match="a file system of its own"):
        carried(tree, "/boot/initrd.img", RELEASE)


def test_an_initramfs_is_decoded_once_until_it_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    names = cpio.names
    monkeypatch.setattr(cpio, "names", lambda file: looked.append(1) or names(file))
    (tmp_path / "boot").mkdir()
    for number, program in enumerate(("usr/sbin/lvm", "usr/sbin/mdadm"), 1):
        new = tmp_path / "boot/new"
        new.write_bytes(gzip.compress(archive(program)))
        new.replace(tmp_path / "boot/initrd.img")
        for _ in range(2):
            assert carried(Tree(str(tmp_path)), "/boot/initrd.img", RELEASE).programs == {program[9:]}
        assert len(looked) == number


def test_a_root_on_several_devices_asks_for_the_program_that_tells_the_kernel_of_them() -> None:
    for case, wanted in (("btrfs-pool", [("btrfs",)]), ("btrfs-subvolumes", [])):
        early = plan_of(load(HERE / f"cases/plan/{case}.yaml")).layout.early("a")
        assert (early.modules, list(early.programs)) == (("btrfs",), wanted)

# SPDX-License-Identifier: Apache-2.0
"""What is served in place of an image: refused by name before the first write, whatever kind is expected."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator

import pytest
from backports import zstd

from bareon.drivers.deploy.archive import UnpackArchive
from bareon.drivers.deploy.kinds import Auto
from bareon.drivers.deploy.ocilayout import UnpackOciLayout
from bareon.drivers.deploy.squashfs import UnpackSquashfs
from bareon.drivers.deploy.swift import WriteImage
from bareon.errors import ImageFailed
from bareon.model.deployment import Deployment
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.sizes import MIB
from bareon.storage.filesystem import Filesystem, Mount, Mounted, PlannedFilesystem
from bareon.tests.imageserver import Fault, Site, serving
from bareon.transfer.foreign import told
from bareon.transfer.superblock import SEEN

PACK: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "gzip": lambda plain: gzip.compress(plain, 1),
    "zstd": lambda plain: zstd.compress(plain, 1),
    "xz": lambda plain: lzma.compress(plain, preset=0),
    "bzip2": lambda plain: bz2.compress(plain, 1),
}
SETTINGS = TransferSettings(attempts=1, idle_timeout=5, connect_timeout=5)


def at(offset: int, magic: bytes, size: int = SEEN) -> bytes:
    """Zeros with a few bytes in them."""
    return (bytes(offset) + magic).ljust(size, b"\0")


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("disk.img", bytes(MIB))
    return file.getvalue()


def tar(*names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def isohybrid() -> bytes:
    """An ISO 9660 file system that a BIOS takes for a disk, too."""
    image = bytearray(at(32769, b"CD001"))
    image[446:462] = struct.pack("<B3xB3xII", 0x80, 0x17, 64, 99999)
    image[510:512] = b"\x55\xaa"
    return bytes(image)


def ext2(head: bytes) -> bytes:
    """The superblock of an ext2 of 1000 blocks among other bytes."""
    return head[:1028] + struct.pack("<I", 1000) + head[1032:1080] + b"\x53\xef" + head[1082:]


FOREIGN: dict[str, tuple[bytes, str]] = {
    "login page": (b"<!DOCTYPE html>\n<html><title>Sign in</title></html>", "a web page: give the URL of the file"),
    "page, blanks in front": (b"\xef\xbb\xbf\r\n  <HTML>" + b"x" * 5000, "a web page"),
    "page that is not ASCII": (b"<html>" + "ü".encode() * 700, "a web page"),
    "XML": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "an XML document"),
    "JSON": (json.dumps({"error": {"code": 404}}).encode(), "a JSON document"),
    "text": (b"404 page not found\n", "a text: give the URL of the file itself"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a pointer of Git LFS"),
    "signature": (b"-----BEGIN PGP SIGNATURE-----\n\niQ==\n", "a signature"),
    "nothing": (b"", "empty"),
    "VMDK": (at(0, b"KDMV\1\0\0\0"), "a VMDK image: convert it, qemu-img convert -O qcow2"),
    "VMDK of ESX": (at(0, b"COWD"), "a VMDK image"),
    "VMDK's descriptor": (b"# Disk DescriptorFile\nversion=1\n", "a VMDK image"),
    "VHD": (at(0, b"conectix"), "a VHD image: convert it"),
    "VHDX": (at(0, b"vhdxfile"), "a VHDX image: convert it"),
    "VDI": (b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0") + b"\x7f\x10\xda\xbe", "a VDI image"),
    "QED": (at(0, b"QED\0"), "a QED image"),
    "Parallels": (at(0, b"WithouFreSpacExt"), "a Parallels image"),
    "Android": (at(0, b"\x3a\xff\x26\xed"), "a sparse image of Android: convert it, simg2img"),
    "partclone": (at(0, b"partclone-image"), "an image of partclone: restore it"),
    "btrfs send": (at(0, b"btrfs-stream\0"), "a stream of btrfs send"),
    "WIM": (at(0, b"MSWIM\0\0\0"), "a WIM image"),
    "lz4": (at(0, b"\x04\x22\x4d\x18"), "compressed by lz4: compress it by zstd"),
    "lz4 of old": (at(0, b"\x02\x21\x4c\x18"), "compressed by lz4"),
    "LZO": (at(0, b"\x89LZO\0\r\n\x1a\n"), "compressed by lzop"),
    "lzip": (at(0, b"LZIP\1"), "compressed by lzip"),
    "lzma": (lzma.compress(bytes(MIB), lzma.FORMAT_ALONE), "compressed by lzma"),
    "compress": (at(0, b"\x1f\x9d\x90"), "compressed by compress"),
    "zip": (zipped(), "a zip archive: unpack it, and serve the image that is in it"),
    "7z": (at(0, b"7z\xbc\xaf\x27\x1c"), "a 7z archive"),
    "rar": (at(0, b"Rar!\x1a\x07\1\0"), "a rar archive"),
    "cpio": (at(0, b"07070100000001"), "a cpio archive, perhaps an initramfs"),
    "deb": (b"!<arch>\ndebian-binary   1700000000  0     0     100644  4         `\n2.0\n", "a Debian package"),
    "rpm": (at(0, b"\xed\xab\xee\xdb\3\0"), "an RPM package"),
    "ISO 9660": (at(32769, b"CD001"), "an ISO 9660 image, as of a CD: serve the squashfs or the root file system"),
    "ISO 9660 with a table": (isohybrid(), "an ISO 9660 image"),
    "OVA": (tar("machine.ovf", "disk.vmdk"), "an OVA, a machine for a hypervisor"),
    "docker save of old": (
        tar(f"{'ab' * 32}.json", "manifest.json"),
        "an archive of docker save that is no OCI layout: save it by Docker 25",
    ),
    "ELF": (at(0, b"\x7fELF\2\1\1"), r"a program \(ELF\)"),
    "kernel": (at(0x202, b"HdrS"), "a kernel"),
    "device tree": (at(0, b"\xd0\x0d\xfe\xed"), "a device tree"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
}

NO_FOREIGN: dict[str, bytes] = {
    "zeros": bytes(SEEN),
    "ext2 on what was a CD": ext2(at(32769, b"CD001")),
    "LUKS": at(0, b"LUKS\xba\xbe\0\2"),
    "squashfs": at(0, b"hsqs"),
    "tar": tar("etc/fstab"),
    "tar of a page": tar("<html>"),
    "disk that begins as a program": isohybrid()[:32768].replace(b"\0\0\0\0", b"MZ\0\0", 1),
    "no text": b"404\0page",
    "no UTF-8": b"page \xff",
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving(b"") as served:
        yield served


def steps(url: str) -> Iterator[WriteImage | UnpackArchive]:
    """The step for an image of each kind that comes as a file."""
    place = Mounted(PlannedFilesystem("/dev/none", 512 * MIB, "ext4", "", Filesystem("ext4")), Mount("/"))
    image = Image("root", Location(url))
    yield WriteImage("do_copyimage", image, place, SETTINGS)
    yield UnpackArchive("do_copyimage", image, (place,), SETTINGS)
    yield UnpackOciLayout("do_copyimage", image, (place,), SETTINGS)
    yield UnpackSquashfs("do_copyimage", image, (place,), SETTINGS)


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.pain("foreign-format")
def test_each_is_refused_by_its_name(name: str, site: Site) -> None:
    content, words = FOREIGN[name]
    for form, pack in PACK.items():
        site.body = pack(content)
        for step in steps(site.url):
            with pytest.raises(ImageFailed, match=f": is {words}") as caught:
                step.preflight()
            assert str(caught.value).count("\n") == 0, form


@pytest.mark.parametrize("name", NO_FOREIGN)
def test_what_is_none_of_it(name: str) -> None:
    assert told(NO_FOREIGN[name]) is None


@pytest.mark.parametrize("inner", ["gzip", "zstd", "xz", "bzip2"])
def test_a_second_packing(inner: str, site: Site) -> None:
    site.body = gzip.compress(PACK[inner](tar("a")))
    for step in steps(site.url):
        with pytest.raises(ImageFailed, match=f": is compressed twice, {inner} inside gzip: compress it once"):
            step.preflight()


@pytest.mark.pain("tiny-image")
def test_a_page_whatever_the_status_is_worth(site: Site) -> None:
    """The page comes once instead of the image, which nobody could know who looked at the kinds before."""
    site.body = tar("a")
    image = Image("root", Location(site.url))
    seen = Auto().look(Deployment("clean", (), images=(image,)), SETTINGS).images[0]
    assert Auto().kind_of(seen).name == "tar"
    site.faults.append(Fault(body=FOREIGN["login page"][0]))
    _, archive, *_ = steps(site.url)
    with pytest.raises(ImageFailed, match="is a web page"):
        archive.preflight()
    archive.preflight()

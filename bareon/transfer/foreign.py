# SPDX-License-Identifier: Apache-2.0
"""What is served in place of an image, told by the first bytes of what is in the file, and what would mend it.

Every kind of image is held to the one table here, before anything is written.
"""

from __future__ import annotations

from typing import NamedTuple

from bareon.errors import ImageFailed
from bareon.transfer import ocilayout, superblock
from bareon.transfer.tarstream import begins


class Foreign(NamedTuple):
    """Something that is no image: what it is, what would mend it, and the places at one of which such bytes stand.

    ``over`` is true for what may have a partition table in front, for a firmware, and is no disk for all that.
    """

    name: str
    mend: str
    places: tuple[tuple[int, bytes], ...]
    over: bool = False


_CONVERT = "convert it, qemu-img convert -O qcow2"
_REPACK = "compress it by zstd, xz, gzip or bzip2"
_UNPACK = "unpack it, and serve the image that is in it"
_RESTORE = "restore it, and serve the file system, or a tar archive of the tree"
_TREE = "serve a file system, or a tar archive or squashfs of a whole tree"
_FILE = "give the URL of the file itself"

_FOREIGN = (
    # Disks of other hypervisors; docs/interop and block/ of QEMU.
    Foreign("a VMDK image", _CONVERT, ((0, b"KDMV"), (0, b"COWD"), (0, b"# Disk DescriptorFile"))),
    Foreign("a VHDX image", _CONVERT, ((0, b"vhdxfile"),)),
    Foreign("a VHD image", _CONVERT, ((0, b"conectix"),)),
    Foreign("a VDI image", _CONVERT, ((64, b"\x7f\x10\xda\xbe"),)),
    Foreign("a QED image", _CONVERT, ((0, b"QED\0"),)),
    Foreign("a Parallels image", _CONVERT, ((0, b"WithoutFreeSpace"), (0, b"WithouFreSpacExt"))),
    Foreign("a sparse image of Android", "convert it, simg2img", ((0, b"\x3a\xff\x26\xed"),)),
    # What only a program of its own restores.
    Foreign("an image of partclone", _RESTORE, ((0, b"partclone-image"),)),
    Foreign("an image of ntfsclone", _RESTORE, ((0, b"\0ntfsclone-image"),)),
    Foreign("an archive of FSArchiver", _RESTORE, ((0, b"FsArC"),)),
    Foreign("a dump of XFS", _RESTORE, ((0, b"xFSdump0"),)),
    Foreign("a stream of btrfs send", _RESTORE, ((0, b"btrfs-stream\0"),)),
    Foreign("a WIM image", _RESTORE, ((0, b"MSWIM\0\0\0"),)),
    # Other ways to compress.
    Foreign("compressed by lz4", _REPACK, ((0, b"\x04\x22\x4d\x18"), (0, b"\x02\x21\x4c\x18"))),
    Foreign("compressed by lzop", _REPACK, ((0, b"\x89LZO\0\r\n\x1a\n"),)),
    Foreign("compressed by lzip", _REPACK, ((0, b"LZIP"),)),
    Foreign("compressed by lrzip", _REPACK, ((0, b"LRZI"),)),
    Foreign("compressed by lzma", _REPACK, ((0, b"\x5d\0\0"),)),
    Foreign("compressed by compress", _REPACK, ((0, b"\x1f\x9d"),)),
    Foreign("compressed by snappy", _REPACK, ((0, b"\xff\x06\0\0sNaPpY"),)),
    # Archives that are no tree of a system, or none that keeps owners, modes and links.
    Foreign("a zip archive", _UNPACK, ((0, b"PK\x03\x04"), (0, b"PK\x05\x06"), (0, b"PK\x07\x08"))),
    Foreign("a 7z archive", _UNPACK, ((0, b"7z\xbc\xaf\x27\x1c"),)),
    Foreign("a rar archive", _UNPACK, ((0, b"Rar!\x1a\x07"),)),
    Foreign("a cabinet", _UNPACK, ((0, b"MSCF\0\0\0\0"),)),
    Foreign("a xar archive", _UNPACK, ((0, b"xar!"),)),
    Foreign(
        "a cpio archive, perhaps an initramfs",
        _TREE,
        ((0, b"070701"), (0, b"070702"), (0, b"070707"), (0, b"\xc7\x71")),
    ),
    Foreign("a Debian package", _TREE, ((0, b"!<arch>\ndebian-binary"),)),
    Foreign("an ar archive", _TREE, ((0, b"!<arch>\n"),)),
    Foreign("an RPM package", _TREE, ((0, b"\xed\xab\xee\xdb"),)),
    Foreign(
        "an ISO 9660 image, as of a CD",
        "serve the squashfs or the root file system that is in it",
        ((32769, b"CD001"),),
        over=True,
    ),
    # Single files of a system.
    Foreign("a program (ELF)", _TREE, ((0, b"\x7fELF"),)),
    Foreign("a kernel", _TREE, ((0x202, b"HdrS"), (0, b"\x27\x05\x19\x56"))),
    Foreign("a device tree", _TREE, ((0, b"\xd0\x0d\xfe\xed"),)),
    Foreign("a PDF document", _FILE, ((0, b"%PDF-"),)),
)

_EMPTY = Foreign("empty", "make or upload it again", ())
_OVA = Foreign("an OVA, a machine for a hypervisor", "unpack it, and convert the disk that is in it", ())
_OF_DOCKER = Foreign(
    "an archive of docker save that is no OCI layout",
    "save it by Docker 25 or later, or skopeo copy docker-archive:FILE oci-archive:FILE",
    (),
)

#: Texts, by what they begin with in lower case, blanks in front left out; the last row takes all others.
_TEXTS = (
    (
        ("<!doctype html", "<html", "<head", "<body", "<script", "<title"),
        Foreign("a web page", f"{_FILE}; a browser that has logged in may see another", ()),
    ),
    (("<",), Foreign("an XML document, as servers answer with an error", _FILE, ())),
    (("{", "["), Foreign("a JSON document, as servers answer with an error", _FILE, ())),
    (("version https://git-lfs",), Foreign("a pointer of Git LFS", "give the URL of the file it stands for", ())),
    (("-----begin pgp",), Foreign("a signature, or a signed text", _FILE, ())),
    (("",), Foreign("a text", _FILE, ())),
)
_LOOKED_AT = 1024  # bytes that tell a text


def refuse(head: bytes) -> None:
    """Raise ImageFailed for what is no image of any kind, with its name.

    :param head: the first bytes of what is in a file, decoded where it is compressed; all of them, or as many as
        :data:`bareon.transfer.superblock.SEEN`.
    """
    if found := told(head):
        raise ImageFailed(f"is {found.name}: {found.mend}")


def told(head: bytes) -> Foreign | None:
    """What is told by its first bytes to be no image; ``None`` where it may be one."""
    if not head:
        return _EMPTY
    found = superblock.read(head)
    if found.type not in (None, "tar"):  # whatever stands at other places was there before it
        return None
    if begins(head):
        if head[:100].rstrip(b"\0").lower().endswith(b".ovf"):
            return _OVA
        return _OF_DOCKER if ocilayout.is_of_docker(head) else None
    rows = (row for row in _FOREIGN if row.over or not found.table)
    matching = next((row for row in rows if any(head.startswith(magic, place) for place, magic in row.places)), None)
    return matching or _text(head)


def _text(head: bytes) -> Foreign | None:
    start = head[:_LOOKED_AT]
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data" or len(start) < _LOOKED_AT:
            return None
        text = start[: error.start].decode()
    text = text.removeprefix("\ufeff").strip().lower()
    if not text or any(character < " " and character not in "\t\n\r\f\x1b" for character in text):
        return None
    return next(row for beginnings, row in _TEXTS if text.startswith(beginnings))

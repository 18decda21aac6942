# SPDX-License-Identifier: Apache-2.0
"""A wanted image: what is brought onto the disks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from bareon.model.location import Location
from bareon.storage.reader import Reader

HashAlgorithm = Literal["md5", "sha256", "sha512"]
DIGEST_LENGTHS: dict[HashAlgorithm, int] = {"md5": 32, "sha256": 64, "sha512": 128}  # hexadecimal digits


class Early(Protocol):
    """Brings single files of an image before the first write: it reaches the server.

    All raise ImageFailed where that cannot be.
    """

    def __call__(self, paths: Sequence[str], /) -> Mapping[str, bytes]:
        """The content of those of some files that are there, by their paths, absolute in the tree of the image."""

    def folders(self, *paths: str) -> list[str]:
        """The paths of the folders in some folders of the tree; none where there is no such folder."""

    def sizes(self, path: str) -> Mapping[str, int]:
        """The sizes of the files in a folder of the tree, in bytes, by their paths; links are none."""


@dataclass(frozen=True)
class Origin:
    """What an image that is to be brought is ``taken_for``, and what its bytes are ``held_to``, in words for people.

    ``seen`` says that its content was looked at, where that tells; else its URL, its name or the input do. Nothing
    that it is held to means that whoever answers for its server may bring what they like.
    """

    name: str
    taken_for: str
    held_to: tuple[str, ...] = ()
    seen: bool = True


@dataclass(frozen=True)
class Digest:
    """The digest of an image's bytes as they are served, compressed or not; ``value`` in lower-case hexadecimal."""

    algorithm: HashAlgorithm
    value: str


@dataclass(frozen=True)
class Published:
    """Digests and sizes published beside an image: ``digest`` and ``served`` (bytes) of the file as it is served,
    ``plain`` and ``size`` (bytes) of the image in it; ``listed`` is the digest that a list of checksums has for the
    file, ``signature`` one of OpenPGP beside it.
    """

    digest: Digest | None = None
    served: int | None = None
    plain: Digest | None = None
    size: int | None = None
    listed: Digest | None = None
    signature: bytes | None = None


@dataclass(frozen=True)
class Part:
    """A partition of an image of a whole disk, and the place in the deployed system that it is brought to.

    ``partition`` is its number, its GUID, its name in the table, or ``root`` or ``boot``: what has that type. As a
    ``block`` it becomes the file system of the volume at ``target``; as a ``tree`` its files are copied there.
    ``found`` says that the input has no parts, and that the types of the partitions tell this one: the image's own
    fstab must agree.
    """

    partition: int | str
    target: str = "/"
    form: Literal["block", "tree"] = "tree"
    path: str = field(default="$", compare=False)
    found: bool = False


@dataclass(frozen=True)
class Image:
    """An image, its source and the mount point in the deployed system that it is brought to.

    Digest and size of the image are looked up at ``metadata_url``, if something is there; its digest in the list of
    checksums at ``checksums_url``. ``signature_url`` is a signature of that list, else of the image. ``part_of`` is
    the name of the image to whose system it belongs, ``None`` for one with volumes of its own. ``parts`` are those
    that are asked for of a whole disk. ``content`` is what it was seen to be, by the name of a kind of images;
    ``None`` where nobody looked. ``readers`` are the programs that were seen in it which read file systems: its
    oldest kernel, and its GRUB.
    """

    name: str
    url: Location
    target: str = "/"
    boot: bool = False
    image_name: str | None = None
    uuid: str | None = None
    digest: Digest | None = None
    disk_format: Literal["raw", "qcow2"] | None = None
    metadata_url: Location | None = None
    checksums_url: Location | None = None
    signature_url: Location | None = None
    parts: tuple[Part, ...] = ()
    part_of: str | None = None
    content: str | None = None
    readers: tuple[Reader, ...] = ()
    path: str = field(default="$", compare=False)

    @property
    def system(self) -> str:
        """The name of the image whose volumes it is brought to."""
        return self.part_of or self.name

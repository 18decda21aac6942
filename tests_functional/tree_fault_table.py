# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a tree in one file, an archive or a squashfs, and what must come of it.

The words in the URLs are those of :mod:`tests_functional.bench.httpd.fault`, the files those of
:mod:`tests_functional.bench.treeimages`. The rows of whole disks and of registries, which have the same form, are in
:mod:`tests_functional.disk_fault_table` and :mod:`tests_functional.layer_fault_table`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from bareon.model.image import Part
from bareon.tests.imageserver import Fault
from tests_functional.bench.treeimages import PACKED, PACKERS

#: ``disk`` are partitions as trees, ``block`` are such as blocks.
Kind = Literal["tar", "squashfs", "disk", "block", "oci"]
KINDS: tuple[Kind, ...] = ("tar", "squashfs")
SQUASHFS = "small.squashfs"
ARCHIVES = tuple(f"small.tar{x}" for x in PACKERS)
#: For servers that stay silent; every other fault would suffer on a busy machine.
IMPATIENT = {"idle_timeout": 0.3, "attempts": 2}
NO_ROOM = r"has no room left, image 'a' does not fit$"
SYSTEM = ("/", "ext4", 32), ("/usr", "ext4", 16)
SMALL = ("/", "ext4", 16), ("/usr", "ext4", 8)


@dataclass(frozen=True)
class Wrong:
    """A wrong answer of a registry, where it is asked for a ``part``: ``base``, ``tag``, ``config``, ``layer1``...

    ``after`` are the requests that are answered rightly before, ``times`` those that get it; 0: all that follow.
    """

    part: str
    fault: Fault
    after: int = 0
    times: int = 0


@dataclass(frozen=True)
class TreeFault:
    """One fault of a ``file`` that is to be brought as ``kind``, served with ``words``.

    ``failure`` is searched for in the one line that is said; without it the tree must arrive, over ``connections`` or
    more. ``code`` is what the program exits with then. ``early``: it must be found before the first write.
    ``spared`` are the mount points of volumes of which no byte may be another afterwards, however late it is found.
    ``digest``: whether the right one is given, a wrong one or none. ``looked_at``: whether the file is looked at
    beforehand; one that changes for the second who asks is not. ``settings`` differ from the default. ``kept``: the
    volumes have files of somebody. ``system`` are the volumes: mount point, type, and MiB of each. ``parts`` are
    those of a disk. A registry answers as ``wrong`` says; it speaks TLS where there is a ``password``, which is empty
    for one that nobody gives. ``title`` tells a row from others of the same words.
    """

    kind: Kind
    file: str
    failure: str | None = None
    words: str = "plain"
    title: str = ""
    code: int = 7
    early: bool = False
    spared: tuple[str, ...] = ()
    digest: Literal["right", "wrong"] | None = None
    connections: int = 1
    looked_at: bool = True
    settings: Mapping[str, float] = field(default_factory=dict)
    kept: bool = False
    system: tuple[tuple[str, str, int], ...] = SYSTEM
    parts: tuple[Part, ...] = ()
    wrong: tuple[Wrong, ...] = ()
    password: str | None = None

    @property
    def name(self) -> str:
        said = f"{self.digest} digest" if self.digest else ""
        words = (self.kind, self.file, self.words, said, self.title, "kept" if self.kept else "")
        return " ".join(filter(None, words))


def table() -> list[TreeFault]:
    """Return all faults."""
    return [*_sound(), *_servers(), *_damaged(), *_digests(), *_no_trees(), *_bombs(), *_lies()]


def kind_of(file: str) -> Kind:
    return "squashfs" if "squashfs" in file else "tar"


def _sound() -> Iterator[TreeFault]:
    """Nothing is wrong, or it can be mended."""
    for file in (*ARCHIVES, SQUASHFS):
        yield TreeFault(kind_of(file), file, digest="right")
    for file in ("small.tar.gz", "small.tar.zst", SQUASHFS):
        for words, connections in (
            ("nolength", 1),
            ("norange", 1),
            ("500x2", 1),
            ("cut-300000", 4),
            ("reset-300000", 4),
        ):
            yield TreeFault(kind_of(file), file, words=words, digest="right", connections=connections)
        words = "norange+nolength+noetag+cut-at-300000-700000"
        # A squashfs is asked for its length first.
        connections = 2 if file == SQUASHFS else 3
        yield TreeFault(kind_of(file), file, words=words, digest="right", connections=connections, looked_at=False)
    yield TreeFault("tar", "small.tar.gz", words="gzip-encoded", digest="right")


def _servers() -> Iterator[TreeFault]:
    """The server does not give the file, or not all of it."""
    for file in ("small.tar.zst", SQUASHFS):
        kind = kind_of(file)
        yield TreeFault(kind, file, r"\(404\)$", "404", early=True)
        yield TreeFault(kind, file, r"\(403\)$", "403", early=True)
        yield TreeFault(kind, file, r"answers with an error 500, 3 attempts", "500", early=True)
        yield TreeFault(kind, file, "redirected to file://", "redirect-file", early=True)
        yield TreeFault(kind, file, "silent", "stall-always-0", early=True, settings=IMPATIENT)
        yield TreeFault(kind, file, "closed the connection after ", "short")
        yield TreeFault(kind, file, "closed the connection after .*, 3 attempts", "norange+cut-300000")
        yield TreeFault(kind, file, "silent", "norange+stall-always-300000", settings=IMPATIENT)
        yield TreeFault(kind, file, "longer than 2 s", "slow-200000", settings={"total_timeout": 2.0})
        changed = "changed while it was read" if kind == "tar" else "is damaged: "
        yield TreeFault(kind, file, changed, "changed-300000", looked_at=False)
        words = "noetag+changed-300000"
        yield TreeFault(kind, file, "its sha256 is|stream is damaged$", words, looked_at=False, digest="right")


def _damaged() -> Iterator[TreeFault]:
    """The bytes come as they are, and are wrong; nobody said what their digest should be."""
    for suffix in PACKED:
        form = {".gz": "gzip", ".zst": "zstd", ".xz": "xz", ".bz2": "bzip2"}[suffix]
        for file in ("truncated", "clipped"):
            yield TreeFault(
                "tar", f"{file}.tar{suffix}", f"the {form} stream does not end|ends in the middle|end where"
            )
        yield TreeFault("tar", f"flipped.tar{suffix}", f"the {form} stream is damaged")
        yield TreeFault("tar", f"garbage.tar{suffix}", f"there are bytes behind the end of the {form} stream")
    yield TreeFault("tar", "truncated.tar", "is cut off: the archive does not end$")
    yield TreeFault("tar", "garbage.tar", "has something behind the end of the archive$")
    yield TreeFault("squashfs", "truncated.squashfs", "is damaged: ")


def _digests() -> Iterator[TreeFault]:
    for file in ("small.tar", "small.tar.gz", SQUASHFS, "flipped.tar", "flipped.squashfs"):
        yield TreeFault(kind_of(file), file, "its sha256 is .* was wanted$", digest="wrong")


def _no_trees() -> Iterator[TreeFault]:
    """Something else than what was expected, which the first bytes tell."""
    other = {"tar": ("small.squashfs", "squashfs"), "squashfs": ("small.tar.xz", "tar")}
    for kind in KINDS:
        title = "tar archive" if kind == "tar" else "squashfs"
        for file, says in (
            ("page", "is a web page: "),
            ("error", "is an XML document, as servers answer with an error: "),
            ("zip", "is a zip archive: unpack it"),
            ("vmdk", "is a VMDK image: convert it"),
            ("cd", "is an ISO 9660 image"),
            ("ext4", f"is no {title}: it holds ext"),
            ("zeros", f"is no {title}: it holds nothing that is known"),
            ("qcow2", "the qcow2 image is damaged: no such size of clusters"),
            ("empty", "is empty: "),
            ("twice.tar.gz", "is compressed twice, xz inside gzip"),
            (other[kind][0], f"is no {title}: it holds {other[kind][1]}$"),
        ):
            yield TreeFault(kind, file, says, early=True)


def _bombs() -> Iterator[TreeFault]:
    """Little that becomes much; it ends where the volumes do."""
    for suffix in PACKED:
        yield TreeFault("tar", f"bomb.tar{suffix}", NO_ROOM, code=6)
        yield TreeFault(
            "squashfs", f"padded.squashfs{suffix}", "holds more than the .* of the place that it is brought"
        )
    for suffix in (".gz", ".zst", ".xz"):
        yield TreeFault("tar", f"behind.tar{suffix}", "holds more than the .* of all volumes of the image together$")
    yield TreeFault("tar", "inodes.tar.gz", "has no inodes left, image 'a' does not fit$", code=6)
    yield TreeFault("squashfs", "bomb.squashfs", NO_ROOM, code=6)


def _lies() -> Iterator[TreeFault]:
    """Sizes that are not true."""
    yield TreeFault("tar", "lying.tar.gz", "is cut off: the archive does not end$")
    yield TreeFault("tar", "sparse.tar.gz", "has a file of 1 EiB with its holes: ")
    yield TreeFault("squashfs", "lying.squashfs", "is damaged: ")
    yield TreeFault("squashfs", "block.squashfs", "is damaged: ")
    # Of which nobody makes anything.
    yield TreeFault("squashfs", "longer.squashfs")
    yield TreeFault("squashfs", "inodes.squashfs")

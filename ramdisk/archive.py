# SPDX-License-Identifier: Apache-2.0
"""Packs a directory tree as an initramfs archive."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from building.process import ProgramError

#: Seconds for packing half a gigabyte, several times what was measured.
LIMIT = 600.0
#: Alignment of archives that follow one another in an initramfs, in bytes.
ALIGNMENT = 4
#: Bytes of the header of a member: a magic number of six digits, and thirteen numbers of eight.
HEADER = 110


def join(parts: Sequence[Path], target: Path) -> None:
    """Write an initramfs of several archives, compressed or not, of which the later ones win.

    An empty archive comes first. Ironic takes a file that begins with a frame of zstd for a compressed image, and
    unpacks it: it would end where the first archive does, or fail.
    """
    with tempfile.TemporaryDirectory(prefix="bareon-archive-") as place, target.open("wb") as whole:
        empty = Path(place) / "empty"
        empty.mkdir()
        front = Path(place) / "front.cpio"
        pack(empty, front)
        for part in (front, *parts):
            with part.open("rb") as source:
                shutil.copyfileobj(source, whole)


def pack(tree: Path, target: Path, *, date: int | None = None, level: int | None = None) -> None:
    """Write ``tree`` as a "newc" archive, all of it owned by root.

    The same names, modes, times and contents give the same bytes.

    :param date: seconds since 1970; what was changed later in the tree gets this time. What is older keeps its own,
        by which the bytecode of Debian's packages knows its sources
    :param level: zstd's level; without one the archive is not compressed
    :raises ProgramError: when one of the programs does
    """
    if date is not None:
        clamp(tree, date)
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    cpio = ["cpio", "--null", "--create", "--format=newc", "--quiet", "--owner=0:0", "--reproducible"]
    if level is None:
        command = " ".join(cpio)
    else:
        command = f"{' '.join(cpio)} | zstd --quiet -T0 -{level}"
    with target.open("wb") as output:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            input=b"\0".join(os.fsencode(name) for name in names),
            stdout=output,
            stderr=subprocess.PIPE,
            cwd=tree,
            timeout=LIMIT,
            check=False,
        )
        if done.returncode != 0:
            raise ProgramError([command], f"exit {done.returncode}", done.stderr.decode())
        output.seek(0, os.SEEK_END)
        output.write(b"\0" * (-output.tell() % ALIGNMENT))


def clamp(tree: Path, date: int) -> None:
    """Give all of a tree that was changed after ``date`` (seconds since 1970) this time."""
    for path in (tree, *tree.rglob("*")):
        if path.lstat().st_mtime > date:
            os.utime(path, (date, date), follow_symlinks=False)


@dataclass(frozen=True)
class Member:
    """One member of an archive: its header's fields in their order, such as mode and time, and its digest."""

    name: str
    fields: tuple[int, ...]
    digest: str


def members(archive: bytes) -> Iterator[Member]:
    """Yield the members of "newc" archives that follow one another, none of them compressed.

    :raises ValueError: where something else begins
    """
    position = 0
    while position < len(archive):
        if archive[position] == 0:
            position += 1
            continue
        header = archive[position : position + HEADER]
        if header[:6] != b"070701":
            raise ValueError(f"no member of an archive at byte {position}")
        fields = tuple(int(header[start : start + 8], 16) for start in range(6, HEADER, 8))
        size, length = fields[6], fields[11]
        content = _aligned(position + HEADER + length)
        name = os.fsdecode(archive[position + HEADER : position + HEADER + length - 1])
        yield Member(name, fields, hashlib.sha256(archive[content : content + size]).hexdigest())
        position = _aligned(content + size)


def _aligned(position: int) -> int:
    return position + -position % ALIGNMENT

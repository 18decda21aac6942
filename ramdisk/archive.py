# SPDX-License-Identifier: Apache-2.0
"""Packs a directory tree as an initramfs archive."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from building.process import ProgramError

#: Seconds for packing half a gigabyte, several times what was measured.
LIMIT = 600.0
#: Alignment of archives that follow one another in an initramfs, in bytes.
ALIGNMENT = 4


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


def pack(tree: Path, target: Path, *, level: int | None = None) -> None:
    """Write ``tree`` as a "newc" archive, all of it owned by root.

    :param level: zstd's level; without one the archive is not compressed
    :raises ProgramError: when one of the programs does
    """
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    cpio = ["cpio", "--null", "--create", "--format=newc", "--quiet", "--owner=0:0"]
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

# SPDX-License-Identifier: Apache-2.0
"""Packs a directory tree as an initramfs archive."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests_functional.bench.process import ProgramError

#: Seconds for packing half a gigabyte, several times what was measured.
LIMIT = 600.0
#: Alignment of archives that follow one another in an initramfs, in bytes.
ALIGNMENT = 4


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

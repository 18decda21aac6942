# SPDX-License-Identifier: Apache-2.0
"""Builds the ramdisk a second time, from nothing, and says where the two differ."""

from __future__ import annotations

import filecmp
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path

from building import cache
from ramdisk import archive, base, outputs, sbom

#: Builds into the directory that it is given, and returns the product of :func:`ramdisk.base.build_base`.
Build = Callable[[Path], Path]


def difference(build: Build, report: cache.Report) -> str | None:
    """Build twice, the second time with an empty cache; return the first thing that differs, or None.

    :raises ProgramError: when a part cannot be fetched or built
    """
    with tempfile.TemporaryDirectory(prefix=".again-", dir=cache.root()) as name:
        place = Path(name)
        first = build(place / "first")
        report("once more, with an empty cache")
        usual = os.environ.get("BAREON_CACHE")
        os.environ["BAREON_CACHE"] = str(place / "cache")
        try:
            second = build(place / "second")
        finally:
            if usual is None:
                del os.environ["BAREON_CACHE"]
            else:
                os.environ["BAREON_CACHE"] = usual
        return next(_differing(first, second, place), None)


def _differing(first: Path, second: Path, place: Path) -> Iterator[str]:
    """Yield what differs, what is made of something after that."""
    if changes := "; ".join(outputs.changes(*(sbom.packages(x / base.BILL) for x in (first, second)))):
        # Nothing that is made of them could be the same.
        yield f"{changes}. The archive has moved on since the first one was built: remove {first}, and build again"
    for name in (base.KERNEL, base.BILL, base.WHEELS):
        if not filecmp.cmp(first / name, second / name, shallow=False):
            yield f"{name} of the base"
    yield from between(*(unpacked(x / base.ARCHIVE) for x in (first, second)))
    one, other = (place / x for x in ("first", "second"))
    for name in sorted({path.name for path in (*one.iterdir(), *other.iterdir())}):
        paths = one / name, other / name
        if not all(path.is_file() for path in paths) or not filecmp.cmp(*paths, shallow=False):
            yield name


def between(one: bytes, other: bytes) -> Iterator[str]:
    """Yield the members in which two archives differ, with what differs in them."""
    for first, second in zip_longest(archive.members(one), archive.members(other)):
        if first != second:
            names = {member.name for member in (first, second) if member}
            what = "contents" if first and second and first.fields == second.fields else f"{first} and {second}"
            yield f"/{' and /'.join(sorted(names))}: {what}"


def unpacked(path: Path) -> bytes:
    """Unpack an archive of zstd that is padded to the alignment of an initramfs, which zstd takes for damage.

    :raises ValueError: when it is none
    """
    content = path.read_bytes()
    for padding in range(archive.ALIGNMENT):
        packed = content[: len(content) - padding]
        done = subprocess.run(["zstd", "-dc"], input=packed, capture_output=True, check=False)
        if done.returncode == 0:
            return done.stdout
    raise ValueError(f"{path}: {done.stderr.decode(errors='replace').strip()}")

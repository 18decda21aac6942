# SPDX-License-Identifier: Apache-2.0
"""Build products kept outside the checkout, each under a hash of all that made it.

The cache is ``$BAREON_CACHE``, or ``~/.cache/bareon``. A product is a directory
``<kind>/<key>``. It is built beside its final place and renamed there when complete, so a build
that fails or is killed leaves no product, and a lock lets only one process build it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: How many products of a kind survive a new one.
KEPT = 3
#: A product used within this many seconds is not removed: another run may be using it.
IN_USE = 3 * 3600.0
#: Prefix of directories in which a build is going on.
BUILDING = ".building-"

Report = Callable[[str], None]


def root() -> Path:
    """Return the cache's directory, made if missing."""
    place = os.environ.get("BAREON_CACHE") or Path.home() / ".cache" / "bareon"
    path = Path(place).absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(*inputs: str | Path) -> str:
    """Return a short hash of texts and of files: their names and contents, directories whole."""
    total = hashlib.sha256()
    for item in inputs:
        if isinstance(item, str):
            _add(total, b"text", item.encode())
            continue
        for path in _files(item):
            name = path.relative_to(item.parent) if path != item else Path(item.name)
            _add(total, str(name).encode(), path.read_bytes())
    return total.hexdigest()[:16]


def _add(total: hashlib._Hash, name: bytes, content: bytes) -> None:
    # Lengths go in too, so that no two lists of inputs run together to the same bytes.
    for part in (name, content):
        total.update(len(part).to_bytes(8, "big") + part)


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    found = (item for item in path.rglob("*") if item.is_file())
    return sorted(item for item in found if "__pycache__" not in item.parts)


def product(kind: str, key: str, build: Callable[[Path], None], report: Report) -> Path:
    """Return the directory of a product, building it if it is not there.

    :param build: fills the empty directory it is given; an exception means no product
    :param report: told what is built or found, and how long it took
    """
    shelf = root() / kind
    shelf.mkdir(exist_ok=True)
    final = shelf / key
    with _locked(shelf / f".{key}.lock"):
        if final.is_dir():
            os.utime(final)
            report(f"{kind}: {key} is in the cache")
            return final
        for stale in shelf.glob(f"{BUILDING}{key}-*"):
            # Whoever was building it held this lock until it was killed.
            shutil.rmtree(stale, ignore_errors=True)
        report(f"{kind}: building {key}")
        started = time.monotonic()
        workplace = Path(tempfile.mkdtemp(prefix=f"{BUILDING}{key}-", dir=shelf))
        try:
            workplace.chmod(0o755)
            build(workplace)
            workplace.rename(final)
        except BaseException:
            shutil.rmtree(workplace, ignore_errors=True)
            raise
        report(f"{kind}: built {key} in {time.monotonic() - started:.0f} s")
    _prune(shelf, keep=final)
    return final


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prune(shelf: Path, keep: Path) -> None:
    """Remove the oldest products of a kind, and what killed builds left."""
    old_enough = time.time() - IN_USE
    places = sorted(
        (place for place in shelf.iterdir() if place.is_dir() and place != keep),
        key=lambda place: place.stat().st_mtime,
        reverse=True,
    )
    finished = [place for place in places if not place.name.startswith(BUILDING)]
    for place in places:
        spare = place in finished[: KEPT - 1]
        if not spare and place.stat().st_mtime < old_enough:
            shutil.rmtree(place, ignore_errors=True)
            (shelf / f".{place.name}.lock").unlink(missing_ok=True)

# SPDX-License-Identifier: Apache-2.0
"""How long the rsync driver takes for a tree of files, against plain ``rsync -aAX``: fresh, and with nothing to do.

As root. Both write to the same loop device, mounted, written back and unmounted in the measured time.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from bareon.drivers.deploy.rsync import FetchTree
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.storage.filesystem import Filesystem, Mount, PlannedFilesystem
from bareon.tools.mount import enter_private_namespace
from benchmarks.timing import show
from tests_functional.bench.port import free_port

FILES = 12_500
BYTES = 384 << 20
DISK = 2 << 30  # bytes
ROUNDS = 5
ASKED = ("-a", "-A", "-X")


def call(*argv: str) -> None:
    """Run a command quietly."""
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def make_tree(place: Path) -> None:
    """Files of all sizes, most of them small, as a system has them."""
    chance = random.Random(1)
    sizes = [chance.paretovariate(1.1) for _ in range(FILES)]
    unit = BYTES / sum(sizes)
    for number, size in enumerate(sizes):
        folder = place / f"{number % 120}" / f"{number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_bytes(chance.randbytes(int(size * unit)))


@contextmanager
def daemon(place: Path, tree: Path) -> Iterator[str]:
    """Serve the tree; the URL."""
    port = free_port()
    (place / "rsyncd.conf").write_text(
        f"use chroot = no\nuid = root\ngid = root\nlog file = {place}/log\n[tree]\npath = {tree}\n"
    )
    argv = ["rsync", "--daemon", "--no-detach", f"--port={port}", "--address=127.0.0.1"]
    with subprocess.Popen([*argv, f"--config={place}/rsyncd.conf"], stdin=subprocess.DEVNULL) as process:
        try:
            while subprocess.run(
                ["rsync", f"rsync://127.0.0.1:{port}/"], capture_output=True, check=False
            ).returncode:
                time.sleep(0.05)
            yield f"rsync://127.0.0.1:{port}/tree"
        finally:
            process.terminate()


@contextmanager
def loop_device(place: Path) -> Iterator[str]:
    """A loop device over a sparse file."""
    with (place / "disk").open("wb") as file:
        file.truncate(DISK)
    found = subprocess.run(
        ["losetup", "--find", "--show", "--direct-io=off", file.name], check=True, capture_output=True, text=True
    )
    device = found.stdout.strip()
    try:
        yield device
    finally:
        call("losetup", "--detach", device)


def plain(url: str, device: str, point: Path) -> None:
    """The reference."""
    call("mount", "-t", "ext4", device, str(point))
    call("rsync", *ASKED, f"{url}/", f"{point}/")
    call("sync", "--file-system", str(point))
    call("umount", str(point))


def step(url: str, device: str, decision: Literal["create", "keep"]) -> FetchTree:
    """The driver's own step. Its preflight, which asks for the list of files, is no part of the same work."""
    wanted = Filesystem("ext4", (Mount("/", images=("tree",)),), images=("tree",))
    held = PlannedFilesystem(device, DISK, "ext4", "", wanted, decision=decision).mounts
    image = Image("tree", Location(url))
    return FetchTree("do_copyimage", image, held, ASKED, TransferSettings())


def run(transfer: FetchTree) -> None:
    """Carry it out as the executor does."""
    transfer.run(lambda done, total: None)


def seconds(before: Callable[[], None], *works: Callable[[], None]) -> list[float]:
    """The best of some rounds, in which the works take turns; ``before`` comes before each and is not counted."""
    found: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for work, taken in zip(works, found, strict=True):
            before()
            started = time.perf_counter()
            work()
            taken.append(time.perf_counter() - started)
    return [min(taken) for taken in found]


def main() -> int:
    """Print the ratios; exit code 1 when one is over its limit."""
    enter_private_namespace()
    os.environ["LC_ALL"] = "C"
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        tree, point = place / "tree", place / "point"
        point.mkdir()
        make_tree(tree)
        with daemon(place, tree) as url, loop_device(place) as device:
            new, kept = step(url, device, "create"), step(url, device, "keep")

            def fresh() -> None:
                call("mkfs.ext4", "-q", "-F", device)

            check, reference, ours = seconds(
                fresh,
                lambda: step(url, device, "create").preflight(),  # a step asks once
                lambda: plain(url, device, point),
                lambda: run(new),
            )
            print(f"asking beforehand whether {FILES} files fit: {check * 1000:.0f} ms")
            good = show(f"{FILES} files of {BYTES >> 20} MiB, fresh", ours, "rsync -aAX", reference, 1.05)
            reference, ours = seconds(lambda: None, lambda: plain(url, device, point), lambda: run(kept))
            return 0 if show("the same, unchanged", ours, "rsync -aAX", reference, 1.0) and good else 1


if __name__ == "__main__":
    sys.exit(main())

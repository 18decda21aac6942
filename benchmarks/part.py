# SPDX-License-Identifier: Apache-2.0
"""How long one partition of a whole disk in a qcow2 takes, against all of that file scaled by its bytes; as root.

Nothing is given by which the file could be checked, so that only the clusters of the partition are fetched. Each
figure is the best of several rounds in which the two take turns, each in a process of its own, from asking for the
file to the last byte on the device; both are looked at before, as in a preflight, which is not counted. What was
written is compared byte for byte.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.stream import loop_device, make_image, served
from benchmarks.timing import show

MIB = 1 << 20
SIZE = 1024 * MIB
DATA = 224 * MIB
ROUNDS = 5

OURS = """
import sys, time
from bareon.model.image import Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.transfer.disk import Transfer, survey, write_parts
from bareon.transfer.image import write
url, device, limit, number = sys.argv[1:]
settings, location, quiet = TransferSettings(), Location(url), lambda served, total: None
if int(number):
    disk = survey(location, settings)
    entry = next(x for x in disk.table.partitions if x.number == int(number))
    started = time.monotonic()
    transfer = Transfer(location, None, Published(), settings, None, quiet)
    done = write_parts(transfer, disk, {entry: (device, int(limit))})
else:
    started = time.monotonic()
    done = write(location, device, limit=int(limit), digest=None, settings=settings, progress=quiet)
print(time.monotonic() - started, done.served)
"""


def make_disk(folder: Path) -> None:
    """Two partitions of one size, with files of this system each, as a qcow2."""
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(2 * SIZE + 2 * MIB)
    sectors = SIZE // 512
    script = f"label: gpt\nstart=2048, size={sectors}\nstart={2048 + sectors}, size={sectors}\n"
    subprocess.run(["sfdisk", "--quiet", disk], check=True, input=script, text=True)
    for number in (1, 2):
        part = make_image(folder, SIZE, DATA, f"part{number}")
        place = [f"seek={1 + (number - 1) * SIZE // MIB}", "bs=1M", "conv=notrunc,sparse", "status=none"]
        subprocess.run(["dd", f"if={part}", f"of={disk}", *place], check=True)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, folder / "qcow2"], check=True)
    disk.unlink()


def taken(folder: Path, url: str, number: int, size: int) -> tuple[float, int]:
    """Seconds and bytes served of a partition, or with 0 of all of the disk."""
    with loop_device(folder, size) as device:
        argv = [sys.executable, "-c", OURS, f"{url}/qcow2", device, str(size), str(number)]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
        if number:
            subprocess.run(["cmp", folder / f"part{number}", device], check=True)
    return float(said[0]), int(said[1])


def main() -> int:
    """Print the ratio; exit code 1 when it is over its limit."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        make_disk(folder)
        with served(folder) as url:
            rounds = [(taken(folder, url, 2, SIZE), taken(folder, url, 0, 2 * SIZE + 2 * MIB)) for _ in range(ROUNDS)]
    (part, part_bytes), (whole, whole_bytes) = min(x for x, _ in rounds), min(x for _, x in rounds)
    scaled = whole * part_bytes / whole_bytes
    return 0 if show("a part of a qcow2", part, "all of it, scaled by its bytes", scaled, 1.1) else 1


if __name__ == "__main__":
    sys.exit(main())

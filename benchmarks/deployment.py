# SPDX-License-Identifier: Apache-2.0
"""How long a whole deployment takes in the ramdisk, against a shell script that does the same by hand; as root.

The script is ``deployment.sh``. It makes the same tables, volumes, file systems and boot loader by the same programs,
and looks at nothing: it neither reads the machine before, nor checks what came of anything. Both take turns in one
virtual machine that was booted once, and find a disk without signatures each time. The first round also sees that
both bring the same files. What else this machine does is in all times: the load is printed, and the shortest of some
rounds counts. What the virtual machine used of a processor, which is printed too, changes less with it.

Then there is what each step took, by bareon's own report, and how long the programs take to start in the ramdisk.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.timing import show
from building import wheel
from tests_functional.bench import cell, products
from tests_functional.bench.imageserver import ImageServers
from tests_functional.bench.node import Node
from tests_functional.bench.session import Session
from tests_functional.bench.template import Template

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path(__file__).with_suffix(".sh")
TEMPLATE = "one_disk"
ROUNDS = 3
STARTS = 5
START_LIMIT = 1.5  # seconds over a bare Python
TIME = 900.0  # seconds for one deployment
INPUT = "/tmp/provision.json"
REPORT = "/tmp/bareon-report.json"

#: Takes every signature from the disk, so that nobody has anything to clear, and what was read from memory.
CLEAR = """
udevadm settle; vgchange -q -a n os 2> /dev/null
for each in /dev/vda?* /dev/vda; do wipefs -q -a -f $each || true; done
blockdev --rereadpt /dev/vda; rm -f /etc/lvm/backup/* /etc/lvm/archive/*; sync; echo 3 > /proc/sys/vm/drop_caches
udevadm settle
"""
#: What was deployed, by device: types of file systems, files with owner, mode and size.
CONTENTS = r"""
set -e; mkdir -p /mnt/seen; vgchange -q -a y os > /dev/null 2>&1 || true; udevadm settle
for each in /dev/vda2 /dev/os/root /dev/os/home /dev/os/swap; do
  [ -e $each ] || continue
  echo "$each $(blkid -p -o value -s TYPE $each)"
  [ $each = /dev/os/swap ] && continue
  mount -o ro $each /mnt/seen
  (cd /mnt/seen; find . ! -path ./etc/fstab ! -path '*/grub/*' ! -path ./lost+found -printf "$each %P %U:%G %M " \
    \( -type d -printf '\n' -o -type f -printf '%T@ %s\n' -o -printf '%T@ %l\n' \) | sort)
  grep -hc ^menuentry /mnt/seen/boot/grub/grub.cfg /mnt/seen/grub/grub.cfg 2> /dev/null || true
  umount /mnt/seen
done
vgchange -q -a n os > /dev/null 2>&1 || true
"""


@dataclass(frozen=True)
class Layout:
    """A deployment: ``kind`` is what the script calls it, ``limit`` what it may take of the script's time."""

    name: str
    kind: str
    image: Mapping[str, str]
    volumes: Sequence[Mapping[str, Any]]
    limit: float

    def document(self) -> dict[str, Any]:
        """The input of bareon."""
        disk = {"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": list(self.volumes)}
        group = {"type": "vg", "id": "os", "volumes": LOGICAL}
        partitions = [disk, group] if any(x["type"] == "pv" for x in self.volumes) else [disk]
        image = {"name": "debian", "target": "/", "boot": True, **self.image}
        return {"partitions_policy": "clean", "images": [image], "partitions": partitions}


LOGICAL = [
    {"type": "lv", "name": "root", "mount": "/", "size": "2 GiB", "file_system": "ext4"},
    {"type": "lv", "name": "swap", "mount": "swap", "size": "256 MiB"},
    {"type": "lv", "name": "home", "mount": "/home", "size": "512 MiB", "file_system": "xfs"},
]
GROUPED = [
    {"type": "partition", "mount": "/boot", "size": "256 MiB", "file_system": "ext4"},
    {"type": "pv", "vg": "os", "size": "remaining"},
]
WHOLE = [{"type": "partition", "mount": "/", "size": "3 GiB", "file_system": "ext4"}]


def layouts(session: Session) -> list[Layout]:
    """What is measured."""
    words = session.words()

    def served(name: str) -> dict[str, str]:
        digest = {"image_os_hash_algo": "sha256", "image_os_hash_value": words["sha256"](name)}
        return {"image_pull_url": f"{words['http']('')}/plain/{name}", **digest}

    tree = {"image_pull_url": f"{session.rsync.url}/debian12/"}
    return [
        Layout("partitions, LVM and a tree by rsync", "tree", tree, GROUPED, 1.1),
        Layout("partitions, LVM and a tar.zst", "archive", served("debian12.tar.zst"), GROUPED, 1.1),
        Layout("a block image, zstd", "image", served("debian12.img.zst"), WHOLE, 1.0),
    ]


@dataclass(frozen=True)
class Taken:
    """Seconds that a deployment took, and those of a processor that the virtual machine used for it."""

    seconds: float
    processor: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.processor:.1f} s of a processor)"


def measured(node: Node, layout: Layout, rounds: int) -> bool:
    """Deploy by turns, and print the ratio and the steps of bareon's shortest run; whether it is within its limit."""
    script, ours, reports = list[Taken](), list[Taken](), []
    by_hand = f"bash /tmp/deployment.sh {layout.kind} {shlex.quote(layout.image['image_pull_url'])}"
    node.ssh.put(json.dumps(layout.document()), INPUT)
    for number in range(rounds):
        node.ssh.run(CLEAR, timeout=TIME)
        script.append(_taken(node, by_hand))
        wanted = [] if number else _contents(node)
        node.ssh.run(CLEAR, timeout=TIME)
        ours.append(_taken(node, "bareon-provision --progress none"))
        reports.append(json.loads(node.ssh.run(f"cat {REPORT}").stdout))
        if not number:
            same(wanted, _contents(node))
        print(f"  round {number + 1}: {ours[-1]}, by hand {script[-1]}; {_load()}", flush=True)
    best = min(range(rounds), key=lambda x: ours[x].seconds)
    for line in steps(reports[best], ours[best].seconds):
        print(f"  {line}")
    used = min(x.processor for x in ours) / min(x.processor for x in script)
    print(f"  of a processor it uses {used:.2f} of what the script does")
    return show(layout.name, ours[best].seconds, "by hand", min(x.seconds for x in script), layout.limit)


def _taken(node: Node, command: str) -> Taken:
    started, before = time.monotonic(), _processor(node)
    node.ssh.run(command, timeout=TIME)
    return Taken(time.monotonic() - started, _processor(node) - before)


def _processor(node: Node) -> float:
    """The seconds of processors that a virtual machine has used, as proc_pid_stat(5) has them."""
    process = Path(f"/run/libvirt/qemu/{node.name}.pid").read_text().strip()
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _contents(node: Node) -> list[str]:
    return node.ssh.run(CONTENTS, timeout=TIME).stdout.splitlines()


def same(wanted: Sequence[str], found: Sequence[str]) -> None:
    """See that bareon has deployed what the script has.

    :raises SystemExit: with the lines that differ
    """
    if different := sorted(set(wanted) ^ set(found)):
        raise SystemExit("\n".join(["not the same was deployed:", *different[:40]]))


def steps(report: Mapping[str, Any], whole: float) -> Iterator[str]:
    """What each step took, and what came before and between."""
    rest = whole - sum(step["seconds"] for step in report["steps"])
    yield f"{rest:6.1f} s  start, reading the node, the plan and checks before the first step"
    for step in report["steps"]:
        yield f"{step['seconds']:6.1f} s  {step['description']}"


def starts(node: Node) -> bool:
    """How long the programs take to start, over a bare Python; whether that is within its limit."""
    commands = {
        "python3 -c pass": f"{wheel.VENV}/bin/python -c pass",
        "bareon-provision --version": "bareon-provision --version",
        "bareon-data-validator": f"bareon-data-validator {INPUT}",
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(STARTS):
        for name, command in commands.items():
            timed = f"a=$EPOCHREALTIME; {command} > /dev/null; b=$EPOCHREALTIME; echo $a $b"
            before, after = node.ssh.run(f"bash -c {shlex.quote(timed)}").stdout.split()
            times[name].append(float(after) - float(before))
    bare, *programs = (min(taken) for taken in times.values())
    print(f"python3 -c pass: {bare * 1000:.0f} ms")
    for name, seconds in zip([*times][1:], programs, strict=True):
        verdict = "within" if seconds - bare <= START_LIMIT else "OVER"
        print(f"{name}: {(seconds - bare) * 1000:.0f} ms more ({verdict} {START_LIMIT * 1000:.0f} ms)")
    return max(programs) - bare <= START_LIMIT


def _load() -> str:
    return f"the machine's load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"


def run(session: Session, kinds: Sequence[str], rounds: int) -> bool:
    """Measure in a session of the tests; whether all is within its limits."""
    template = Template.load(TEMPLATE)
    with session.node_in_ramdisk(template, template.disks, "benchmark-deployment") as node:
        node.ssh.put(SCRIPT.read_text(), "/tmp/deployment.sh")
        _bring(node, "zstd")
        verdicts = [measured(node, x, rounds) for x in layouts(session) if x.kind in kinds]
        return all([*verdicts, starts(node)])


def _bring(node: Node, program: str) -> None:
    """Copy a program of this machine, which the ramdisk has no use for; both are Debian 12."""
    path = shutil.which(program)
    command = f"cat > /usr/bin/{program} && chmod 755 /usr/bin/{program} && {program} --version"
    with Path(path or program).open("rb") as file:
        subprocess.run([*node.ssh.command_line(), command], stdin=file, stdout=subprocess.DEVNULL, check=True)


def main() -> int:
    """Build what is missing, go on in a cell, and print the ratios; exit code 1 when one is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deployment")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--kinds", default="tree,archive,image", help="what is deployed (default: %(default)s)")
    asked = parser.parse_args()
    if not cell.inside():
        products.build(_tell).hand_over()
        return cell.run_inside([sys.executable, "-m", "benchmarks.deployment", *sys.argv[1:]], root=ROOT)
    made = products.Products.received()
    with ImageServers(made.images, cell.SCRATCH, _tell) as images, Session(made, images, _tell) as session:
        print(_load(), flush=True)
        return 0 if run(session, asked.kinds.split(","), asked.rounds) else 1


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

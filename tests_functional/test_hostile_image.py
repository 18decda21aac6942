# SPDX-License-Identifier: Apache-2.0
"""An image whose every program tries what it must not reach: none does. Without the sandbox they do.

What they try is in ``bench/tenant/probe.pl``. Secrets are planted in the ramdisk, on a disk outside of the layout, on
a volume that is kept and on that of another image. Each program that bareon, or another program of the image, has run
leaves a record in the image's own tree.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from building import wheel
from tests_functional.bench import variant
from tests_functional.bench.case import machine
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.node import Node
from tests_functional.bench.products import Products
from tests_functional.bench.rsyncd import Module, RsyncServer
from tests_functional.bench.session import Record, Session

MARK = "planted-by-the-test"
INPUT = "/tmp/provision.json"
LIMIT = 600.0
PORT = 874
FAKE = Path(__file__).with_name("fake_bwrap.py")
DISKS: dict[str, Any] = {"template": "uefi", "disks": [{"size": "4 GiB"}, {"size": "64 MiB"}]}
#: What the image has, and must not be run: nothing of an image is needed for these.
NEVER = ("grub-install", "kernel-install", "install.d", "usr-install.d", "postinst.d", "profile.d", "grub-probe")
MAKING = ("update-initramfs", "initramfs-hook")
MENU = ("grub-mkconfig", "grub.d", "os-prober")
#: Files of the ramdisk with a secret. The input has one as well, and the log.
PLANTED = "/etc/planted /root/.ssh/planted /run/planted /run/bareon/planted /tmp/planted /root/.netrc"
#: Plants the rest: a key of root's, a socket that has no file. It stays.
KEEPER = f"""
import ctypes, socket, time
ctypes.CDLL(None).syscall(248, b"user", b"{MARK}", b"{MARK}", {len(MARK)}, ctypes.c_int(-4))
listening = socket.socket(socket.AF_UNIX)
listening.bind("\\0{MARK}")
listening.listen()
open("/tmp/keeper-is-ready", "w").close()
time.sleep(7200)
"""
PREPARE = f"""
set -e
mkdir -p /root/.ssh /run/bareon /m
for file in {PLANTED}; do echo {MARK} > $file; done
echo {MARK} >> /var/log/bareon.log
python3 /tmp/keeper.py < /dev/null > /dev/null 2>&1 &
echo {MARK} | dd of=/dev/vdb bs=1M seek=1 conv=sync,fsync status=none
until [ -e /tmp/keeper-is-ready ]; do sleep 0.1; done
"""
RECORDS = "mount -o ro {root} /m && (cd /m/var/lib/probes && grep -H --exclude=left . *); umount /m"
FORGET = "mount {root} /m && rm -rf /m/var/lib/probes; umount /m"
#: A volume that is kept gets something to keep. The other is that of a system whose initramfs bareon once made.
PLANT = f"""
set -e
mount {{kept}} /m; echo {MARK} > /m/planted; umount /m
mount {{root}} /m; mkdir -p /m/etc/bareon; echo made of other files > /m/etc/bareon/initramfs; umount /m
"""
#: What a run may leave behind: processes, mounts, control groups. And whether the ramdisk still works.
STATE = """
ps -eo comm= | grep -E 'probe|left-behind|perl|bwrap' ; cut -d' ' -f2,3 /proc/mounts | sort
find /run/bareon -path '*cgroup*/bareon*' -type d; find /tmp /run -size +8M
"""
#: Runs the probe as bareon runs a program, with limits that a test has time for.
ONE = """
import json, sys
from bareon.errors import CommandError
from bareon.tools.mount import enter_private_namespace
from bareon.tools.sandbox import Limits, View, run_inside
enter_private_namespace()
kind, limits = sys.argv[1], Limits(**json.loads(sys.argv[2]))
with open("/m/etc/probes", "w") as file:
    file.write(f"quiet {kind}:alone")
try:
    print("ended:", run_inside(View("/m", volumes=("/m",)), ["/usr/lib/probes/probe", "alone"], limits=limits).code)
except CommandError as error:
    print("error:", error)
"""


@dataclass(frozen=True)
class Spoiler:
    """A program that ends badly, with the limits that it is given, and what bareon says of it."""

    kind: str
    said: str
    limits: str = "{}"


SPOILERS = (
    Spoiler("hang", "probe was stopped after 4 s", '{"seconds": 4}'),
    Spoiler("flood", "probe was stopped after 4 s", '{"seconds": 4}'),
    Spoiler("left", "ended: 0"),
    Spoiler("large", "probe failed with exit code 153", '{"written": 67108864}'),
    Spoiler("bomb", "probe failed with exit code 9", '{"processes": 500}'),
    Spoiler("memory", "took more than 256 MiB of memory", '{"memory": 268435456}'),
    Spoiler("tmpfs", "took more than 256 MiB of memory", '{"memory": 268435456}'),
    Spoiler("disk", "probe was ended: it has written .*, more than 64 MiB", '{"written": 67108864}'),
)


#: Files of the ramdisk that a link could lead to, and what else there is in its folders.
FILES = (
    "find /etc /root /usr/local /opt /srv -xdev -type f -exec md5sum {} + | sort;"
    " find / /etc /usr/local/sbin -xdev -maxdepth 1 -printf '%M %u %p %l\\n' | sort"
)


@dataclass(frozen=True)
class Trap:
    """What a program of an image leaves for bareon, the code with which the run ends then, and what it says."""

    kind: str
    caller: str
    code: int
    said: str


TRAPS = (
    Trap("words", "update-initramfs", 6, "update-initramfs"),
    Trap("disk", "update-initramfs", 6, "update-initramfs"),
    Trap("inodes", "update-initramfs", 6, "update-initramfs"),
    Trap("left", "initramfs-hook", 0, ""),
    Trap("fifo", "update-initramfs", 6, "special file"),
    Trap("sparse", "update-initramfs", 6, "/etc/default/grub|/etc/fstab"),
    Trap("boot", "update-initramfs", 6, "/boot/grub"),
    Trap("boot", "grub-mkconfig", 6, "no entry|grub.cfg"),
    Trap("links", "grub-mkconfig", 6, "grub.cfg"),
    Trap("links", "update-initramfs", 6, "/etc/bareon"),
    Trap("parents", "initramfs-hook", 6, "/etc|update-initramfs"),
)


@dataclass(frozen=True)
class Probe:
    """A line of a record: which program tried what, and whether it reached."""

    caller: str
    group: str
    name: str
    reached: bool
    detail: str


@dataclass(frozen=True)
class Layout:
    """The images with volumes, each by its mount points and sizes; and where two of the volumes are."""

    images: Mapping[str, Mapping[str, str]]
    root: str
    kept: str

    def document(self, rsync: RsyncServer, policy: str) -> dict[str, Any]:
        """Return an input with a secret."""
        volumes = [
            {"type": "partition", "mount": mount, "file_system": "ext4", "size": size, "images": [image]}
            for image, places in self.images.items()
            for mount, size in places.items()
        ]
        return {
            "partitions_policy": policy,
            "images": [{"name": name, "image_pull_url": f"{rsync.url}/{name}/"} for name in self.images],
            "partitions": [{"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": volumes}],
            "configdrive": {"meta_data": {"hostname": "x"}, "user_data": f"#cloud-config\n# {MARK}\n"},
        }


HOSTILE = {"/": "800 MiB", "/boot": "200 MiB", "/srv": "64 MiB"}
ALONE = Layout({"hostile": HOSTILE}, "/dev/vda2", "/dev/vda4")
BESIDE = Layout({"hostile": HOSTILE, "other": {"/": "64 MiB"}}, "/dev/vda3", "/dev/vda5")


class Bench:
    """A node in the ramdisk with all that is planted, and the image, which can be changed between runs."""

    def __init__(self, node: Node, rsync: RsyncServer, tree: Path) -> None:
        self.node = node
        self.rsync = rsync
        self.tree = tree

    def prepare(self) -> None:
        """Plant what is not on a volume."""
        self.node.ssh.put(KEEPER, "/tmp/keeper.py")
        self.node.ssh.run(PREPARE)

    def partition(self, layout: Layout) -> None:
        """Make the volumes, and plant on that which is kept."""
        self.run(layout, "do_partitioning", policy="clean")
        self.node.ssh.run(PLANT.format(kept=layout.kept, root=layout.root))

    def run(
        self, layout: Layout, actions: str, *, policy: str = "verify", code: int = 0, said: str = ""
    ) -> list[Probe]:
        """Run bareon, a secret in its environment, and return what the programs of the image have noted.

        It must end with ``code``, and what it says match ``said`` and hold nothing that a terminal obeys.
        """
        self.node.ssh.put(json.dumps(layout.document(self.rsync, policy)), INPUT)
        if policy == "verify":
            self.node.ssh.run(FORGET.format(root=layout.root))
        # It would not start, as it has next to nothing in its initramfs.
        options = f"--allow_unbootable --progress plain --actions {actions}"
        command = f"OS_PASSWORD={MARK} bareon-provision {options} < /dev/null"
        done = self.node.ssh.run(command, timeout=LIMIT, check=False)
        assert done.exit_code == code and re.search(said, done.stderr), (
            f"exit {done.exit_code}: {done.stdout}{done.stderr}"
        )
        assert not re.search("[\\0-\\x08\\x0b-\\x1f\\x7f-\\x9f]", done.stdout + done.stderr), repr(
            done.stdout + done.stderr
        )
        if code or actions == "do_partitioning":
            return []
        lines = self.node.ssh.run(RECORDS.format(root=layout.root)).stdout.splitlines()
        return [read(line) for line in lines]

    def swap(self, program: str) -> None:
        """Take a program out of the image, or put it back."""
        path, aside = self.tree / program, self.tree / f"{program}.aside"
        path.rename(aside) if path.exists() else aside.rename(path)


def read(line: str) -> Probe:
    """Read a line of a record, its file before it."""
    caller, _, rest = line.partition(":")
    group, name, reached, detail = rest.split("\t", 3)
    return Probe(caller, group, name, reached == "1", detail)


@contextmanager
def bench(session: Session, name: str) -> Iterator[Bench]:
    """Give a node and a server of the hostile image."""
    place = SCRATCH / name
    tree = variant.layered(Products.received().systems["hostile"].tree, place / "hostile")
    (place / "other").mkdir()
    (place / "other/planted").write_text(f"{MARK}\n")
    modules = {"hostile": Module(tree), "other": Module(place / "other")}
    rsync = RsyncServer(place / "rsyncd", modules, port=PORT)
    rsync.start()
    try:
        with session.node_in_ramdisk(*machine(DISKS), name) as node:
            made = Bench(node, rsync, tree)
            made.prepare()
            yield made
    finally:
        rsync.stop()


def table(probes: Sequence[Probe], title: str, record: Record) -> None:
    """Show how many probes of each program and group were tried, and how many reached."""
    tried = Counter((x.caller, x.group) for x in probes)
    reached = Counter((x.caller, x.group) for x in probes if x.reached)
    groups = dict.fromkeys(x.group for x in probes)
    for caller in dict.fromkeys(x.caller for x in probes):
        cells = ", ".join(f"{x} {reached[caller, x]}/{tried[caller, x]}" for x in groups)
        record(f"hostile image, {title}: reached/tried", f"{caller}: {cells}")
    every = f"{sum(reached.values())} of {sum(tried.values())} probes of {len({x.caller for x in probes})} programs"
    record(f"hostile image, {title}: reached/tried", f"together: {every}")


def callers(probes: Sequence[Probe]) -> set[str]:
    """Return the programs that were run."""
    return {x.caller for x in probes}


def reached(probes: Sequence[Probe]) -> list[str]:
    """Return what got through, in lines."""
    return [f"{x.caller}: {x.group}, {x.name}: {x.detail}" for x in probes if x.reached]


@pytest.mark.long
def test_nothing_is_reached(session: Session, record_property: Record) -> None:
    with bench(session, "hostile") as here:
        outside = here.node.disk("vdb").digest()
        here.swap("usr/sbin/update-initramfs")
        here.partition(BESIDE)
        before = here.node.ssh.run(STATE).stdout
        with_dracut = here.run(BESIDE, "do_copyimage")
        here.swap("usr/sbin/update-initramfs")
        here.partition(ALONE)
        alone = here.run(ALONE, "do_copyimage,do_bootloader")
        table([*with_dracut, *alone], "sandbox", record_property)
        assert not (found := reached([*with_dracut, *alone])), "\n".join(found)
        assert callers(with_dracut) == {"dracut", "dracut-module"}
        assert callers(alone) >= {*MAKING, *MENU} and not callers(alone) & {*NEVER}, callers(alone)
        assert here.node.ssh.run(STATE).stdout == before
        assert here.node.disk("vdb").digest() == outside
        spoil(here, record_property)
        # Without the sandbox, to see that the probes can reach.
        here.node.ssh.put(FAKE.read_text(), "/usr/sbin/bwrap")
        here.node.ssh.run("chmod 755 /usr/sbin/bwrap")
        without = here.run(ALONE, "do_copyimage")
        table(without, "sandbox switched off by the test", record_property)
        reach = Counter(x.group for x in without if x.reached)
        assert reach.keys() == {x.group for x in alone}, reach


@pytest.mark.long
@pytest.mark.thorough("what is left for bareon is looked at by test_trees; test_nothing_is_reached runs the sandbox")
def test_what_a_program_leaves(session: Session, record_property: Record) -> None:
    with bench(session, "hostile-traps") as here:
        here.partition(ALONE)
        files = here.node.ssh.run(FILES).stdout
        state = here.node.ssh.run(STATE).stdout
        problems = []
        for x in TRAPS:
            here.partition(ALONE)  # what the one before it has left would end this run for its reason
            (here.tree / "etc/probes").write_text(f"quiet {x.kind}:{x.caller}\n")
            try:
                here.run(ALONE, "do_copyimage,do_bootloader", code=x.code, said=x.said)
            except AssertionError as error:
                problems.append(f"{x.kind} by {x.caller}: {error}")
            for command, before in ((FILES, files), (STATE, state)):
                changed = difflib.unified_diff(before.split("\n"), here.node.ssh.run(command).stdout.split("\n"), n=0)
                problems += [f"{x.kind} by {x.caller}: the ramdisk: {line}" for line in changed]
        record_property("hostile image, traps for bareon", f"{len(TRAPS)} tried, {len(problems)} problems")
        assert not problems, "\n".join(problems)


def spoil(here: Bench, record: Record) -> None:
    """Let programs hang, fill and multiply: bareon says so, and nothing of it is left."""
    node = here.node
    node.ssh.put(ONE, "/tmp/one.py")
    node.ssh.run(f"mount {ALONE.root} /m")
    before = node.ssh.run(STATE).stdout
    problems = []
    for x in SPOILERS:
        said = node.ssh.run(f"{wheel.VENV}/bin/python /tmp/one.py {x.kind} '{x.limits}'", timeout=120).stdout.strip()
        record("hostile image, what spoils a run", f"{x.kind}: {said[:200]}")
        node.ssh.run("rm -f /m/var/filled*")
        after = node.ssh.run(STATE).stdout
        problems += [f"{x.kind} left something:\n{before}became\n{after}"] if after != before else []
        problems += [] if re.search(x.said, said) else [f"{x.kind}: {said}"]
    node.ssh.run("umount /m")
    assert not problems, "\n".join(problems)

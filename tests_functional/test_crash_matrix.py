# SPDX-License-Identifier: Apache-2.0
"""The same command again, after a power cut or a signal at any point, leaves the node of an undisturbed run.

A run is recorded: at boundaries between its steps, and at random moments, the machine stands still and its disks
are copied. That is what a power cut leaves: the guest's memory is lost, and with it all that was not yet written. For
each copy a machine is started with it, the command runs again, and an independent listing of all files is compared.
Signals come one after the other on one node: each run starts on what the ones before left behind.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from building import wheel
from building.process import ProgramError
from tests_functional import node_listing
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.node import Node
from tests_functional.bench.session import Record, Session
from tests_functional.bench.template import Template

INPUT = "/tmp/provision.json"
REPORT = "/tmp/bareon-report.json"
HALTS = "/run/halts"
LIMIT = 600.0
LISTING = Path(node_listing.__file__)
HALTING = Path(__file__).with_name("halting.py")
MOUNTS = {"/l/root": "os/root", "/l/boot": "vda2", "/l/home": "os/home", "/l/srv": "os/srv"}
#: The same where /home and /srv lie in containers.
OPENED = MOUNTS | {"/l/home": "mapper/home", "/l/srv": "mapper/srv"}
#: And where each is a btrfs over partitions of both disks.
SPREAD = MOUNTS | {"/l/home": "vda4", "/l/srv": "vda3"}
#: The key of the containers, on the node.
KEY = "/run/crash-key"
#: GRUB's image holds the UUID of its file system, compressed.
MADE_BY_GRUB = "grub/i386-pc/core.img"
#: What somebody does on a node between two deployments; the listing finds it again.
USED = (
    "mount /dev/{0[/l/root]} /mnt && mount /dev/{0[/l/home]} /mnt/home && mount /dev/{0[/l/srv]} /mnt/srv"
    " && head -c 3000000 /dev/urandom > /mnt/home/mine && echo added > /mnt/root/added && echo gone > /mnt/srv/old"
    " && echo changed > /mnt/etc/hostname && echo 'server:/export /net nfs noauto 0 0' >> /mnt/etc/fstab"
    " && umount --recursive /mnt"
)
STATUS = {"TERM": 143, "KILL": 137}
#: Says what has outlived a run, if it still does after some seconds: processes, and mounts in anybody's namespace.
LEFT = """
for try in $(seq 50); do
    left=$(ps -eo comm= | grep -E '^(rsync|mkfs|mke2fs|grub|sfdisk|lvm|pvcreate|vgcreate|lvcreate|chroot|python)'
           grep -hE ' /(tmp|run|mnt)/[^ ]*(bareon|target)' /proc/[0-9]*/mounts)
    [ -z "$left" ] && break
    sleep 0.1
done
echo -n "$left"
"""


@dataclass(frozen=True)
class Scenario:
    """A deployment to be interrupted behind its first ``skipped`` actions, and how many points are tried.

    Without ``--every-point`` or ``--points`` there are ``sample`` points of each kind, and no test if that is 0.
    ``inside`` says in what ``/home`` and ``/srv`` lie, a key of :data:`INSIDE`.
    """

    name: str
    policy: str
    image: str
    actions: str
    skipped: frozenset[str] = frozenset()
    moments: int = 20
    sample: int = 1
    inside: str = ""

    @property
    def mounts(self) -> dict[str, str]:
        """What is mounted where to be listed."""
        return {"container": OPENED, "raid1": SPREAD}.get(self.inside, MOUNTS)

    @property
    def arguments(self) -> str:
        """What to give to the program."""
        return f"--actions {self.actions} --progress none --bundle ''"


MOST = "do_partitioning,do_copyimage"
#: In an order that keeps two cells busy for the same time.
SCENARIOS = (
    Scenario("verify", "verify", "fraction", MOST),
    Scenario("clean", "clean", "fraction", MOST, sample=0),
    Scenario("containers", "verify", "fraction", MOST, moments=8, sample=0, inside="container"),
    Scenario("thin", "verify", "fraction", MOST, moments=8, sample=0, inside="pool"),
    Scenario("subvolumes", "verify", "fraction", MOST, moments=8, sample=0, inside="subvolume"),
    Scenario("btrfs-raid1", "verify", "fraction", MOST, moments=8, sample=0, inside="raid1"),
    # On its own, since its minutes would be spent on each point of the others.
    Scenario(
        "boot-loader",
        "verify",
        "unbooted",
        f"{MOST},do_bootloader",
        skipped=frozenset(MOST.split(",")),
        moments=3,
        sample=0,
    ),
)


#: What makes a volume called ``{name}`` lie in something, instead of its size or mount point if it has that too.
INSIDE: Mapping[str, Mapping[str, Any]] = {
    "": {},
    "container": {"encryption": {"type": "luks2", "name": "{name}", "key": {"file": KEY}}},
    # Each may take all of the pool.
    "pool": {"kind": "thin", "pool": "pool", "size": "100%"},
    # The default one is what is listed.
    "subvolume": {
        "file_system": "btrfs",
        "mount": None,
        "subvolumes": [{"name": "@{name}", "mount": "/{name}", "default": True}],
    },
    # These lie on the disks themselves.
    "raid1": {"type": "btrfs", "size": "512 MiB"},
}


def deployment(url: str, scenario: Scenario) -> dict[str, Any]:
    """Return an input with a group over two disks; its ``/srv`` alone is not kept."""
    srv = {"type": "lv", "name": "srv", "mount": "/srv", "size": "512 MiB", "keep_data": False}
    home = {"type": "lv", "name": "home", "mount": "/home", "size": "remaining"}
    pools = [{"type": "lv", "name": "pool", "size": "remaining", "kind": "thin-pool"}]
    inside = [_inside(volume, scenario) for volume in (srv, home)]
    spread = [volume for volume in inside if volume["type"] != "lv"]
    return {
        "partitions_policy": scenario.policy,
        "images": [{"name": "debian", "image_pull_url": f"{url}/{scenario.image}/"}],
        "partitions": [
            {
                "type": "disk",
                "id": {"type": "name", "value": "vda"},
                "volumes": [
                    {"type": "partition", "mount": "/boot", "file_system": "ext4", "size": "256 MiB"},
                    *spread,
                    {"type": "pv", "vg": "os", "size": "remaining"},
                ],
            },
            {
                "type": "disk",
                "id": {"type": "name", "value": "vdb"},
                "volumes": [*spread, {"type": "pv", "vg": "os", "size": "remaining"}],
            },
            {
                "type": "vg",
                "id": "os",
                "volumes": [
                    {"type": "lv", "name": "root", "mount": "/", "file_system": "ext4", "size": "1 GiB"},
                    {"type": "lv", "name": "swap", "mount": "swap", "size": "64 MiB"},
                    *(pools if scenario.inside == "pool" else []),
                    *(volume for volume in inside if volume["type"] == "lv"),
                ],
            },
        ],
    }


def _inside(volume: Mapping[str, Any], scenario: Scenario) -> dict[str, Any]:
    """Return a volume that lies in what the scenario says."""
    changes = json.loads(json.dumps(INSIDE[scenario.inside]).replace("{name}", volume["name"]))
    return {key: value for key, value in {**volume, **changes}.items() if value is not None}


@dataclass
class Recording:
    """Copies of the disks of one run by what they show, its boundaries to try, its listing.

    ``first`` is the boundary behind the actions that are skipped, which every run comes to; ``seconds`` count from
    there.
    """

    copies: dict[str, Path] = field(default_factory=dict)
    listing: dict[str, Any] = field(default_factory=dict)
    boundaries: list[int] = field(default_factory=list)
    first: int = 0
    seconds: float = 0.0


class Matrix:
    """The points of one scenario: every boundary, or ``points`` of them; and so many moments."""

    def __init__(self, session: Session, scenario: Scenario, points: int | None) -> None:
        self.session = session
        self.scenario = scenario
        self.points = points or scenario.moments
        self.every = points is None
        self.place = SCRATCH / f"matrix-{scenario.name}"
        self.place.mkdir()
        self.base: Path | None = None
        self.tried = 0
        self.problems: list[str] = []

    @contextmanager
    def node(self, name: str, copy: Path | None) -> Iterator[Node]:
        """Give a node in the ramdisk with a copy of its disks, and the input on it."""
        template = Template.load("two_disks")
        name = f"crash-{self.scenario.name}-{name}"
        with self.session.node_in_ramdisk(template, template.disks, name, contents=copy) as node:
            node.ssh.put(json.dumps(deployment(self.session.rsync.url, self.scenario)), INPUT)
            node.ssh.put(HALTING.read_text(), "/tmp/halting.py")
            node.ssh.put("a key of a line of text", KEY)
            yield node

    def prepare(self) -> None:
        """Make the disks that every run starts with: under ``verify`` those of a node that is in use."""
        if self.scenario.policy == "clean":
            return
        with self.node("base", None) as node:
            node.ssh.run(f"sed s/verify/clean/ {INPUT} > /tmp/first.json")
            command = f"bareon-provision {self.scenario.arguments} --input_data_file /tmp/first.json"
            node.ssh.run(command, timeout=LIMIT)
            node.ssh.run(USED.format(self.scenario.mounts))
            self.base = node.copy_disks(self.place / "base")
            node.power_off()
            # What is copied is what a power cut leaves.
            for disk in node.disks:
                assert disk.digest() == disk.at(self.base).digest()

    def record(self) -> Recording:
        """Run once, undisturbed but for standing still."""
        recording = Recording()
        with self.node("recording", self.base) as node:
            self._start(node, "all")
            first, ticks = None, 0
            while "exit" not in (names := node.ssh.run(f"cd {HALTS} && echo *").stdout.split()):
                if first is None and "at-0" in names:
                    first = self._first(node)
                waiting = {int(name[3:]) for name in names if name.startswith("at-")}
                passed = {int(name[3:]) for name in names if name.startswith("go-")}
                for boundary in waiting - passed:
                    if first is not None and boundary >= first:
                        name = f"boundary-{boundary}"
                        recording.copies[name] = node.copy_disks(self.place / name)
                        recording.boundaries.append(boundary)
                    node.ssh.run(f"touch {HALTS}/go-{boundary}")
                if first in passed:
                    ticks += 1
                    self._maybe_copy(node, recording, ticks)
            finished(node, {0})
            recording.listing = listing(node, self.scenario)
            steps = json.loads(node.ssh.run(f"cat {REPORT}").stdout)["steps"]
            recording.seconds = sum(step["seconds"] for step in steps[first:])
            recording.first = first or 0
        self._choose(recording)
        return recording

    def _first(self, node: Node) -> int:
        """Return the boundary behind the actions that are skipped."""
        actions = node.ssh.run(f"cat {HALTS}/actions").stdout.split()
        return sum(action in self.scenario.skipped for action in actions)

    def _start(self, node: Node, boundaries: str) -> None:
        """Start a run that waits at some boundaries."""
        program = f"{wheel.VENV}/bin/python /tmp/halting.py {HALTS} {boundaries} {self.scenario.arguments}"
        node.ssh.run(
            f"rm -rf {HALTS}; mkdir {HALTS}; cd {HALTS};"
            f" ({program} & echo $! > pid; wait $!; echo $? > exit) > out 2>&1 < /dev/null &"
        )

    def _maybe_copy(self, node: Node, recording: Recording, tick: int) -> None:
        """Copy now, so that in the end each moment had the same chance, however many they will have been."""
        place = tick if tick <= self.points else random.randint(1, tick)
        if place <= self.points:
            name = f"moment-{place}"
            recording.copies[name] = node.copy_disks(self.place / name)

    def _choose(self, recording: Recording) -> None:
        """Keep as many boundaries as asked for."""
        if not self.every:
            kept = random.sample(recording.boundaries, min(self.points, len(recording.boundaries)))
            for number in set(recording.boundaries) - set(kept):
                del recording.copies[f"boundary-{number}"]
            recording.boundaries = kept

    def cut_power(self, recording: Recording) -> None:
        """Start a machine with each copy and run the command again."""
        for name, copy in recording.copies.items():
            self.tried += 1
            try:
                with self.node(name, copy) as node:
                    node.ssh.run(f"bareon-provision {self.scenario.arguments}", timeout=LIMIT)
                    compare(listing(node, self.scenario), recording.listing)
            except (AssertionError, ProgramError) as error:
                self.problems.append(f"power cut at {name}: {error}")

    def signal(self, recording: Recording) -> None:
        """Interrupt one run after the other on one node, then let one finish."""
        moments = list(itertools.islice(itertools.cycle(STATUS), self.points))
        with self.node("signals", self.base) as node:
            for name, boundary in itertools.product(STATUS, recording.boundaries):
                self.tried += 1
                # A run may have fewer steps than the one recorded, which had to start the volume group first.
                self._interrupt(node, name, boundary)
            seconds = recording.seconds
            while moments:
                delay = random.uniform(0, seconds)
                took = self._interrupt(node, moments[-1], recording.first, delay)
                if took is None:
                    self.tried += 1
                    moments.pop()
                else:  # too late; runs take less time now than when one was recorded
                    seconds = min(seconds, took)
            node.ssh.run(f"bareon-provision {self.scenario.arguments}", timeout=LIMIT)
            compare(listing(node, self.scenario), recording.listing)

    def _interrupt(self, node: Node, name: str, boundary: int, delay: float | None = None) -> float | None:
        """Send a signal to a new run when it stands at a boundary, or some seconds after that.

        Return how many seconds the run took from there, if it came to its end before.
        """
        self._start(node, str(boundary))
        wait = f"until [ -e {HALTS}/at-{boundary} -o -e {HALTS}/exit ]; do sleep 0.1; done; ls {HALTS}"
        node.ssh.run(wait, timeout=LIMIT)
        if delay is not None:
            node.ssh.run(f"touch {HALTS}/go-{boundary}")
            time.sleep(delay)
        told = f"stat --format %.Y go-{boundary} exit"
        kill = f"cd {HALTS}; if [ -e exit ]; then {told}; else kill -{name} $(cat pid); fi"
        times = [float(line) for line in node.ssh.run(kill, check=False).stdout.split()]
        try:
            finished(node, {STATUS[name]} | ({0} if times or delay is not None else set()))
            assert not (left := node.ssh.run(LEFT).stdout), f"left behind: {left}"
        except AssertionError as error:
            self.problems.append(f"{name} at boundary {boundary} + {delay or 0:.1f} s: {error}")
        return times[-1] - times[0] if times else None


def finished(node: Node, codes: set[int]) -> None:
    """Wait for the end of a run, and see that it ended with one of these codes."""
    done = node.ssh.run(f"until [ -e {HALTS}/exit ]; do sleep 0.1; done; cat {HALTS}/exit {HALTS}/out", timeout=LIMIT)
    assert int(done.stdout.split("\n")[0]) in codes, done.stdout


def listing(node: Node, scenario: Scenario) -> dict[str, Any]:
    """Return what is on a node's disks, by a program that is not bareon's."""
    mounts = scenario.mounts
    mount = " && ".join(f"mkdir -p {place} && mount -o ro /dev/{name} {place}" for place, name in mounts.items())
    node.ssh.run(mount)
    text = node.ssh.run(f"python3 - {' '.join(mounts)}", timeout=LIMIT, stdin=LISTING.read_text()).stdout
    node.ssh.run(f"umount {' '.join(mounts)}")
    found: dict[str, Any] = json.loads(text)
    return found


def compare(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Find every difference between two listings."""
    assert found["disks"] == wanted["disks"]
    for place, files in wanted["files"].items():
        others = found["files"][place]
        assert sorted(others) == sorted(files), sorted(set(others) ^ set(files))
        different = {path: (others[path], files[path]) for path in files if others[path] != files[path]}
        different.pop(MADE_BY_GRUB, None)
        assert not different


def points(config: pytest.Config, scenario: Scenario) -> int | None:
    """How many points of each kind there is time for; ``None`` for every one."""
    if config.getoption("--every-point"):
        return None
    asked: int | None = config.getoption("--points")
    return scenario.sample if asked is None else asked


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try the scenarios that there is time for."""
    if "scenario" in metafunc.fixturenames:
        tried = [scenario for scenario in SCENARIOS if points(metafunc.config, scenario) != 0]
        metafunc.parametrize("scenario", tried, ids=[scenario.name for scenario in tried])


@pytest.mark.long
def test_the_same_command_again(
    scenario: Scenario, session: Session, record_property: Record, request: pytest.FixtureRequest
) -> None:
    matrix = Matrix(session, scenario, points(request.config, scenario))
    matrix.prepare()
    recording = matrix.record()
    if scenario.policy == "verify":
        assert "mine" in recording.listing["files"]["/l/home"]
        assert "root/added" in recording.listing["files"]["/l/root"]
        assert "old" not in recording.listing["files"]["/l/srv"]
    matrix.cut_power(recording)
    cuts = matrix.tried
    matrix.signal(recording)
    record_property(
        "crash matrix",
        f"{scenario.name}: {recording.seconds:.0f} s undisturbed; tried: {cuts} power cuts, {matrix.tried - cuts}"
        f" signals; converged: {matrix.tried - len(matrix.problems)} of {matrix.tried}",
    )
    if matrix.problems:
        pytest.fail("\n".join(matrix.problems), pytrace=False)

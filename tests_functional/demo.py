# SPDX-License-Identifier: Apache-2.0
"""Deploys a virtual node the way a conductor does, boots it, and shows proof: ``make demo``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from building.process import ProgramError
from tests_functional.bench import cell, evidence, products
from tests_functional.bench.imageserver import ImageServers
from tests_functional.bench.node import Node, NodeTimeoutError
from tests_functional.bench.session import Session, artifacts_directory
from tests_functional.bench.ssh import UnreachableError
from tests_functional.bench.template import Template

ROOT = Path(__file__).resolve().parents[1]
INPUT = "/tmp/provision.json"
DEPLOY = "bareon-provision --data_driver ironic --deploy_driver rsync"
#: Seconds for the deployment, many times what was measured under emulation (75 s).
DEPLOY_LIMIT = 900.0
#: Prints each path of a list (each ended by NUL) that is not there.
MISSING = (
    "cd / && while IFS= read -r -d '' path; do"
    ' [ -e "$path" ] || [ -L "$path" ] || printf "%s\\n" "$path"; done < /tmp/manifest'
)
_STARTED = time.monotonic()
_PHASES: list[tuple[str, float]] = []


class ProofError(Exception):
    """The deployed system is not what it should be."""


def say(line: str = "") -> None:
    """Print at once, also into a pipe."""
    print(line, flush=True)


def report(line: str) -> None:
    """Print what the builders tell, with the time since the start."""
    say(f"  [{time.monotonic() - _STARTED:5.1f} s] {line}")


@contextmanager
def phase(title: str) -> Iterator[None]:
    """Print a heading, and keep how long the phase took."""
    say(f"\n== {title}")
    started = time.monotonic()
    yield
    seconds = time.monotonic() - started
    _PHASES.append((title, seconds))
    say(f"   ({seconds:.1f} s)")


def provision(rsync: str) -> dict[str, object]:
    """Return the input: ``/`` and swap on the first disk, ``/home`` on the second."""
    return {
        "partitions_policy": "clean",
        "images": [
            {
                "name": "debian",
                "image_pull_url": f"{rsync}/debian12/",
                "target": "/",
                "boot": True,
            }
        ],
        "partitions": [
            {
                "type": "disk",
                "id": {"type": "name", "value": "vda"},
                "volumes": [
                    volume("/", "2 GiB", "ext4"),
                    volume("swap", "512 MiB", "swap"),
                ],
            },
            {
                "type": "disk",
                "id": {"type": "name", "value": "vdb"},
                "volumes": [volume("/home", "1 GiB", "xfs")],
            },
        ],
    }


def volume(mount: str, size: str, file_system: str) -> dict[str, object]:
    """Return one partition of the input."""
    return {"type": "partition", "mount": mount, "size": size, "file_system": file_system}


def stream(node: Node, command: str, seconds: float) -> None:
    """Run a command on the node and show its output as it comes.

    :raises ProofError: when it fails or takes too long
    """
    say(f"   root@{node.name}# {command}")
    try:
        done = subprocess.run(
            [*node.ssh.command_line(), command],
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProofError(f"{command}: no end within {seconds:g} s") from None
    if done.returncode != 0:
        raise ProofError(f"{command}: exit {done.returncode}")


def ask(node: Node, command: str, pattern: str = "") -> str:
    """Show a command and its output, which must match.

    :raises ProofError: when it fails or does not
    """
    done = node.ssh.run(command, timeout=120, check=False)
    say(f"   root@{node.name}# {command}")
    for line in (done.stdout + done.stderr).splitlines():
        say(f"     {line}")
    if done.exit_code != 0:
        raise ProofError(f"{command}: exit {done.exit_code}")
    if not re.search(pattern, done.stdout, re.MULTILINE):
        raise ProofError(f"{command}: no {pattern!r} in its output")
    return done.stdout


def prove(node: Node, session: Session) -> None:
    """Let the deployed system speak for itself.

    :raises ProofError: at the first thing that is not as it should be
    """
    ask(node, "grep -E '^(PRETTY_NAME|ID)=' /etc/os-release", "^ID=debian$")
    ask(node, "uname --kernel-release; uptime --pretty")
    ask(node, "findmnt --real --types ext4,xfs", "^/ .*ext4(.|\n)*/home .*xfs")
    ask(node, "swapon --noheadings --show=NAME,SIZE", "^/dev/vda3 +512M")
    ask(node, "cat /etc/fstab", "^UUID=.* /home ")
    ask(node, "findmnt --verify")
    tenant = session.products.systems["debian12"]
    # The list is read as it is: a name may hold any byte but NUL.
    subprocess.run(
        [*node.ssh.command_line(), "cat > /tmp/manifest"],
        input=tenant.manifest.read_bytes(),
        timeout=60,
        check=True,
    )
    missing = node.ssh.run(MISSING, timeout=300).stdout.splitlines()
    total = tenant.count()
    say(f"   files of the image: {total}; of these on the node: {total - len(missing)}")
    if missing:
        raise ProofError(f"not on the node: {', '.join(missing[:10])}")
    node.ssh.put(tenant.checksums.read_text(), "/tmp/SHA256SUMS")
    count = tenant.checksums.read_text().count("\n")
    ask(node, "cd / && sha256sum --quiet --check /tmp/SHA256SUMS")
    say(f"   the contents of all {count} regular files that nobody rewrites are the image's")


def show(session: Session, node: Node) -> None:
    """Take the node from two empty disks to a running system."""
    with phase("A virtual node boots the deploy ramdisk"):
        session.strategy.ramdisk(node)
        ask(node, "cat /etc/bareon-release")
        ask(node, "lsblk --nodeps --output NAME,SIZE,SERIAL")
        node.ssh.put(json.dumps(provision(session.rsync.url), indent=2), INPUT)
    with phase("The plan: nothing has changed yet"):
        stream(node, f"{DEPLOY} --plan", 120)
    with phase("The deployment"):
        stream(node, f"{DEPLOY} --progress plain", DEPLOY_LIMIT)
    with phase("The node restarts from its own disk"):
        session.strategy.deployed(node)
    with phase("The deployed system speaks for itself"):
        prove(node, session)


def demonstrate() -> None:
    """Run the demonstration in this cell.

    :raises ProofError: and all that the bench raises, when it does not succeed
    """
    made = products.Products.received()
    with (
        ImageServers(made.images, cell.SCRATCH, report) as images,
        Session(made, images, report) as session,
    ):
        template = Template.load("two_disks")
        node = session.node(template)
        node.make_disks(template.disks)
        try:
            show(session, node)
        except (ProofError, NodeTimeoutError, ProgramError, UnreachableError):
            place = evidence.collect(node, artifacts_directory() / "demo")
            say(f"\nThe console ends:\n{node.console_tail()}\nevidence: {place}")
            raise
        finally:
            node.power_off()


def inside() -> int:
    """Run the demonstration and tell how it ended; this process is in a cell."""
    try:
        demonstrate()
    except (ProofError, NodeTimeoutError, ProgramError, UnreachableError) as error:
        say(f"\nFAILED: {error}")
        return 1
    say("\n== Done: the node runs what was deployed")
    for title, seconds in _PHASES:
        say(f"   {seconds:6.1f} s  {title}")
    return 0


def main() -> int:
    """Build what is missing, then go on in a cell, which takes everything down with it."""
    if cell.inside():
        return inside()
    try:
        with phase("Ramdisk and image"):
            products.build(report).hand_over()
    except (ProgramError, ValueError) as error:
        say(f"FAILED: {error}")
        return 1
    module = [sys.executable, "-m", "tests_functional.demo"]
    return cell.run_inside(module, root=ROOT)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(cell.INTERRUPTED)

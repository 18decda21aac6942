# SPDX-License-Identifier: Apache-2.0
"""How long many nodes take that fetch one image from one server at the same moment; as root.

From nginx against as many curl, from an rsync daemon against as many rsync, and from a daemon that serves a few of
them at a time, as ``max connections`` has it, against one that serves all at once.

Each agent is a process in a network namespace of its own, which a bridge joins to that of the server. The link of the
server is shaped; those of the agents are not. The agents have imported all that they need when they are let go at
once, and ours alone check the digest. What the link by itself would take is printed, too: a fleet waits for it as
long as no processor is the limit. So are what the server used of the processor, and what left it, headers included.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stream import sha256
from benchmarks.timing import show

AGENTS = (10, 40)
SIZE = 8 << 20  # bytes of the image, none of them zeros that could be left out
LINK = 100_000_000  # bits in a second
SERVER = "10.255.0.1"
FILES = 200  # of the tree, of the same size together
ASKED = ("-a", "-A", "-X")
AT_ONCE = 4  # of a daemon that is full
LIMIT = 1.1
FULL_LIMIT = 3.0

AGENT = """
import sys
import requests, tenacity  # which bareon itself does when it needs them
from bareon.model.image import Digest
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.transfer.image import write
url, device, limit, digest = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
write(Location(url), f"{device}/image", limit=int(limit), digest=Digest("sha256", digest),
      settings=TransferSettings(), progress=lambda served, total: None)
print("done", flush=True)
"""

CURL = 'echo ready; read go; curl --silent --fail --output "$2/image" "$1" && echo done'

TREE_AGENT = """
import functools, sys
import tenacity
from bareon.errors import CommandError
from bareon.model.settings import TransferSettings
from bareon.tools import rsync
from bareon.transfer.deadline import retrying
url, target, *flags = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
again = retrying(TransferSettings(), lambda error: isinstance(error, CommandError) and rsync.is_transient(error),
                 lambda error, number: None, later=rsync.is_full)
again(functools.partial(rsync.copy, url, flags, target, rsync.Progress().read))
print("done", flush=True)
"""

RSYNC = 'echo ready; read go; rsync "$3" "$4" "$5" "$1" "$2/" && echo done'


@dataclass(frozen=True)
class Figures:
    """What a fleet took: seconds until the last had its image, bytes from the server, seconds of its processor."""

    seconds: float
    served: int
    processor: float


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _inside(space: str, argv: Sequence[str]) -> list[str]:
    return ["ip", "netns", "exec", space, *argv]


@contextlib.contextmanager
def network(agents: int, prefix: str) -> Iterator[tuple[str, list[str]]]:
    """The namespaces of the server and of the agents, with its link shaped; all go when the context ends."""
    server = f"{prefix}s"
    spaces = [f"{prefix}{number}" for number in range(agents)]
    with contextlib.ExitStack() as stack:
        for space in (server, *spaces):
            _ip("netns", "add", space)
            stack.callback(_ip, "netns", "delete", space)
            _ip("-n", space, "link", "set", "lo", "up")
        hub = stack.enter_context(_hub(prefix))
        for number, space in enumerate((server, *spaces), 1):
            _ip("-n", hub, "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("-n", hub, "link", "set", f"p{number}", "master", "bridge", "up")
            _ip("-n", space, "address", "add", f"10.255.{number // 250}.{number % 250}/16", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
        shape = ["tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", f"{LINK}bit", "burst", "64k", "latency"]
        subprocess.run(_inside(server, [*shape, "200ms"]), check=True)
        yield server, spaces


@contextlib.contextmanager
def _hub(prefix: str) -> Iterator[str]:
    """A namespace with a bridge, so that nothing of it is among the machine's own interfaces."""
    hub = f"{prefix}b"
    _ip("netns", "add", hub)
    try:
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        yield hub
    finally:
        _ip("netns", "delete", hub)


@dataclass(frozen=True)
class Server:
    """A server: its command line, the URL of what it serves, and where that lies."""

    argv: list[str]
    url: str
    content: Path


def nginx(folder: Path) -> Server:
    """Serve the image by HTTP."""
    paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{name}_temp_path {folder}/tmp-{name};" for name in paths)
    server = f"server {{ listen {SERVER}:80; root {folder}/served; }}"
    http = f"access_log off; sendfile on; {temporary} {server}"
    text = f"user root; daemon off; error_log stderr crit; pid {folder}/pid; events {{}} http {{ {http} }}"
    (folder / "nginx.conf").write_text(text)
    return Server(
        [shutil.which("nginx") or "nginx", "-c", str(folder / "nginx.conf")],
        f"http://{SERVER}/image",
        folder / "served",
    )


def daemon(folder: Path, at_once: int = 0) -> Server:
    """Serve the tree by rsync, to so many at once; 0: to all."""
    # Without a resolver the daemon waits seconds for the name of each node.
    text = "reverse lookup = no\n"
    text += f"use chroot = no\nuid = root\ngid = root\nlog file = {folder}/log\nlock file = {folder}/lock\n"
    (folder / "rsyncd.conf").write_text(f"{text}max connections = {at_once}\n[tree]\npath = {folder}/served\n")
    argv = ["rsync", "--daemon", "--no-detach", f"--address={SERVER}", f"--config={folder}/rsyncd.conf"]
    return Server(argv, f"rsync://{SERVER}/tree/", folder / "served")


def fetched(folder: Path, agents: int, served_by: Server, program: Sequence[str], *more: str) -> Figures:
    """Let so many agents fetch the same at the same moment.

    :param program: what is given the URL, the folder to write to, and ``more``. It says a line when it is ready,
        waits for one, and says another one when it has all.
    """
    with network(agents, f"fleet{os.getpid()}-") as (server, spaces):
        serving = subprocess.Popen(_inside(server, served_by.argv), stdin=subprocess.DEVNULL)
        try:
            fleet = []
            for space in spaces:
                target = folder / space
                target.mkdir()
                if (served_by.content / "image").exists():
                    with (target / "image").open("wb") as file:
                        file.truncate(SIZE)
                argv = [*program, served_by.url, str(target), *more]
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
                fleet.append(subprocess.Popen(_inside(space, argv), text=True, **pipes))  # type: ignore[call-overload]
            for agent in fleet:
                agent.stdout.readline()
            before, started = _sent(server), time.monotonic()
            for agent in fleet:
                agent.stdin.write("go\n")
                agent.stdin.flush()
            said = [agent.stdout.readline() for agent in fleet]
            seconds, served = time.monotonic() - started, _sent(server) - before
            codes = [agent.wait() for agent in fleet]
            if any(codes) or any(line != "done\n" for line in said):
                raise SystemExit("an agent has failed")
        finally:
            serving.terminate()
            _, _, usage = os.wait4(serving.pid, 0)
            serving.returncode = 0
    for space in spaces:
        subprocess.run(["diff", "-r", served_by.content, folder / space], check=True)
        shutil.rmtree(folder / space)
    return Figures(seconds, served, usage.ru_utime + usage.ru_stime)


def _sent(server: str) -> int:
    """The bytes that the server's link has carried so far, headers included."""
    path = "/sys/class/net/eth0/statistics/tx_bytes"
    return int(subprocess.run(_inside(server, ["cat", path]), check=True, capture_output=True, text=True).stdout)


def make_tree(place: Path) -> None:
    """Files of one size that cannot be packed."""
    for number in range(FILES):
        folder = place / f"{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_bytes(os.urandom(SIZE // FILES))


def compared(what: str, agents: int, ours: Figures, reference: str, theirs: Figures, limit: float) -> bool:
    """Print what left the server, and the ratio; whether it is within its limit."""
    print(f"{what}: {ours.served / agents / SIZE:.3f} of the bytes from the server for each,"
          f" {ours.processor * 1000:.0f} ms of its processor; the link alone takes"
          f" {agents * SIZE * 8 / LINK * 1000:.0f} ms")  # fmt: skip
    return show(what, ours.seconds, reference, theirs.seconds, limit)


def images(folder: Path, agents: int) -> bool:
    """An image by HTTP."""
    (folder / "served").mkdir()
    (folder / "served" / "image").write_bytes(os.urandom(SIZE))
    digest = sha256(folder / "served" / "image")
    theirs = fetched(folder, agents, nginx(folder), ["sh", "-c", CURL, "sh"])
    ours = fetched(folder, agents, nginx(folder), [sys.executable, "-c", AGENT], str(SIZE), digest)
    return compared(f"{agents} agents at nginx", agents, ours, f"{agents} curl", theirs, LIMIT)


def trees(folder: Path, agents: int) -> bool:
    """A tree by rsync, and by a daemon that is full."""
    make_tree(folder / "served")
    program = [sys.executable, "-c", TREE_AGENT]
    theirs = fetched(folder, agents, daemon(folder), ["sh", "-c", RSYNC, "sh"], *ASKED)
    ours = fetched(folder, agents, daemon(folder), program, *ASKED)
    good = compared(f"{agents} agents at a daemon", agents, ours, f"{agents} rsync", theirs, LIMIT)
    full = fetched(folder, agents, daemon(folder, AT_ONCE), program, *ASKED)
    what = f"{agents} agents at a daemon that serves {AT_ONCE} at once"
    return compared(what, agents, full, "one that serves all", ours, FULL_LIMIT) and good


def main() -> int:
    """Print the ratios; exit code 1 when one is over its limit."""
    good = True
    for agents in AGENTS:
        for kind in (images, trees):
            with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
                Path(name).chmod(0o755)
                good &= kind(Path(name), agents)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

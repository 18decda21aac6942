# SPDX-License-Identifier: Apache-2.0
"""How long many nodes take that fetch one image from one nginx at the same moment, against as many curl; as root.

Each agent is a process in a network namespace of its own, which a bridge joins to that of the server. The link of the
server is shaped; those of the agents are not. The agents have imported all that they need when they are let go at
once, and ours alone check the digest. What the link by itself would take is printed, too: a fleet waits for it as
long as no processor is the limit. So are what nginx used of the processor, and what left it, headers included.
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
LIMIT = 1.1

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
write(Location(url), device, limit=int(limit), digest=Digest("sha256", digest), settings=TransferSettings(),
      progress=lambda served, total: None)
print("done", flush=True)
"""

CURL = 'echo ready; read go; curl --silent --fail --output "$2" "$1" && echo done'


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


def _nginx(folder: Path) -> list[str]:
    paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{name}_temp_path {folder}/tmp-{name};" for name in paths)
    server = f"server {{ listen {SERVER}:80; root {folder}; }}"
    http = f"access_log off; sendfile on; {temporary} {server}"
    text = f"user root; daemon off; error_log stderr crit; pid {folder}/pid; events {{}} http {{ {http} }}"
    (folder / "nginx.conf").write_text(text)
    return [shutil.which("nginx") or "nginx", "-c", str(folder / "nginx.conf")]


def fetched(folder: Path, agents: int, program: Sequence[str], *more: str) -> Figures:
    """Let so many agents fetch the image at the same moment.

    :param program: what is given the URL, the file to write, and ``more``. It says a line when it is ready,
        waits for one, and says another one when it has the image.
    """
    with network(agents, f"fleet{os.getpid()}-") as (server, spaces):
        nginx = subprocess.Popen(_inside(server, _nginx(folder)))
        try:
            fleet = []
            for space in spaces:
                target = folder / space
                with target.open("wb") as file:
                    file.truncate(SIZE)
                argv = [*program, f"http://{SERVER}/image", str(target), *more]
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
            nginx.terminate()
            _, _, usage = os.wait4(nginx.pid, 0)
            nginx.returncode = 0
    for space in spaces:
        subprocess.run(["cmp", folder / "image", folder / space], check=True)
        (folder / space).unlink()
    return Figures(seconds, served, usage.ru_utime + usage.ru_stime)


def _sent(server: str) -> int:
    """The bytes that the server's link has carried so far, headers included."""
    path = "/sys/class/net/eth0/statistics/tx_bytes"
    return int(subprocess.run(_inside(server, ["cat", path]), check=True, capture_output=True, text=True).stdout)


def main() -> int:
    """Print the ratios; exit code 1 when one is over its limit."""
    good = True
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "image").write_bytes(os.urandom(SIZE))
        digest = sha256(folder / "image")
        for agents in AGENTS:
            theirs = fetched(folder, agents, ["sh", "-c", CURL, "sh"])
            ours = fetched(folder, agents, [sys.executable, "-c", AGENT], str(SIZE), digest)
            print(f"{agents} agents: {ours.served / agents / SIZE:.3f} of the image from the server for each,"
                  f" {ours.processor * 1000:.0f} ms of its processor; the link alone takes"
                  f" {agents * SIZE * 8 / LINK * 1000:.0f} ms")  # fmt: skip
            good &= show(f"{agents} agents at once", ours.seconds, f"{agents} curl", theirs.seconds, LIMIT)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

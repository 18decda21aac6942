# SPDX-License-Identifier: Apache-2.0
"""bareon-unattended as a ramdisk starts it, with the server of ``examples/server``; the deployment is a stand-in.

The disk is a file with a real partition table, which is really marked.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib.util
import json
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bareon.cmd import lock
from bareon.lldp import table
from bareon.lldp.unit import Announcement
from bareon.model.hardware import NeighbourFacts
from bareon.tests.imageserver import Fault
from bareon.tests.imageserver import serving as serving_a_file
from bareon.tests.standin import DOCUMENT, KEY, MAC, PROGRAM, stand_ins
from bareon.tests.test_unattended import root  # noqa: F401  a fixture
from bareon.tools import lsblk, multipath, sfdisk
from bareon.unattended import deploy, mark

EXAMPLE = Path(__file__).parents[2] / "examples/server/bareon_server.py"
DIGEST = hashlib.sha256(DOCUMENT.encode()).hexdigest()
NODE = MAC[:-1] + "1"


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bareon_server", EXAMPLE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


@dataclass
class Ramdisk:
    """A ramdisk with stand-ins for what changes a machine, its disk, and the server that it asks."""

    root: Path
    programs: Path
    disk: Path
    site: Any
    url: str

    def boot(
        self, more: str = "", input: str = "/documents/{mac}", program: str = PROGRAM
    ) -> subprocess.CompletedProcess[str]:
        """Start the program as init does."""
        words = f"quiet bareon.input={self.url}{input} bareon.events={self.url}/events {more}"
        (self.root / "proc/cmdline").write_text(words + "\n")
        environment = {
            "PATH": f"{self.programs}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(EXAMPLE.parents[2]),
        }
        argv = [sys.executable, "-c", program, "--root", str(self.root)]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def let(self, **more: object) -> None:
        """Have the stand-in end with a ``code``, after so many ``seconds``."""
        for name, value in more.items():
            (self.programs / name).write_text(str(value))

    @property
    def runs(self) -> list[Any]:
        return list(self.site.runs.values())

    @property
    def next(self) -> list[str]:
        """What the machine was told to do."""
        file = self.programs / "told"
        return file.read_text().split() if file.exists() else []

    @property
    def console(self) -> list[str]:
        texts = [(self.root / "dev" / name).read_text() for name in ("one", "two")]
        assert texts[0] == texts[1]
        return [x.removeprefix("bareon: ") for x in texts[0].split("\n") if x.strip()]


@pytest.fixture
def ramdisk(root: Path, tmp_path: Path) -> Iterator[Ramdisk]:  # noqa: F811
    (root / "etc/bareon/events.key").write_text(KEY + "\n")
    programs, disk = stand_ins(tmp_path)
    (documents := tmp_path / "documents").mkdir()
    (documents / f"{NODE}.json").write_text(DOCUMENT)
    with serving(documents) as (site, url):
        yield Ramdisk(root, programs, disk, site, url)


@contextlib.contextmanager
def serving(documents: Path) -> Iterator[tuple[Any, str]]:
    module = example()
    site = module.Site(documents, KEY.encode())
    server = module.serve(site, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield site, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_node_is_deployed_and_told_of_once(ramdisk: Ramdisk) -> None:
    before = sfdisk.read(str(ramdisk.disk))
    done = ramdisk.boot("bareon.after=poweroff bareon.image_attempts=2")
    assert (done.returncode, done.stderr, ramdisk.next) == (0, "", ["poweroff"])
    (run,) = ramdisk.runs
    assert (run.state, run.digest, run.report["outcome"], run.progress) == ("done", DIGEST, "done", 1.0)
    assert run.node["mac"] == NODE and run.node["serial"] == "ABC 1/2" and run.facts == {"disks": [], "format": 1}
    assert run.sequences == set(range(1, 6))
    assert ramdisk.console == [
        f"asks for its document at {ramdisk.url}/documents/{NODE}",
        f"deploys the document {DIGEST[:12]}",
        "done; next: poweroff",
    ]
    assert json.loads((ramdisk.programs / "argv").read_text())[-2:] == ["--progress=json", "--image_attempts=2"]
    after = sfdisk.read(str(ramdisk.disk))
    assert mark.digest_of(after.guid) == DIGEST[:12]
    assert after.entries == before.entries
    assert KEY not in (ramdisk.root / "var/log/bareon-unattended.log").read_text()


REFUSED = "its kernel is not loaded, so that the firmware restarts the node: it is locked down"
STARTED = ["umount", "umount", "kexec"]


@pytest.mark.parametrize(
    ("figures", "loaded", "kexec", "told", "said"),
    [
        ({"kexec": "loaded"}, "1", "kill -KILL $PPID", STARTED, None),
        ({"kexec": "loaded"}, "1", "exit 1", [*STARTED, "reboot"], "kexec failed with exit code 1"),
        ({"kexec": "not loaded", "warnings": REFUSED}, "0", "exit 1", ["reboot"], REFUSED),
        # Without do_bootloader.
        ({}, "0", "exit 1", ["reboot"], "no kernel is loaded"),
    ],
)  # fmt: skip
def test_the_deployed_system_is_started_or_left_to_the_firmware(
    ramdisk: Ramdisk, figures: dict[str, str], loaded: str, kexec: str, told: list[str], said: str | None
) -> None:
    ramdisk.let(figures=json.dumps(figures), loaded=loaded)
    with (ramdisk.programs / "kexec").open("a") as file:
        file.write(kexec + "\n")
    place = str(ramdisk.programs / "loaded")
    set_up = f"import pathlib; from bareon.tools import kexec; kexec._LOADED = pathlib.Path({place!r})"
    done = ramdisk.boot("bareon.after=kexec", program=f"{set_up}; {PROGRAM}")
    assert (done.returncode, ramdisk.next) == (0 if said else -9, told)
    assert json.loads((ramdisk.programs / "argv").read_text())[-1] == "--kexec"
    assert ramdisk.runs[0].state == "done"
    assert ramdisk.console[2:] == ["done; next: kexec", *([f"{said}; next: reboot"] if said else [])]


def test_what_is_deployed_is_left_alone(ramdisk: Ramdisk) -> None:
    assert ramdisk.boot("bareon.after=poweroff").returncode == 0
    (ramdisk.programs / "argv").unlink()
    ramdisk.let(code=1)
    assert ramdisk.boot("bareon.after=shell").returncode == 0
    assert (ramdisk.runs[1].state, ramdisk.runs[1].what) == (
        "nothing-to-do",
        "the server says that there is nothing to do",
    )
    ramdisk.site.runs.clear()  # a server that has forgotten gives the document again
    assert ramdisk.boot("bareon.after=shell").returncode == 0
    (run,) = ramdisk.runs
    assert (run.state, run.what) == (
        "nothing-to-do",
        f"{ramdisk.disk} bears the mark of this very document: it is deployed",
    )
    assert ramdisk.boot("bareon.after=shell bareon.again=changed").returncode == 0
    assert ramdisk.next == ["poweroff"] and not (ramdisk.programs / "argv").exists()
    assert ramdisk.boot("bareon.again=always").returncode == 1


def test_another_document_is_deployed_where_that_is_asked_for(ramdisk: Ramdisk) -> None:
    mark.put("f" * 64, [str(ramdisk.disk)])
    ramdisk.let(code=4)
    assert ramdisk.boot("bareon.after=shell").returncode == 0
    assert "mark of another document (ffffffffffff…): bareon.again=changed deploys this one" in ramdisk.runs[0].what
    assert ramdisk.boot("bareon.after=shell bareon.again=changed").returncode == 4


def test_a_run_that_fails_stays_and_says_why_everywhere(ramdisk: Ramdisk) -> None:
    before = ramdisk.disk.read_bytes()
    ramdisk.let(code=4)
    done = ramdisk.boot()
    assert (done.returncode, ramdisk.next) == (4, [])
    assert ramdisk.console[-1] == "failed with exit code 4: no such disk"
    (run,) = ramdisk.runs
    assert (run.state, run.what, run.report["outcome"]) == ("failed", "no such disk", "failed")
    assert run.bundle == b"the bundle"
    assert ramdisk.disk.read_bytes() == before


def test_a_time_limit_ends_the_run(ramdisk: Ramdisk) -> None:
    ramdisk.let(seconds=50)
    started = time.monotonic()
    assert ramdisk.boot("bareon.timeout=20").returncode == 6
    assert time.monotonic() - started < 50
    assert ramdisk.console[-1].startswith("failed with exit code 6: bareon.timeout is over: ")


def test_a_command_line_that_is_wrong(ramdisk: Ramdisk) -> None:
    done = ramdisk.boot("bareon.aftr=reboot")
    assert (done.returncode, ramdisk.runs, ramdisk.next) == (3, [], [])
    assert ramdisk.console[-1].startswith("failed with exit code 3: bareon.aftr: is neither a parameter")


def test_a_command_line_that_was_cut_is_not_believed(ramdisk: Ramdisk) -> None:
    assert ramdisk.boot(f"quiet={'x' * 2047}").returncode == 3
    assert "the kernel's command line: has 2" in ramdisk.console[-1] and not ramdisk.runs


def test_a_word_that_nobody_knows_is_named_on_the_console(ramdisk: Ramdisk) -> None:
    (ramdisk.root / "proc/cmdline").write_text("bareon.inptu=http://h/x\n")
    argv = [sys.executable, "-c", PROGRAM, "--root", str(ramdisk.root)]
    assert subprocess.run(argv, cwd=EXAMPLE.parents[2], timeout=120, check=False).returncode == 0
    (line,) = ramdisk.console
    assert line.startswith("warning: bareon.inptu: is neither ") and line.endswith("is bareon.input meant?")


def test_a_second_run_does_nothing(ramdisk: Ramdisk) -> None:
    with lock.node_lock(str(ramdisk.root / "run/bareon-unattended.lock")):
        assert ramdisk.boot().returncode == 8
    assert ramdisk.console[-1].startswith("failed with exit code 8: another run works on this node: process ")
    assert not ramdisk.runs and not (ramdisk.programs / "argv").exists()


@pytest.mark.parametrize("answer", [403, 500, 302])
def test_events_that_are_refused_keep_nothing_from_being_done(
    ramdisk: Ramdisk, answer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving_a_file(b"") as site:
        site.always = Fault(status=answer, headers={"Location": f"{ramdisk.url}/events"})
        words = f"bareon.input={ramdisk.url}/documents/{{mac}} bareon.events={site.url} bareon.after=poweroff"
        (ramdisk.root / "proc/cmdline").write_text(words)
        code = (
            "import sys; from bareon.cmd import unattended; unattended._FLUSH = 1;"
            f" sys.exit(unattended.main(['--root', {str(ramdisk.root)!r}]))"
        )
        environment = {"PATH": f"{ramdisk.programs}:/usr/sbin:/usr/bin", "PYTHONPATH": str(EXAMPLE.parents[2])}
        done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, check=False)
        assert (done.returncode, ramdisk.next, ramdisk.runs) == (0, ["poweroff"], [])
        assert site.requests
    assert f"status {answer}" in (ramdisk.root / "var/log/bareon-unattended.log").read_text()


def post(url: str, body: bytes, **headers: str) -> int:
    named = {f"X-Bareon-{name}": value for name, value in headers.items()} | {"Content-Type": "application/jsonl"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, named), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_server_takes_signed_events_alone(ramdisk: Ramdisk) -> None:
    from bareon.unattended.events import LINES, signature

    event = {"run": "one", "sequence": 1, "node": {"mac": NODE}, "event": "waiting", "reason": "<b>why</b>"}
    body = json.dumps(event).encode()
    good = f"sha256={signature(KEY.encode(), 'one', LINES, body)}"
    url = f"{ramdisk.url}/events"
    assert post(url, body, Run="one") == 403
    assert post(url, body, Run="two", Signature=good) == 403
    assert post(url, body + b" ", Run="one", Signature=good) == 403
    assert not ramdisk.runs
    assert post(url, body, Run="one", Signature=good) == 204
    assert post(url, b"[]", Run="one", Signature=f"sha256={signature(KEY.encode(), 'one', LINES, b'[]')}") == 400
    with urllib.request.urlopen(ramdisk.url, timeout=10) as answer:
        page = answer.read().decode()
    assert NODE in page and "&lt;b&gt;why&lt;/b&gt;" in page and "<b>why" not in page


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Any, str]]:
    """The example without a key, and its URL."""
    (documents := tmp_path / "documents").mkdir()
    module = example()
    site = module.Site(documents, None)
    server = module.serve(site, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield site, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


ODD = {
    "a number in node": {"node": {"mac": 7}},
    "no node": {"node": None},
    "a list as node": {"node": ["mac"]},
    "a number without end": {"event": "progressed", "done": 10**400, "total": 3},
    "a fraction without end": {"event": "progressed", "done": 1e300, "total": 1e-300},
    "a negative total": {"event": "progressed", "done": 1, "total": -1},
    "a text as number": {"event": "started", "number": "x"},
    "a list as state": {"event": "ended", "outcome": ["done"]},
    "a list as report": {"event": "ended", "outcome": "done", "report": ["x"]},
    "a number as reason": {"event": "waiting", "reason": 7},
    "a sequence that is none": {"sequence": "x"},
    "a sequence below 1": {"sequence": 0},
    "a sequence that is true": {"sequence": True},
    "another run": {"run": "two"},
}


def sent(url: str, *events: dict[str, Any]) -> int:
    head = {"run": "one", "sequence": 1, "node": {"mac": NODE}, "event": "waiting", "reason": "first"}
    return post(f"{url}/events", "\n".join(json.dumps({**head, **x}) for x in events).encode(), Run="one")


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_odd_events_are_refused_and_nothing_fails_later(server: tuple[Any, str]) -> None:
    site, url = server
    for name, odd in ODD.items():
        assert sent(url, {}, odd) == 400, name
        assert not site.runs, name  # not half of a request
    deep = b'{"run":"one","sequence":1,"node":{},"event":"facts","facts":{"x":' + b"[" * 9000 + b"]" * 9000 + b"}}"
    for body in (deep, b"[]", b"\xff", b'{"run":"one","sequence":NaN}', b"1" * 9000):
        assert post(f"{url}/events", body, Run="one") == 400, body[:40]
    assert sent(url, {"event": "ended", "outcome": "done", "reason": "\ud800", "error": "\ud800<"}) == 204
    # An event that was refused has not taken its number away.
    assert sent(url, {"sequence": 2, "node": {"mac": 7}}) == 400
    assert sent(url, {"sequence": 2, "reason": "second"}) == 204
    assert site.runs["one"].what == "second" and "second" in page(url)


def test_whatever_was_taken_can_be_shown(server: tuple[Any, str]) -> None:
    """Each event either changes nothing, or something that page, documents and reports can be made of."""
    site, _ = server
    dice = random.Random("events")
    values = [
        *(None, True, -1, 0, 1, 2**63, 10**400, 1.5, 1e308, "", "x", "\ud800", "\0", "<b>" * 900, "{0}", [], [1]),
        *({}, {"a": 1}, {"mac": 7}, {"mac": "\ud800"}, "done", "failed"),
    ]
    kinds = ["started", "progressed", "finished", "facts", "waiting", "nothing-to-do", "fetched", "ended", "other"]
    names = ["run", "sequence", "node", "number", "count", "done", "total", "description", "facts", "reason"]
    names += ["input_sha256", "outcome", "error", "report", "event"]
    taken = 0
    for number in range(1, 1001):
        event = {"run": "one", "sequence": number, "node": {"mac": NODE}, "event": dice.choice(kinds)}
        event |= {name: dice.choice(values) for name in dice.sample(names, dice.randint(0, 5))}
        with contextlib.suppress(ValueError):
            site.take("one", "application/jsonl", json.dumps(event).encode())
            taken += 1
        assert site.page().encode() and site.document(NODE) is None
        assert all(json.dumps(run.report, indent=1).encode() for run in site.runs.values())
    assert 100 < taken < 900


@pytest.mark.parametrize("path", ["//[x", "/documents/%00", "/documents/%ff", "/documents/%ED%A0%80", "/reports/x"])
def test_a_path_of_nothing(server: tuple[Any, str], path: str) -> None:
    connection = http.client.HTTPConnection(server[1].removeprefix("http://"), timeout=60)
    connection.request("GET", path)
    assert connection.getresponse().status == 404
    connection.close()


def test_a_request_is_refused_by_its_head(server: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    site, url = server
    assert post(f"{url}/events", b"x", Run="a b") == 400
    assert post(f"{url}/events", b"x" * (41 << 20), Run="one") == 413
    site.key = b"0123456789abcdef"
    monkeypatch.setattr(site, "signed", None)  # which is not asked
    assert post(f"{url}/events", b"x" * (9 << 20), Run="one") == 403
    assert post(f"{url}/elsewhere", b"x" * (9 << 20), Run="one") == 404


def test_names_in_a_path_are_unquoted(server: tuple[Any, str]) -> None:
    site, url = server
    (site.documents / "ABC 1%2F2.json").write_text("{}")
    assert page(f"{url}/documents/ABC%201%2F2?x=y") == "{}"


@pytest.mark.parametrize("name", ["../key", "..%2fkey", "/etc/passwd", "", ".hidden"])
def test_the_server_gives_documents_alone(ramdisk: Ramdisk, name: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{ramdisk.url}/documents/{name}", timeout=10)
    assert caught.value.code == 404


@pytest.mark.parametrize(
    ("kind", "lack"),
    [
        ("", "it left no report"),
        ("truncate --size 33M", "its report is larger than 32 MiB"),
        ("echo '{\"plan\": {' >", "its report is no JSON"),
        ("echo '[]' >", "its report is no object of JSON"),
        ("echo '{}' >", "its report names no disk"),
        ('echo \'{"plan": {"disks": 7}}\' >', "its report names no disk"),
        ('echo \'{"plan": {"disks": [{"device": "/dev/vda"}]}}\' >', ""),
    ],
)
def test_why_a_report_tells_of_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, lack: str) -> None:
    program = tmp_path / deploy.PROGRAM
    program.write_text(f"#!/bin/sh\n{kind and f'{kind} {tmp_path}/report.json'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    outcome = deploy.deploy(b"{}", (), 60.0, print, tmp_path)
    assert (outcome.code, outcome.lack, outcome.disks) == (0, lack, () if lack else ("/dev/vda",))


def test_a_deployment_that_cannot_be_marked_is_not_done(ramdisk: Ramdisk) -> None:
    subprocess.run(["sfdisk", "--quiet", ramdisk.disk], input="label: dos\nsize=2M\n", text=True, check=True)
    assert (ramdisk.boot().returncode, ramdisk.next, ramdisk.runs[0].state) == (6, [], "failed")
    start = "failed with exit code 6: the node is deployed, but no mark can be written: sfdisk "
    assert ramdisk.console[-1].startswith(start)
    assert ramdisk.console[-1].endswith("; without a mark each restart would deploy it again")


@pytest.fixture
def disk(ramdisk: Ramdisk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A disk with a mark, the only one of this machine."""
    monkeypatch.setenv("PATH", str(ramdisk.programs), prepend=":")
    mark.put(DIGEST, [str(ramdisk.disk)])
    assert mark.look() == mark.Marks({str(ramdisk.disk): DIGEST[:12]}, {})
    return ramdisk.disk


def test_a_mark_that_cannot_be_known_has_nothing_done(disk: Path, ramdisk: Ramdisk) -> None:
    with disk.open("r+b") as file:  # both headers of the GPT
        for place in (512, (8 << 20) - 512):
            file.seek(place)
            file.write(bytes(512))
    assert (ramdisk.boot().returncode, ramdisk.next) == (4, [])
    assert not (ramdisk.programs / "argv").exists()
    reason = "its partition table, a GPT, is damaged"
    assert f"whether {disk} bears the mark of a deployment cannot be known: {reason}; " in ramdisk.console[-1]


def test_a_disk_that_cannot_be_read(disk: Path, ramdisk: Ramdisk) -> None:
    disk.write_bytes(bytes(8 << 20))
    assert mark.look() == mark.Marks()  # that it has no table can be read
    disk.write_bytes(bytes(7 << 20))
    assert "ends before its size" in mark.look().unknown[str(disk)]
    disk.unlink()
    assert "No such file" in mark.look().unknown[str(disk)]
    (ramdisk.programs / "sfdisk").write_text("#!/bin/sh\nkill -9 $$\n")
    (ramdisk.programs / "sfdisk").chmod(0o755)
    assert "sfdisk" in mark.look().unknown[str(disk)]


def test_a_path_of_a_map_is_not_looked_at(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path on standby gives errors: the map tells."""
    (device,) = lsblk.devices()
    path = replace(device, path="/nowhere/sda", name="sda")
    table = [path, replace(device, type="mpath", name="dm-0")]
    monkeypatch.setattr(lsblk, "devices", lambda: table)
    monkeypatch.setattr(multipath, "paths", lambda name: ["sda"] if name == "dm-0" else [])
    assert mark.look() == mark.Marks({str(disk): DIGEST[:12]}, {})


def test_a_node_with_too_little_memory_is_not_touched(ramdisk: Ramdisk) -> None:
    meminfo = ramdisk.root / "proc/meminfo"
    meminfo.write_text("MemTotal:  700000 kB\nMemAvailable:  200000 kB\n")
    done = ramdisk.boot("bareon.after=poweroff")
    reason = "the memory is too small: the ramdisk leaves 195.3 MiB, and a deployment needs 256 MiB; use a node with"
    assert done.returncode == 4 and reason in done.stderr
    assert ramdisk.console[0].startswith(f"failed with exit code 4: {reason}")
    assert not ramdisk.next and not (ramdisk.programs / "argv").exists()
    (run,) = ramdisk.runs
    assert (run.state, run.what[: len(reason)]) == ("failed", reason)
    meminfo.write_text("MemTotal:  700000 kB\nMemAvailable:  262144 kB\n")
    assert ramdisk.boot("bareon.after=poweroff").returncode == 0


def test_facts_wait_for_neighbours_when_they_are_told_to(ramdisk: Ramdisk) -> None:
    heard = table.Table(ramdisk.root)
    heard.take("eth0", Announcement(NeighbourFacts("local", "leaf", "local", "7"), 600))
    assert ramdisk.boot("bareon.after=poweroff bareon.lldp_timeout=1").returncode == 0
    assert ramdisk.console[:2] == [
        "no neighbour was heard by LLDP within 1 s at eth1",
        f"asks for its document at {ramdisk.url}/documents/{NODE}",
    ]
    assert ramdisk.runs[0].state == "done"

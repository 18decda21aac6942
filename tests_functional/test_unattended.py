# SPDX-License-Identifier: Apache-2.0
"""Nodes that deploy themselves: what their kernel's command line says, and the server of ``examples/server``."""

from __future__ import annotations

import datetime
import importlib.util
import io
import json
import shutil
import ssl
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bareon.tests.certificates import dated
from ramdisk import Ramdisk, archive, outputs, parameters, sbom
from tests_functional.bench import browser, firmware, neighbour, timeserver
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.hypervisor import BRIDGE, SERVER
from tests_functional.bench.medium import Medium, Started
from tests_functional.bench.node import KERNEL_PARAMETERS, Boot, Node
from tests_functional.bench.session import Session, artifacts_directory
from tests_functional.bench.strategy import DEPLOYED_LIMIT
from tests_functional.bench.template import Template
from tests_functional.bench.waiting import until

EXAMPLE = Path(__file__).parents[1] / "examples/server/bareon_server.py"
KEY = b"a key that is nowhere but in this ramdisk"
#: Seconds from power on to power off, and between two looks.
LIMIT, PAUSE = 900.0, 0.5


def example() -> ModuleType:
    """Return the example as a module."""
    spec = importlib.util.spec_from_file_location("bareon_server", EXAMPLE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


@contextmanager
def serving(
    documents: Path,
    key: bytes | None,
    address: str = "127.0.0.1",
    port: int = 0,
    context: ssl.SSLContext | None = None,
) -> Iterator[tuple[Any, str]]:
    """Run the example, behind TLS with a ``context``; give its site, and its URL."""
    module = example()
    site = module.Site(documents, key)
    server = module.serve(site, address, port)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield site, f"http{'s' if context else ''}://{address}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def keyed(plain: Ramdisk, place: Path, authorities: bytes = b"") -> Ramdisk:
    """Return a ramdisk with the key for events in it, and certificates in ``/etc/bareon/ca.pem``."""
    tree = place / "tree"
    (tree / "etc/bareon").mkdir(parents=True)
    (tree / "etc/bareon/events.key").write_bytes(KEY)
    (tree / "etc/bareon/ca.pem").write_bytes(authorities)
    archive.pack(tree, place / "key.cpio")
    whole = place / "initramfs"
    whole.write_bytes(plain.initramfs.read_bytes() + (place / "key.cpio").read_bytes())
    shutil.copyfile(plain.initramfs.with_name(sbom.FILE), place / sbom.FILE)
    return Ramdisk(plain.kernel, whole, plain.version)


def words(url: str, after: str = "poweroff") -> str:
    """Return a kernel's command line; ``after`` is what comes of a success."""
    ours = f"bareon.input={url}/documents/{{mac}} bareon.events={url}/events bareon.after={after}"
    return f"{KERNEL_PARAMETERS} {ours} bareon.image_attempts=3"


def document(url: str, disk: dict[str, str]) -> str:
    """Return a document of one image, for the disk that is named."""
    root = {"type": "partition", "mount": "/", "size": "remaining", "file_system": "ext4"}
    return json.dumps(
        {
            "partitions_policy": "clean",
            "images": [{"name": "system", "image_pull_url": url}],
            "partitions": [{"type": "disk", "id": disk, "volumes": [root]}],
        }
    )


def told_in_full(run: Any, node: Node) -> None:
    """The server has been told of each step of a node that is deployed, and of what that node is."""
    assert (run.state, run.report["outcome"], run.progress) == ("done", "done", 1.0), vars(run)
    assert run.node["mac"] == node.port.mac
    hardware = run.facts["hardware"]
    assert (hardware["processors"], len(hardware["ports"]), hardware["ports"][0]["link"]) == (1, 1, True)
    assert hardware["uuid"] == run.node["uuid"]
    assert run.sequences == set(range(1, len(run.sequences) + 1)), "events are missing"
    assert run.count > 3 and run.report["steps"][-1]["outcome"] == "finished"


def test_the_page_of_nodes_in_a_browser(tmp_path: Path) -> None:
    """Nodes that wait, copy, have failed, and are done; the pictures are among the artifacts, to be looked at."""
    step = {"number": 3, "count": 5, "description": "Bring the image system"}
    told: list[list[dict[str, Any]]] = [
        [{"event": "waiting", "reason": "the server has no document for this node (404); asking again"}],
        [{"event": "started", **step}, {"event": "progressed", **step, "done": 70, "total": 100}],
        [{"event": "ended", "outcome": "failed", "error": "/dev/vda: no such disk", "report": {"outcome": "failed"}}],
        [{"event": "ended", "outcome": "done", "report": {"outcome": "done"}}],
    ]
    folder = artifacts_directory() / "unattended-page"
    folder.mkdir(parents=True, exist_ok=True)
    with serving(tmp_path, None) as (site, url):
        empty, full = folder / "empty.png", folder / "nodes.png"
        assert browser.photograph(url, empty) == (browser.WIDTH, browser.HEIGHT)
        for number, events in enumerate(told):
            head = {"run": str(number), "node": {"mac": f"52:54:00:00:00:0{number}", "serial": f"SERIAL-{number}"}}
            lines = [json.dumps({**head, "sequence": place, **event}) for place, event in enumerate(events, 1)]
            site.take(str(number), "application/jsonl", "\n".join(lines).encode())
        site.take("2", "application/gzip", b"the bundle")
        assert [run.progress for run in site.runs.values()] == [0.0, pytest.approx(0.54), 0.0, 1.0]
        assert browser.photograph(url, full) == (browser.WIDTH, browser.HEIGHT)
        # Flat colours compress to nothing: these many bytes are text and bars.
        assert full.stat().st_size > empty.stat().st_size + 10_000
    print(f"pictures: {empty}, {full}")


@pytest.mark.long
@pytest.mark.thorough("four boots of a machine; bareon/tests/test_unattended.py has the faults without one")
def test_from_power_on_to_the_deployed_system(session: Session, tmp_path: Path) -> None:
    """Nobody logs in. A document that does not fit fails and says why, one that fits is deployed.

    At the next boot with the same command line the system is left alone, and it boots.
    """
    template = Template.load("one_disk")
    node = session.node(template)
    node.make_disks(template.disks)
    documents = tmp_path / "documents"
    documents.mkdir()
    file, image = documents / f"{node.port.mac}.json", f"{session.rsync.url}/cloud/"
    file.write_text(document(image, {"type": "serial", "value": "BAREON-Z"}))  # another node's
    with session.explained(node, "unattended"):
        with serving(documents, KEY, SERVER) as (site, url):
            ramdisk = keyed(session.products.ramdisk, tmp_path)
            boot = Boot(ramdisk.kernel, ramdisk.initramfs, words(url))
            node.power_on(boot)
            until(lambda: any(run.bundle for run in site.runs.values()), "a bundle has come", LIMIT, PAUSE)
            (run,) = site.runs.values()
            assert run.state == "failed" and run.report["exit_code"] == 4
            assert run.what.startswith("$.partitions[0].id: "), run.what
            assert f"bareon: failed with exit code 4: {run.what}" in node.console.read_text(errors="replace")
            assert node.ssh.run("cat /var/log/bareon-unattended.log").stdout.count("exit code 4") == 1
            with tarfile.open(fileobj=io.BytesIO(run.bundle)) as bundle:
                assert "bareon-bundle/report.json" in bundle.getnames()
            node.power_off()
            site.runs.clear()
            file.write_text(document(image, {"type": "serial", "value": "BAREON-A"}))
            node.power_on(boot)
            node.wait_off(LIMIT)
            (run,) = site.runs.values()
            told_in_full(run, node)
            assert run.facts["disks"][0]["device"] == "/dev/vda"
            site.runs.clear()  # a server that has forgotten: the mark on the disk alone is left
            node.power_on(boot)
            node.wait_off(LIMIT)
            (run,) = site.runs.values()
            assert run.state == "nothing-to-do" and "/dev/vda bears the mark of this very document" in run.what
        node.power_on()
        node.ssh.wait(DEPLOYED_LIMIT)
        assert node.ssh.run("findmnt --noheadings --output SOURCE /").stdout == "/dev/vda2\n"


@pytest.mark.long
@pytest.mark.thorough("each deploys a machine; test_media.py boots the same")
@pytest.mark.parametrize(
    ("kind", "machine", "image"),
    [("ipxe", "one_disk", "debian12"), ("cd", "secure_boot", "debian13"), ("http", "secure_boot", "debian13")],
)
def test_by_what_operators_boot(kind: str, machine: str, image: str, session: Session, tmp_path: Path) -> None:
    """By iPXE, from the ISO in a CD drive and by HTTP with Secure Boot on, to the system that then starts by itself.

    The facts that the server gets have the switch at the node's port.
    """
    template = Template.load(machine)
    if machine == "secure_boot":
        template = template.with_nvram(firmware.microsofts(tmp_path / "nvram.fd", "uefi11"))
    node = Started(session.hypervisor, template, SCRATCH / f"unattended-{kind}", session.products.key)
    node.make_disks(template.disks)
    documents, made = tmp_path / "documents", tmp_path / "made"
    documents.mkdir()
    text = document(f"{session.rsync.url}/{image}/", {"type": "serial", "value": "BAREON-A"})
    (documents / f"{node.port.mac}.json").write_text(text)
    with session.explained(node, f"unattended-{kind}"):
        with serving(documents, KEY, SERVER) as (site, url):
            ramdisk = keyed(session.products.ramdisk, tmp_path)
            line = parameters.line(f"{words(url)} bareon.lldp_timeout=35")
            outputs.write(session.products.base, ramdisk, line, made, print)
            node.medium = Medium(made, kind)
            with node.medium.served():
                node.power_on()
                with neighbour.speaking(neighbour.at_bridge(BRIDGE)):
                    node.wait_off(LIMIT)
            (run,) = site.runs.values()
            told_in_full(run, node)
            assert run.facts["hardware"]["ports"][0]["neighbours"] == [neighbour.TOLD]
        node.medium = None
        node.power_on()
        node.ssh.wait(DEPLOYED_LIMIT)
        assert f"ID={image.removeprefix('debian')}" in node.ssh.run("cat /etc/os-release").stdout.replace('"', "")
        on = node.ssh.run("od -An -j4 -tu1 /sys/firmware/efi/efivars/SecureBoot-*", check=False).stdout.split()
        assert on == (["1"] if machine == "secure_boot" else [])


@pytest.mark.long
@pytest.mark.thorough("a boot, and minutes of waiting; bareon/tests/test_unattended.py has what is said")
def test_a_clock_in_1970_and_certificates(session: Session, tmp_path: Path) -> None:
    """The node has no document by https until somebody tells it the time, and the server's certificate holds.

    It goes on by itself each time. The document is another node's, so that its disk is not touched.
    """
    now = datetime.datetime.now(datetime.UTC)
    valid, expired = (
        dated(tmp_path / name, start, end, SERVER)
        for name, start, end in (
            ("valid", f"{now:%Y%m%d%H%M%SZ}", "20900101000000Z"),
            ("expired", "20100101000000Z", "20110101000000Z"),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(valid)
    template = Template.load("one_disk").with_clock(0)
    node = session.node(template)
    node.make_disks(template.disks)
    node.console.unlink(missing_ok=True)  # what it has said in another test
    before = node.disk("vda").digest()
    (documents := tmp_path / "documents").mkdir()
    text = document(f"{session.rsync.url}/cloud/", {"type": "serial", "value": "BAREON-Z"})
    (documents / f"{node.port.mac}.json").write_text(text)

    def said(text: str) -> bool:
        return text in node.console_text()

    with session.explained(node, "clock-in-1970"), serving(documents, KEY, SERVER, context=context) as (site, url):
        ramdisk = keyed(session.products.ramdisk, tmp_path, valid.read_bytes() + expired.read_bytes())
        line = f"{words(url)} bareon.image_ca_file=/etc/bareon/ca.pem bareon.ntp={SERVER}"
        node.power_on(Boot(ramdisk.kernel, ramdisk.initramfs, line))
        until(lambda: said("is not yet valid by this machine's clock"), "the clock is the ramdisk's", LIMIT, PAUSE)
        assert said("bareon-ramdisk-trust: the clock showed 1970-01-01 00:0") and said(f"was not set by {SERVER}: ")
        context.load_cert_chain(expired)
        with timeserver.telling(SERVER):
            today = f"has expired by this machine's clock, which says {now:%Y-%m-%d}"
            until(lambda: said(today), "the clock is right", LIMIT, PAUSE)
        context.load_cert_chain(valid)
        until(lambda: any(run.bundle for run in site.runs.values()), "a bundle has come", LIMIT, PAUSE)
        (run,) = site.runs.values()
        assert (run.state, run.report["exit_code"]) == ("failed", 4), vars(run)
        assert run.what.startswith("$.partitions[0].id: no disk with serial"), run.what
        assert node.disk("vda").digest() == before

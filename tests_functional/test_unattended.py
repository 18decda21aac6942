# SPDX-License-Identifier: Apache-2.0
"""Nodes that deploy themselves: what their kernel's command line says, and the server of ``examples/server``."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ramdisk import archive
from tests_functional.bench import browser, evidence
from tests_functional.bench.hypervisor import SERVER
from tests_functional.bench.node import KERNEL_PARAMETERS, Boot
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
def serving(documents: Path, key: bytes | None, address: str = "127.0.0.1") -> Iterator[tuple[Any, str]]:
    """Run the example; give its site, and its URL."""
    module = example()
    site = module.Site(documents, key)
    server = module.serve(site, address, 0)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield site, f"http://{address}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def with_key(boot: Boot, place: Path, parameters: str) -> Boot:
    """Return a ramdisk with the key for events in it, and parameters on its command line."""
    tree = place / "tree"
    (tree / "etc/bareon").mkdir(parents=True)
    (tree / "etc/bareon/events.key").write_bytes(KEY)
    archive.pack(tree, place / "key.cpio")
    whole = place / "initramfs"
    whole.write_bytes(boot.initramfs.read_bytes() + (place / "key.cpio").read_bytes())
    return Boot(boot.kernel, whole, f"{KERNEL_PARAMETERS} {parameters}")


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
    root = {"type": "partition", "mount": "/", "size": "remaining", "file_system": "ext4"}
    disk = {"type": "disk", "id": {"type": "name", "value": "vdq"}, "volumes": [root]}
    document = {
        "partitions_policy": "clean",
        "images": [{"name": "system", "image_pull_url": f"{session.rsync.url}/cloud/"}],
        "partitions": [disk],
    }
    template = Template.load("one_disk")
    node = session.node(template)
    node.make_disks(template.disks)
    documents = tmp_path / "documents"
    documents.mkdir()
    file = documents / f"{node.port.mac}.json"
    file.write_text(json.dumps(document))
    try:
        with serving(documents, KEY, SERVER) as (site, url):
            words = f"bareon.input={url}/documents/{{mac}} bareon.events={url}/events bareon.after=poweroff"
            boot = with_key(session.strategy.boot, tmp_path, f"{words} bareon.image_attempts=3")
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
            disk["id"] = {"type": "serial", "value": "BAREON-A"}
            file.write_text(json.dumps(document))
            node.power_on(boot)
            node.wait_off(LIMIT)
            (run,) = site.runs.values()
            assert (run.state, run.report["outcome"], run.progress) == ("done", "done", 1.0), vars(run)
            assert run.node["mac"] == node.port.mac
            assert run.facts["disks"][0]["device"] == "/dev/vda"
            hardware = run.facts["hardware"]
            assert (hardware["processors"], len(hardware["ports"]), hardware["ports"][0]["link"]) == (1, 1, True)
            assert hardware["uuid"] == run.node["uuid"]
            assert run.sequences == set(range(1, len(run.sequences) + 1)), "events are missing"
            assert run.count > 3 and run.report["steps"][-1]["outcome"] == "finished"
            site.runs.clear()  # a server that has forgotten: the mark on the disk alone is left
            node.power_on(boot)
            node.wait_off(LIMIT)
            (run,) = site.runs.values()
            assert run.state == "nothing-to-do" and "/dev/vda bears the mark of this very document" in run.what
        node.power_on()
        node.ssh.wait(DEPLOYED_LIMIT)
        assert node.ssh.run("findmnt --noheadings --output SOURCE /").stdout == "/dev/vda2\n"
    except BaseException:
        place = evidence.collect(node, artifacts_directory() / "unattended")
        print(f"evidence: {place}\nthe console ends:\n{node.console_tail()}")
        raise
    finally:
        node.power_off()
        node.drop_disks()

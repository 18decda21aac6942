# SPDX-License-Identifier: Apache-2.0
"""bareon in Ironic's conductor: a real Ironic, fake hardware, and an SSH server in place of a ramdisk.

No machine boots and no disk is written; what the conductor's side does is all real.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bareon.ironic import ssh
from tests_functional.bench import cell
from tests_functional.bench.conductor import ApiError, Conductor
from tests_functional.bench.conductor_settings import CALLBACK_LIMIT
from tests_functional.bench.enrolled import Enrolled
from tests_functional.bench.httpd.certificate import make_certificate
from tests_functional.bench.products import Products
from tests_functional.bench.standin import Ramdisk, make_key
from tests_functional.bench.tls import in_front_of
from tests_functional.bench.waiting import until

GIB = 1 << 30
WAITING = ("wait call-back", "service wait")
DISKS = [
    {"device": "/dev/sda", "size": 40 * GIB, "model": "SLOW", "serial": "one", "scsi": "0:0:0:0"},
    {"device": "/dev/sdb", "size": 20 * GIB, "model": "FAST", "serial": "two", "scsi": "0:0:1:0"},
]
IMAGE = {"image_source": "rsync://192.0.2.1/images/system", "image_type": "partition"}
_numbers = itertools.count(1)


def document(disk: str = "sda", **keys: Any) -> dict[str, Any]:
    """Return a document for one disk."""
    return {
        "partitions_policy": "clean",
        "images": [{"name": "system", "image_pull_url": "rsync://192.0.2.1/images/system"}],
        "partitions": [
            {
                "type": "disk",
                "id": {"type": "name", "value": disk},
                "volumes": [{"type": "partition", "mount": "/", "size": "remaining"}],
            }
        ],
        **keys,
    }


class Node(Enrolled):
    """A node of fake hardware, and the ramdisk that it boots."""

    def __init__(self, conductor: Conductor, ramdisk: Ramdisk, **driver_info: Any) -> None:
        self.ramdisk = ramdisk
        wanted = {
            "driver": "fake-hardware",
            "deploy_interface": "bareon",
            "management_interface": "noop",
            "driver_info": driver_info,
        }
        super().__init__(conductor, f"52:54:00:00:00:{next(_numbers):02x}", wanted)

    def beat(self, **changes: Any) -> None:
        """Send one heartbeat."""
        self.ramdisk.heartbeat(self.conductor, self.uuid, **changes)

    def beat_until(self, *states: str) -> dict[str, Any]:
        """Send heartbeats until the node is in one of some states; return the node."""
        return self.beat_for(lambda found: found["provision_state"] in states, " or ".join(states))

    def beat_for(self, condition: Callable[[dict[str, Any]], object], what: str) -> dict[str, Any]:
        """Send heartbeats until a condition holds for the node; return the node."""
        found: dict[str, Any] = {}

        def reached() -> bool:
            found.update(self.show())
            if found["reservation"]:
                return False
            if condition(found):
                return True
            if found["provision_state"] in WAITING:
                try:
                    self.beat()
                except ApiError:
                    # What the one before began may have ended since the look, and with it the token.
                    if self.show()["provision_state"] in WAITING:
                        raise
            return False

        try:
            until(reached, what)
        except AssertionError as error:
            raise AssertionError(f"{error}: {found['provision_state']}: {found['last_error']}") from None
        return found

    def booted(self, target: str = "active", **body: Any) -> None:
        """Deploy as far as the ramdisk's first heartbeat."""
        self.provision(target, **body)
        self.wait("wait call-back")
        self.ramdisk.look_up(self.conductor, self.mac)

    def running(self, **body: Any) -> None:
        """Deploy until the run is going on in the ramdisk."""
        self.booted(**body)
        self.beat_for(lambda found: "bareon_run" in found["driver_internal_info"], "the run was started")
        until(lambda: (self.ramdisk.folder / "report.json").exists(), "the program is at work")

    def failed(self) -> str:
        """Deploy until that fails, and return the reason."""
        self.booted()
        return str(self.beat_until("deploy failed", "active")["last_error"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory for the module."""
    return tmp_path_factory.mktemp("ironic")


@pytest.fixture(scope="module")
def key(place: Path) -> Path:
    """Return the conductor's private key."""
    make_key(place / "key")
    return place / "key"


@pytest.fixture(scope="module")
def conductor(place: Path) -> Iterator[Conductor]:
    """Return a running Ironic."""
    assert cell.inside()
    running = Conductor(Products.received().ironic, place / "conductor")
    running.start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def ramdisk(tmp_path: Path, key: Path) -> Iterator[Ramdisk]:
    """Return a ramdisk that has booted."""
    running = Ramdisk(tmp_path / "ramdisk", key)
    running.start()
    facts = {"format": 1, "firmware": "bios", "disks": DISKS, "cmdline": ""}
    (running.place / "facts.json").write_text(json.dumps(facts))
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def node(conductor: Conductor, ramdisk: Ramdisk, key: Path) -> Node:
    """Return an available node."""
    return Node(conductor, ramdisk, bareon_key_filename=str(key))


@pytest.fixture(scope="module", autouse=True)
def silent(conductor: Conductor, place: Path, key: Path) -> Node:
    """Return a node whose ramdisk never calls, long before that can be known."""
    silent = Node(conductor, Ramdisk(place / "silent", key), bareon_key_filename=str(key))
    silent.set(bareon_provision=document())
    silent.provision("active")
    return silent


PROGRESS = {"event": "progressed", "number": 2, "count": 5, "action": "do_copyimage", "description": "Copy 'system'"}


def test_deployment(node: Node) -> None:
    """From available to active and back, with what can be seen on the way."""
    event = {**PROGRESS, "seconds": 1.0, "done": 50, "total": 200}
    boot_info: dict[str, Any] = {"elements": []}
    node.ramdisk.behave(events=[event], hold=True, files={"--boot_info_path": json.dumps(boot_info)})
    node.set(bareon_provision=document())
    node.running()
    found = node.beat_for(lambda found: "bytes" in found["driver_internal_info"]["bareon_progress"], "progress")
    shown = {"step": 2, "of": 5, "action": "do_copyimage", "description": "Copy 'system'"}
    assert found["driver_internal_info"]["bareon_progress"] == {**shown, "bytes": 50, "total": 200, "percent": 25}
    node.ramdisk.release()
    found = node.beat_until("active", "deploy failed")
    assert (found["provision_state"], found["last_error"]) == ("active", None)
    assert found["instance_info"]["bareon_boot_info"] == boot_info
    report = found["driver_internal_info"]["bareon_report"]
    assert (report["outcome"], report["exit_code"], report["seconds"]) == ("done", 0, 1.5)
    assert json.loads(Path(report["report"]).read_text())["outcome"] == "done"
    assert Path(report["report"]).stat().st_mode & 0o077 == 0
    assert not {"bareon_progress", "bareon_run", "bareon_ramdisk"} & set(found["driver_internal_info"])
    node.provision("deleted")
    left = node.wait("available")
    assert not [name for name in left["driver_internal_info"] if name.startswith("bareon")]


@pytest.mark.parametrize("given", ["base64", "a URL", "an object"])
def test_ironics_own_fields(given: str, node: Node, conductor: Conductor) -> None:
    """A root disk by hints with an operator, a configdrive in each form that Ironic takes."""
    content = configdrive()
    url = f"{conductor.files_url}/drive"
    (conductor.place / "http/drive").write_text(content)
    drive = {"base64": content, "a URL": url, "an object": {"meta_data": {"hostname": "n"}}}[given]
    node.set(**IMAGE, root_gb=10, swap_mb=64, configdrive=drive)
    node.properties(root_device={"size": ">= 10", "model": "<in> fast"})
    node.booted()
    node.beat_until("active")
    (disk,) = node.ramdisk.given()["partitions"]
    assert disk["id"] == {"type": "name", "value": "/dev/sdb"}
    assert [volume["size"] for volume in disk["volumes"]] == ["64 MiB", "10 GiB"]
    brought = node.ramdisk.folder / "config-drive.img"
    if given == "an object":
        assert node.ramdisk.given()["configdrive"] == drive and not brought.exists()
    else:
        assert brought.read_text() == content
    assert content not in conductor.log()


def test_the_smallest_disk_without_hints(node: Node) -> None:
    node.set(**IMAGE)
    node.booted()
    node.beat_until("active")
    assert node.ramdisk.given()["partitions"][0]["id"]["value"] == "/dev/sdb"
    assert "deploy_data" not in node.ramdisk.given()


def test_again(node: Node) -> None:
    """A rebuild is a deployment anew. Without an ``image_source`` Ironic itself fails."""
    node.set(bareon_provision=document(), **IMAGE)
    node.booted()
    node.beat_until("active")
    node.set(bareon_provision=document("sdb"))
    node.booted("rebuild")
    node.beat_until("active")
    assert node.ramdisk.given() == document("sdb")


def test_the_order_of_boot_where_ironic_sets_the_device(node: Node) -> None:
    """bareon leaves the order alone there, unless the document says otherwise."""
    change = [{"op": "replace", "path": "/management_interface", "value": "fake"}]
    node.conductor.call("PATCH", f"/v1/nodes/{node.uuid}", change)
    node.ramdisk.behave(hold=True)
    node.set(bareon_provision=document())
    node.running()
    assert node.ramdisk.given() == document(deploy_data={"boot_order": "unchanged"})
    node.provision("deleted")
    node.wait("available")


@pytest.fixture
def root(node: Node, tmp_path: Path) -> Path:
    """Return the root folder of a ramdisk, as far as the program looks at it that calls Ironic from there."""
    root = tmp_path / "root"
    files = {
        "sys/class/net/eth0/address": node.mac,
        "sys/class/net/eth0/type": "1",
        "etc/ssh/ssh_host_ed25519_key.pub": node.ramdisk.host_key,
        "root/.ssh/authorized_keys": "of the builder",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text.strip() + "\n")
    for name in ("run", "proc", "var/log", "sys/class/net/eth0/device"):
        (root / name).mkdir(parents=True)
    return root


def caller(root: Path, node: Node, parameters: str, *options: str) -> subprocess.Popen[bytes]:
    """Start the program, in a ramdisk that was booted with parameters and the conductor's key."""
    key = ssh.kernel_parameter((node.ramdisk.place / "authorized_keys").read_text().strip())
    (root / "proc/cmdline").write_text(f"{parameters} bareon-key={key}\n")
    program = "import sys; from bareon.cmd.callback import main; sys.exit(main())"
    arguments = ["--root", str(root), "--ssh_port", str(node.ramdisk.port), *options]
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE)


def test_the_ramdisks_own_program(node: Node, root: Path, tmp_path: Path) -> None:
    """The program that calls Ironic from a real ramdisk, by TLS, in place of the stand-in's heartbeats."""
    authority = make_certificate(tmp_path, ["127.0.0.1"])
    node.set(bareon_provision=document())
    node.provision("active")
    node.wait("wait call-back")
    with in_front_of(node.conductor.port, authority) as port:
        running = caller(root, node, f"ipa-api-url=https://127.0.0.1:{port} ipa-ca-file={authority.public}")
        try:
            until(lambda: node.notes.get("bareon_run"), "the first heartbeat has started the run")
            found = root / "run/bareon-ironic-callback.pid"
            until(lambda: (node.ramdisk.folder / "code").exists(), "the end of the run")
            node.wait("wait call-back")
            running.send_signal(signal.SIGUSR1)  # as the runner does, which looks for the number elsewhere
            node.wait("active")
            assert found.read_text().strip() == str(running.pid)
        finally:
            running.terminate()
            print(running.communicate(timeout=30))
    admitted = (root / "root/.ssh/authorized_keys").read_text()
    assert admitted.split()[:2] == (node.ramdisk.place / "authorized_keys").read_text().split()[:2]


def test_an_api_whose_certificate_is_not_known(node: Node, root: Path, tmp_path: Path) -> None:
    """The ramdisk tells it nothing, and says why on its console; the node waits on."""
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
    own, other = (make_certificate(tmp_path / name, ["127.0.0.1"]) for name in ("own", "other"))
    node.set(bareon_provision=document())
    node.provision("active")
    node.wait("wait call-back")
    with in_front_of(node.conductor.port, own) as port:
        parameters = f"ipa-api-url=https://127.0.0.1:{port} ipa-ca-file={other.public}"
        running = caller(root, node, parameters, "--lookup_timeout", "0.1")
        _, said = running.communicate(timeout=60)
    assert running.returncode == 6
    assert b"certificate" in said.splitlines()[-1]
    notes = node.wait("wait call-back")["driver_internal_info"]
    assert not {"agent_url", "agent_secret_token", "bareon_run"} & set(notes)


def test_a_document_as_argument(node: Node) -> None:
    """The argument of the step comes before what the node has."""
    step = {"interface": "deploy", "step": "provision", "priority": 80, "args": {"provision": document("sdb")}}
    node.set(bareon_provision=document("nowhere"))
    node.booted(deploy_steps=[step])
    node.beat_until("active")
    assert node.ramdisk.given() == document("sdb")


def template(conductor: Conductor, given: dict[str, Any]) -> str:
    """Make a deploy template with a document, and return its name, which is that of a trait."""
    name = f"CUSTOM_DOCUMENT_{next(_numbers)}"
    step = {"interface": "deploy", "step": "provision", "priority": 80, "args": {"provision": given}}
    conductor.call("POST", "/v1/deploy_templates", {"name": name, "steps": [step]})
    return name


@pytest.mark.parametrize("image", ["the document's own", "Ironic's"])
def test_a_deploy_template(image: str, node: Node, conductor: Conductor) -> None:
    """The document of a trait that the instance asks for. Nova gives an image in Glance, which nobody fetches."""
    given = document("sdb")
    if image == "Ironic's":
        del given["images"][0]["image_pull_url"]
        node.set(**IMAGE, bareon_provision=document("nowhere"))
    else:
        node.set(image_source=GLANCE, image_type="partition")
    trait = template(conductor, given)
    node.traits(trait)
    node.set(traits=[trait])
    node.booted()
    node.beat_until("active", "deploy failed")
    assert node.ramdisk.given() == document("sdb")
    node.provision("service", service_steps=[{"interface": "deploy", "step": "verify"}])
    node.wait("service wait")
    node.ramdisk.look_up(conductor, node.mac)
    assert "bareon: exit 5, " in node.beat_until("service failed", "active")["last_error"]
    assert node.ramdisk.given() == document("sdb", partitions_policy="verify")


def test_a_deploy_template_that_is_invalid(node: Node, conductor: Conductor) -> None:
    trait = template(conductor, document(partitions_policy="cleen"))
    node.traits(trait)
    node.set(traits=[trait])
    with pytest.raises(ApiError, match=r"\$\.partitions_policy: ") as caught:
        node.provision("active")
    assert caught.value.code == 400
    assert node.show()["provision_state"] == "available"


def test_an_argument_that_is_invalid(node: Node) -> None:
    """It is seen by the first step, which boots nothing then."""
    step = {"interface": "deploy", "step": "provision", "priority": 80, "args": {"provision": {"partitions": 1}}}
    node.provision("active", deploy_steps=[step])
    found = node.wait("deploy failed")
    assert "$.partitions: " in found["last_error"]
    assert found["power_state"] == "power off"


GLANCE = "9a3ac1b5-2a7c-4a0f-8e7c-6f6a3f1c2a11"
CHOICES: list[tuple[str, dict[str, Any]]] = [
    ("bareon", {"bareon_provision": {}}),
    ("bareon", {"image_source": "rsync://192.0.2.1/images/system"}),
    ("bareon", {"image_source": "192.0.2.1::images/system"}),
    ("bareon", {"image_source": "swift://images/system.qcow2"}),
    ("bareon", {"image_source": GLANCE, "traits": ["CUSTOM_OTHER", "the template"]}),
    ("direct", {"image_source": GLANCE, "traits": ["CUSTOM_OTHER"]}),
    ("direct", {"image_source": "http://192.0.2.1/image"}),
    ("direct", {"image_source": "http://192.0.2.1/image", "bareon_provision": None}),
    ("direct", {}),
]


@pytest.mark.parametrize("driver", ["fake-hardware", "bareon-redfish", "bareon-ipmi"])
def test_what_autodetect_chooses(driver: str, conductor: Conductor) -> None:
    """The interface whose words are those of the validation: bareon's asks for its key."""
    kernel = {"deploy_kernel": "http://192.0.2.1/kernel", "deploy_ramdisk": "http://192.0.2.1/initramfs"}
    wanted = {"driver": driver, "deploy_interface": "autodetect", "boot_interface": "ipxe", "driver_info": kernel}
    uuid = conductor.call("POST", "/v1/nodes", wanted)["uuid"]
    port = {"address": f"52:54:00:00:00:{next(_numbers):02x}", "node_uuid": uuid}
    conductor.call("POST", "/v1/ports", port)
    trait = template(conductor, document())
    for choice, given in CHOICES:
        info = json.loads(json.dumps({**given, "image_type": "partition"}).replace("the template", trait))
        change = [{"op": "replace", "path": "/instance_info", "value": info}]
        conductor.call("PATCH", f"/v1/nodes/{uuid}", change)
        found = conductor.call("GET", f"/v1/nodes/{uuid}/validate")["deploy"]
        assert ("bareon_key_filename" in (found["reason"] or "")) is (choice == "bareon"), (info, found)


def test_autodetect(node: Node) -> None:
    """The node has bareon's interface for as long as its deployment lasts."""
    node.deploy_interface("autodetect")
    node.set(bareon_provision=document())
    node.booted()
    assert node.beat_until("active")["deploy_interface"] == "bareon"
    node.provision("deleted")
    assert node.wait("available")["deploy_interface"] == "autodetect"


INVALID: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    (
        {"bareon_provision": {"partitions": [{"type": "disk", "id": {"type": "nme", "value": "a"}, "volumes": 1}]}},
        {},
        ["$.partitions[0].id.type: ", "$.partitions[0].volumes: "],
    ),
    ({"image_source": "http://192.0.2.1/image"}, {}, ["instance_info.image_type: "]),
    ({**IMAGE, "root_gb": "much"}, {}, ["instance_info.root_gb: is no whole number"]),
    ({**IMAGE, "root_device": {"rotational": True}}, {}, ["root_device.rotational: "]),
    ({**IMAGE, "root_device": {"size": "huge"}}, {}, ["root_device: "]),
    ({**IMAGE, "root_device": {"model": "<in>"}}, {}, ["root_device: cannot be understood"]),
    ({**IMAGE, "root_device": ["model"]}, {}, ["root_device: is no object with hints"]),
    ({**IMAGE}, {"bareon_key_filename": "/nowhere"}, ["driver_info.bareon_key_filename: "]),
    ({**IMAGE}, {"bareon_deploy_timeout": "x"}, ["driver_info.bareon_deploy_timeout: "]),
]


@pytest.mark.parametrize(("info", "driver", "lines"), INVALID)
def test_refused_at_once(info: dict[str, Any], driver: dict[str, Any], lines: list[str], node: Node) -> None:
    """What is invalid is refused by the API, with JSON paths; the node stays as it is."""
    node.set(**info)
    node.driver(**driver)
    with pytest.raises(ApiError) as caught:
        node.provision("active")
    assert caught.value.code == 400
    for line in lines:
        assert line in str(caught.value)
    assert node.show()["provision_state"] == "available"


def test_a_key_that_others_can_read(node: Node, key: Path, tmp_path: Path) -> None:
    open_key = tmp_path / "key"
    open_key.write_bytes(key.read_bytes())
    open_key.chmod(0o644)
    node.driver(bareon_key_filename=str(open_key))
    node.set(bareon_provision=document())
    with pytest.raises(ApiError, match=r"is open to others \(mode 0644\)"):
        node.provision("active")


def test_neither_document_nor_image(node: Node) -> None:
    """An argument of the step might still come, so that the first step says so, before it boots anything."""
    node.provision("active")
    found = node.wait("deploy failed")
    assert "there is neither instance_info.bareon_provision, nor an argument" in found["last_error"]
    assert found["power_state"] == "power off"


FAILURES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"bareon_provision": document("nowhere")},
        {},
        "bareon: exit 4, this node cannot satisfy the input; the disks are untouched: $.partitions[0].id: ",
    ),
    (
        {"bareon_provision": document()},
        {
            "exit": 7,
            "errors": "bareon-provision: image 'system': the sha256 digest is another\nbareon-provision: x\n",
        },
        "bareon: exit 7, an image could not be fetched, or did not arrive whole: image 'system': the sha256 digest",
    ),
    (
        {**IMAGE, "root_device": {"serial": "none"}},
        {},
        "no disk matches {'serial': 'none'}; this node has: /dev/sda (40 GiB), /dev/sdb (20 GiB)",
    ),
    (
        {"bareon_provision": document()},
        {"exit": 7, "errors": "bareon-provision: told \x1b[2J" + "a." * 100_000 + "\n"},
        "bareon: exit 7, an image could not be fetched, or did not arrive whole: told",
    ),
    (
        {**IMAGE, "root_device": {"size": ">= 1"}},
        {},
        "2 disks match {'size': '>= 1'}; those are: /dev/sda, /dev/sdb",
    ),
]


@pytest.mark.parametrize(("info", "behaviour", "reason"), FAILURES)
def test_failures(info: dict[str, Any], behaviour: dict[str, Any], reason: str, node: Node) -> None:
    """What a run ends with is the node's last error."""
    node.ramdisk.behave(**behaviour, files={"--bundle": "a bundle"})
    node.set(**info)
    error = node.failed()
    assert reason in error
    found = node.show()
    assert found["power_state"] == "power off"
    if behaviour:
        report = found["driver_internal_info"]["bareon_report"]
        assert (report["outcome"], report["exit_code"]) == ("failed", 7)
        assert Path(report["bundle"]).read_text() == "a bundle"
    node.provision("deleted")
    node.wait("available")


HEARTBEATS: list[tuple[dict[str, Any], str]] = [
    ({"agent_version": "bareon-9999.1"}, "the ramdisk has bareon 9999.1, and the conductor"),
    ({"agent_version": "9.4.0"}, "the ramdisk is none of bareon (9.4.0)"),
    ({"agent_verify_ca": None}, "the ramdisk sent no SSH host key"),
    ({"agent_verify_ca": "-----BEGIN CERTIFICATE-----"}, "what the ramdisk sent as its SSH host key is none"),
    ({"callback_url": "https://example.org:22"}, "not https://IP:PORT"),
]


@pytest.mark.parametrize(("changes", "reason"), HEARTBEATS)
def test_another_ramdisk(changes: dict[str, Any], reason: str, node: Node) -> None:
    node.set(bareon_provision=document())
    node.booted()
    node.beat(**changes)
    assert reason in node.wait("deploy failed")["last_error"]


def test_another_host_answers(node: Node, tmp_path: Path) -> None:
    """A host with another key than the heartbeat's is never given the document."""
    node.set(bareon_provision=document())
    node.booted()
    make_key(tmp_path / "other")
    other = (tmp_path / "other.pub").read_text()
    node.beat(agent_verify_ca=other)
    assert "no SSH connection to the ramdisk" in node.wait("deploy failed")["last_error"]
    assert not (node.ramdisk.place / "commands").exists()


def test_a_wrong_token(node: Node) -> None:
    """A heartbeat with another token is refused, and changes nothing."""
    node.set(bareon_provision=document())
    node.booted()
    for token in ("x" * 43, None):
        with pytest.raises(ApiError) as caught:
            node.beat(agent_token=token)
        assert caught.value.code == 400
    assert node.wait("wait call-back")["last_error"] is None
    node.beat_until("active")


def test_another_host_key_than_before(node: Node, tmp_path: Path) -> None:
    """Whoever has the token, but neither key nor address of before, changes nothing and is told nothing."""
    node.ramdisk.behave(hold=True)
    node.set(bareon_provision=document())
    node.running()
    make_key(tmp_path / "other")
    for change in (
        {"agent_verify_ca": (tmp_path / "other.pub").read_text()},
        {"callback_url": f"https://127.0.0.2:{node.ramdisk.port}"},
    ):
        with pytest.raises(ApiError) as caught:
            node.beat(**change)
        assert caught.value.code == 400
    node.ramdisk.release()
    assert node.beat_until("active", "deploy failed")["provision_state"] == "active"


def test_a_ramdisk_that_is_not_reached(node: Node) -> None:
    """SSH may be silent for two heartbeats, and not for three."""
    node.ramdisk.behave(hold=True)
    node.set(bareon_provision=document())
    node.running()

    def unreached(times: int) -> None:
        node.beat_for(lambda found: found["driver_internal_info"]["bareon_run"]["unreached"] == times, f"{times}")

    node.ramdisk.silence()
    unreached(2)
    node.ramdisk.start()
    unreached(0)
    node.ramdisk.silence()
    found = node.beat_until("deploy failed", "active")
    assert "no SSH connection to the ramdisk at 127.0.0.1: " in found["last_error"]
    assert found["power_state"] == "power off"


def test_a_program_that_is_not_bareons(conductor: Conductor, ramdisk: Ramdisk, key: Path) -> None:
    """Exit code 0 alone deploys nothing."""
    node = Node(conductor, ramdisk, bareon_key_filename=str(key), bareon_deploy_script="true")
    node.set(bareon_provision=document())
    error = node.failed()
    assert error.startswith("the run ended with exit code 0, and no report of it says that it is done"), error
    assert node.show()["driver_internal_info"]["bareon_report"]["outcome"] == "failed"


def test_a_document_that_is_larger_than_a_pipe(node: Node) -> None:
    """What nobody reads at once is brought all the same."""
    drive = {"user_data": "#cloud-config\n# " + "x" * 200_000}
    node.ramdisk.behave()
    node.set(bareon_provision=document(configdrive=drive))
    node.booted()
    found = node.beat_until("active", "deploy failed")
    assert (found["provision_state"], found["last_error"]) == ("active", None)
    assert node.ramdisk.given()["configdrive"] == drive


def test_a_run_that_is_killed(node: Node) -> None:
    """Nobody is left to write its exit code."""
    node.ramdisk.behave(hold=True)
    node.set(bareon_provision=document())
    node.running()
    node.ramdisk.kill_run()
    found = node.beat_until("deploy failed", "active")
    assert "the run is gone without an exit code" in found["last_error"]


def test_a_node_that_is_restarted_in_the_middle(node: Node) -> None:
    node.ramdisk.behave(hold=True)
    node.set(bareon_provision=document())
    node.running()
    node.ramdisk.restarted()
    found = node.beat_until("deploy failed", "active")
    assert "the node was restarted in the middle" in found["last_error"]


def test_a_run_that_takes_too_long(node: Node) -> None:
    node.ramdisk.behave(hold=True)
    node.driver(bareon_deploy_timeout=1)
    node.set(bareon_provision=document())
    node.running()
    found = node.beat_until("deploy failed")
    assert "the run was ended after 1 s" in found["last_error"]
    assert (node.ramdisk.place / "terminated").exists()


@pytest.mark.parametrize("verb", ["abort", "deleted"])
def test_the_run_ends_with_the_deployment(verb: str, node: Node) -> None:
    """Abort and undeploy end the run by SIGTERM, and keep its report."""
    node.ramdisk.behave(hold=True)
    node.set(bareon_provision=document())
    node.running()
    node.provision(verb)
    found = node.wait("deploy failed" if verb == "abort" else "available")
    assert (node.ramdisk.place / "terminated").exists()
    assert found["power_state"] == "power off"
    notes = found["driver_internal_info"]
    assert not {"bareon_run", "bareon_ramdisk", "bareon_progress"} & set(notes)
    if verb == "abort":
        assert "By request, the deploy operation was aborted" in found["last_error"]
        assert notes["bareon_report"]["exit_code"] == 143
    else:
        assert "bareon_report" not in notes


def test_a_conductor_that_is_killed(node: Node, conductor: Conductor) -> None:
    """The run goes on without a conductor, and the next one goes on with it."""
    node.ramdisk.behave(hold=True)
    node.set(bareon_provision=document())
    node.running()
    conductor.kill()
    conductor.start()
    node.ramdisk.release()
    assert node.beat_until("active", "deploy failed")["provision_state"] == "active"
    assert (node.ramdisk.place / "commands").read_text().count("bareon-provision") == 1


def test_service_steps(node: Node) -> None:
    """On an active node: the disks are compared, and another image is chosen."""
    node.set(bareon_provision=document())
    node.booted()
    node.beat_until("active")
    steps = [{"interface": "deploy", "step": "switch_boot", "args": {"image": "it's", "once": True}}]
    node.provision("service", service_steps=steps)
    node.wait("service wait")
    node.ramdisk.look_up(node.conductor, node.mac)
    node.beat_until("active")
    last = (node.ramdisk.place / "commands").read_text().splitlines()[-1]
    assert json.loads(last) == ["bareon-boot", "switch", "it's", "--once"]
    node.provision("service", service_steps=[{"interface": "deploy", "step": "verify"}])
    node.wait("service wait")
    node.ramdisk.look_up(node.conductor, node.mac)
    found = node.beat_until("service failed")
    assert "bareon: exit 5, the disks are not what the input describes" in found["last_error"]


@pytest.mark.parametrize("version", ["1.110", "1.112"])
def test_runbooks(version: str, node: Node, conductor: Conductor) -> None:
    """Service steps by name. What binds a runbook to nodes is a trait of its name, and later one of its own."""
    if not conductor.speaks(version):
        pytest.skip(f"this Ironic does not speak {version}")
    node.set(bareon_provision=document())
    node.traits(trait := f"CUSTOM_RUNBOOK_{next(_numbers)}")
    node.booted()
    node.beat_until("active")
    steps = [{"step": "switch_boot", "args": {"image": "rescue"}}, {"step": "verify", "args": {}}]
    book = {
        "name": trait,
        "steps": [{**step, "interface": "deploy", "order": order} for order, step in enumerate(steps, 1)],
    }
    conductor.call("POST", "/v1/runbooks", book, version)
    if version != "1.110":
        conductor.call("PUT", f"/v1/runbooks/{trait}/traits", {"traits": [trait]}, version)
    wanted = {"target": "service", "runbook": trait}
    conductor.call("PUT", f"/v1/nodes/{node.uuid}/states/provision", wanted, version)
    node.wait("service wait")
    node.ramdisk.look_up(conductor, node.mac)
    found = node.beat_until("service failed", "active")
    assert "bareon: exit 5, the disks are not what the input describes" in found["last_error"]
    commands = [json.loads(line) for line in (node.ramdisk.place / "commands").read_text().splitlines()]
    assert commands[-2] == ["bareon-boot", "switch", "rescue"]
    assert commands[-1][0] == "bareon-provision" and "--plan" in commands[-1]


def test_a_ramdisk_that_never_calls(silent: Node) -> None:
    found = silent.wait("deploy failed", limit=CALLBACK_LIMIT + 60)
    assert "Timeout reached while waiting for callback" in found["last_error"]


def configdrive() -> str:
    """Return the beginning of an ISO with the right label, as Ironic hands it over."""
    iso = bytearray(0x8000 + 2048)
    iso[0x8001:0x8006] = b"CD001"
    iso[0x8000 + 40 : 0x8000 + 48] = b"config-2"
    iso[0x8000 + 80 : 0x8000 + 84] = (17).to_bytes(4, "little")
    return base64.b64encode(gzip.compress(iso, mtime=0)).decode()

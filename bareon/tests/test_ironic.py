# SPDX-License-Identifier: Apache-2.0
"""The conductor's side as far as it knows nothing of Ironic."""

from __future__ import annotations

import base64
import configparser
import gzip
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bareon.cmd.exit import CODES
from bareon.errors import ActionFailed, BareonError, Defect, InvalidInput
from bareon.ironic import conf, configdrive, outcome, ramdisk, ssh
from bareon.ironic.document import ROOT_DISK, Request, request
from bareon.tests.imageserver import Fault, serving
from bareon.tests.ironicapi import certificate

HTTP = "https://192.0.2.1/system.qcow2"
RSYNC = "rsync://192.0.2.1/images/system"
ROOT = {"type": "partition", "mount": "/", "size": "remaining"}
DISK = {"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": [ROOT]}


def asked(properties: dict[str, Any] | None = None, **info: Any) -> Request:
    return request(info, properties or {})


def defects(properties: dict[str, Any] | None = None, **info: Any) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        request(info, properties or {})
    return caught.value.lines()


def test_a_document_of_ironics_own_fields() -> None:
    found = asked(
        image_source=HTTP,
        image_type="partition",
        image_os_hash_algo="sha256",
        image_os_hash_value="ab" * 32,
        image_disk_format="qcow2",
        root_gb=10,
        swap_mb="512",
        kernel_append_params="%default% console=ttyS0",
        capabilities={"boot_option": "local"},
    )
    assert found == Request(
        {
            "partitions_policy": "clean",
            "images": [
                {
                    "name": "image",
                    "image_pull_url": HTTP,
                    "image_disk_format": "qcow2",
                    "image_os_hash_algo": "sha256",
                    "image_os_hash_value": "ab" * 32,
                }
            ],
            "partitions": [
                {
                    "type": "disk",
                    "id": {"type": "name", "value": ROOT_DISK},
                    "volumes": [
                        {"type": "partition", "mount": "swap", "size": "512 MiB"},
                        {"type": "partition", "mount": "/", "file_system": "ext4", "size": "10 GiB"},
                    ],
                }
            ],
            "deploy_data": {"kernel_params": "console=ttyS0"},
        },
        "auto",
        asks_for_root=True,
    )
    assert found.on("/dev/sdb")["partitions"][0]["id"] == {"type": "name", "value": "/dev/sdb"}
    assert found.document["partitions"][0]["id"]["value"] == ROOT_DISK


def test_the_least_there_can_be() -> None:
    found = asked(image_source=RSYNC, image_type="partition")
    assert found.deploy_driver == "auto"
    (disk,) = found.document["partitions"]
    assert [(x["mount"], x["size"]) for x in disk["volumes"]] == [("/", "remaining")]


@pytest.mark.parametrize(("length", "algorithm"), [(32, "md5"), (64, "sha256"), (128, "sha512")])
def test_a_checksum_without_an_algorithm(length: int, algorithm: str) -> None:
    (image,) = asked(image_source=HTTP, image_type="partition", image_checksum="a" * length).document["images"]
    assert image["image_os_hash_algo"] == algorithm


def test_the_argument_comes_first_then_the_document_then_the_fields() -> None:
    info = {
        "bareon_provision": {"partitions": [DISK], "images": [{"name": "mine"}]},
        "image_source": HTTP,
        "image_type": "partition",
    }
    (image,) = request(info, {}).document["images"]
    assert image == {"name": "mine", "image_pull_url": HTTP}
    argument = {"partitions": [DISK], "images": [{"name": "other", "image_pull_url": RSYNC}]}
    found = request(info, {}, argument)
    assert (found.document, found.deploy_driver, found.asks_for_root) == (argument, "auto", False)
    assert "image_pull_url" not in info["bareon_provision"]["images"][0]  # what the node has stays as it is


def test_the_order_of_boot_is_the_documents_own_where_it_has_one() -> None:
    for given, order in (({}, "unchanged"), ({"boot_order": "first"}, "first")):
        found = request({"bareon_provision": {"partitions": [DISK], "deploy_data": given}}, {}, None, "unchanged")
        assert found.document["deploy_data"] == {"boot_order": order}


def test_the_driver_and_the_actions_that_are_asked_for() -> None:
    found = asked(
        image_source=RSYNC,
        image_type="partition",
        bareon_deploy_driver="special",
        bareon_actions=["do_partitioning", "do_x"],
    )
    assert (found.deploy_driver, found.actions) == ("special", "do_partitioning,do_x")


@pytest.mark.parametrize(
    ("info", "line"),
    [
        ({}, r"\$: there is neither instance_info.bareon_provision"),
        ({"bareon_provision": []}, r"\$: the document is an object"),
        ({"bareon_provision": {"partitions": [DISK], "images": [{"name": "a"}]}}, r"\$\.images\[0\]: the key"),
        ({"image_source": "4f1b2c3d-0000-4000-8000-000000000000"}, "instance_info.image_source: is no URL"),
        ({"image_source": "glance://x"}, "instance_info.image_source: glance://"),
        ({"image_source": HTTP, "image_disk_format": "vhd"}, "instance_info.image_disk_format: 'vhd' is none of"),
        ({"image_source": HTTP, "image_checksum": "https://x"}, "instance_info.image_checksum: is no digest"),
        ({"image_source": HTTP, "image_type": "whole-disk"}, "instance_info.image_type: bareon brings"),
        ({"image_source": HTTP, "image_type": None}, "instance_info.image_type: bareon brings"),
        (
            {"image_source": HTTP, "capabilities": "[" * 100_000, "root_gb": "x"},
            "instance_info.root_gb: is no whole number",
        ),
        (
            {
                "bareon_provision": {"partitions": [DISK], "images": [{"name": "a", "image_pull_url": HTTP}]},
                "kernel_append_params": "quiet ipa-insecure=1",
            },
            "instance_info.kernel_append_params: parameters of the ramdisk",
        ),
        ({"image_source": HTTP, "ephemeral_gb": 5}, "instance_info.ephemeral_gb: only a document"),
        ({"image_source": HTTP, "root_gb": "1.5"}, "instance_info.root_gb: is no whole number"),
        (
            {"image_source": HTTP, "capabilities": '{"boot_option": "netboot"}'},
            "instance_info.capabilities: boot_option",
        ),
        ({"image_source": HTTP, "kernel_append_params": "a;reboot"}, r"\$\.deploy_data\.kernel_params: "),
        ({"image_source": HTTP, "kernel_append_params": "a\nb"}, r"\$\.deploy_data\.kernel_params: "),
        ({"image_source": RSYNC, "bareon_deploy_driver": "a b"}, "instance_info.bareon_deploy_driver: is no name"),
        ({"image_source": RSYNC, "bareon_actions": "a;b"}, "instance_info.bareon_actions: is no list"),
        ({"image_source": RSYNC, "bareon_actions": "do_reboot"}, "instance_info.bareon_actions: do_reboot would"),
        ({"image_source": RSYNC, "configdrive": "ftp://x/y"}, "instance_info.configdrive: a URL of a configdrive"),
        ({"image_source": RSYNC, "configdrive": "AAAA"}, "instance_info.configdrive: neither ISO 9660"),
        ({"image_source": RSYNC, "configdrive": {"meta": 1}}, r"\$\.configdrive: "),
    ],
)
def test_what_cannot_be_deployed(info: dict[str, Any], line: str) -> None:
    assert re.match(line, defects(**{"image_type": "partition", **info})[0])


def test_capabilities_of_the_node_count_too() -> None:
    (line,) = defects(
        {"capabilities": "boot_mode:uefi,boot_option:netboot"}, image_source=HTTP, image_type="partition"
    )
    assert line.startswith("properties.capabilities: boot_option is 'netboot'")


def test_every_defect_of_a_document_is_told() -> None:
    wrong = {"type": "disk", "id": {"type": "nme", "value": "vda"}, "volumes": [{**ROOT, "sise": 1}]}
    lines = defects(bareon_provision={"partitions": [wrong]})
    assert [line.partition(": ")[0] for line in lines] == ["$.partitions[0].id.type", "$.partitions[0].volumes[0]"]


def test_trees_and_blocks_in_one_document() -> None:
    images = [{"name": "a", "image_pull_url": RSYNC}, {"name": "b", "image_pull_url": HTTP, "target": "/srv"}]
    volumes = [
        {**ROOT, "size": "5 GiB", "images": ["a"]},
        {**ROOT, "mount": "/srv", "size": "remaining", "images": ["b"]},
    ]
    both = {"partitions": [{**DISK, "volumes": volumes}], "images": images}
    assert request({"bareon_provision": both}, {}).deploy_driver == "auto"


def test_forms_of_a_configdrive() -> None:
    iso = bytearray(0x8000 + 2048)
    iso[0x8001:0x8006] = b"CD001"
    iso[0x8000 + 40 : 0x8000 + 48] = b"config-2"
    iso[0x8000 + 80 : 0x8000 + 84] = (17).to_bytes(4, "little")
    packed = base64.b64encode(gzip.compress(iso)).decode()
    assert asked(image_source=RSYNC, image_type="partition", configdrive=packed).configdrive == packed
    url = asked(image_source=RSYNC, image_type="partition", configdrive="https://192.0.2.1/drive?sig=s")
    assert url.configdrive_url == "https://192.0.2.1/drive?sig=s"
    documents = asked(image_source=RSYNC, image_type="partition", configdrive={"meta_data": {"hostname": "n"}})
    assert (documents.configdrive, documents.document["configdrive"]) == (None, {"meta_data": {"hostname": "n"}})
    own = {"partitions": [DISK], "images": [{"name": "a"}], "configdrive": {"user_data": "secret"}}
    (line,) = defects(bareon_provision=own, image_source=RSYNC, image_type="partition", configdrive=packed)
    assert line.startswith("$.configdrive: the node has instance_info.configdrive too") and "secret" not in line


ISO = b"\0" * 0x8000 + b"\1CD001" + b"\0" * 34 + b"config-2".ljust(32) + b"\0" * 1976
DRIVE = base64.b64encode(gzip.compress(ISO)).decode()
PACKED = {"Content-Encoding": "gzip"}


def brought(url: str, seconds: float = 20) -> str | None:
    found = asked(image_source=RSYNC, image_type="partition", configdrive=url)
    return configdrive.content(found, "true", seconds)


def moved(there: str) -> Fault:
    return Fault(status=302, headers={"Location": there}, body=b"x")


def test_a_configdrive_that_is_fetched() -> None:
    with serving(DRIVE.encode()) as site:
        assert brought(site.url) == DRIVE
        site.faults = [moved(site.url)]
        assert brought(site.url.replace("://", "://bob:hush@")) == DRIVE
        assert [bool(request.get("Authorization")) for request in site.requests] == [False, True, False]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(drip=0.02), "did not come whole within 0.3 s"),
        (Fault(silent=2), "did not come whole within 0.3 s"),
        (Fault(status=404, body=b""), "cannot be fetched: 404"),
        (moved("file:///etc/shadow"), "redirects to file:///etc/shadow, which is not followed"),
        (moved("\x1b[2J"), "redirects more than 10 times|cannot be fetched"),
        (
            Fault(status=200, headers={"Content-Encoding": "gzip"}, body=gzip.compress(bytes(1 << 24))),
            "damaged|neither",
        ),
    ],
)
def test_a_server_of_configdrives_that_does_wrong(fault: Fault, words: str) -> None:
    with serving(DRIVE.encode()) as site:
        site.always = fault
        with pytest.raises(BareonError, match=words) as raised:
            brought(site.url.replace("://", "://bob:hush@"), 0.3)
    assert "hush" not in str(raised.value) and "\x1b" not in str(raised.value)


def test_the_line_of_a_failure() -> None:
    errors = (
        "warning: nothing\n"
        "bareon-provision: $.partitions[0].id: no disk has the name 'vdz'\n"
        "bareon-provision: the log is /var/log/bareon.log\n"
    )
    assert outcome.failure(4, errors) == (
        "bareon: exit 4, this node cannot satisfy the input; the disks are untouched: "
        "$.partitions[0].id: no disk has the name 'vdz'"
    )
    assert outcome.failure(127, "sh: 1: bareon-provision: not found\n") == (
        "bareon: exit 127, no exit code of bareon: sh: 1: bareon-provision: not found"
    )
    assert outcome.failure(7, "bareon-provision: https://u:p@h/i?sig=s\n").endswith(": https://***@h/i?sig=***")
    assert outcome.failure(6, "bareon-provision: the log is /x\n") == "bareon: exit 6, a step failed while it ran"


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_a_configdrive_by_tls(tmp_path: Path) -> None:
    file = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with serving(DRIVE.encode(), wrap=lambda plain: context.wrap_socket(plain, server_side=True)) as site:
        found = asked(image_source=RSYNC, image_type="partition", configdrive=site.url)
        with pytest.raises(ActionFailed, match="cannot be fetched: SSLError"):
            configdrive.content(found, "true")
        assert configdrive.content(found, str(file)) == configdrive.content(found, "False") == DRIVE
        site.always = moved("http://192.0.2.1/drive")
        with pytest.raises(ActionFailed, match=r"redirects to http://192\.0\.2\.1/drive, which is not followed"):
            configdrive.content(found, str(file))


@pytest.mark.parametrize("line", ["a." * 500_000, "pass" * 500_000, "https://u:" + "p" * 5000 + "@h"])
def test_a_line_without_end_is_judged_quickly(line: str) -> None:
    """The search for secrets takes the square of its length, and the last word may be half of one."""
    assert outcome.failure(6, f"bareon-provision: told {line}\n") == (
        "bareon: exit 6, a step failed while it ran: told"
    )


def test_an_error_is_one_line_that_a_node_can_hold() -> None:
    error = InvalidInput([Defect("$.\x1b[2J\n", "x" * 1000)] * 100)
    line = outcome.line(error)
    assert line.startswith(r"$.\x1b[2J\n: xxx") and len(line) < 6000 and line.isprintable()


def test_a_report_says_how_a_run_ended() -> None:
    found = outcome.report('{"outcome": "done", "seconds": 1.5, "steps": []}')
    assert found == {"outcome": "done", "seconds": 1.5}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "[]",
        '{"outcome": "done"}',
        '{"outcome": ["done"], "seconds": 1}',
        '{"outcome": "done", "seconds": NaN}',
        '{"outcome": "done", "seconds": 1e999}',
        '{"outcome": "done", "seconds": true}',
    ],
)
def test_what_is_no_report(text: str) -> None:
    with pytest.raises(InvalidInput):
        outcome.report(text)


def test_a_list_of_bootable_images() -> None:
    found = {"elements": [{"grub_id": 0, "image_name": "a", "os_id": None}], "current_element": 0}
    assert outcome.boot_info(json.dumps(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "[]",
        "{}",
        '{"elements": {}}',
        '{"elements": [1]}',
        '{"elements": [], "more": NaN}',
        '{"elements": [{"grub_id": 1e999}]}',
        '{"elements": [{"grub_id": %s}]}' % ("[" * 500 + "]" * 500),
    ],
)
def test_what_is_no_list_of_bootable_images(text: str) -> None:
    """Ironic could not save it, or show it."""
    with pytest.raises(InvalidInput):
        outcome.boot_info(text)


def test_every_exit_code_has_a_meaning() -> None:
    assert {code for _, code in CODES} | {1, 143} == set(outcome.MEANINGS)


def test_progress_of_an_event() -> None:
    event = {"event": "progressed", "number": 2, "count": 5, "action": "a", "description": "x\x1b", "seconds": 1}
    assert outcome.progress({**event, "done": 1, "total": 3}) == {
        "step": 2,
        "of": 5,
        "action": "a",
        "description": "x\\x1b",
        "bytes": 1,
        "total": 3,
        "percent": 33,
    }
    odd = outcome.progress({**event, "event": "started", "count": 10**4000, "action": "\x1b" * 1000})
    assert odd["of"] < 1 << 32 and odd["action"].isprintable() and len(odd["action"]) < 1000
    with pytest.raises(InvalidInput):
        outcome.progress({"number": 1})


@pytest.mark.parametrize(
    ("agent", "fits"), [("bareon-1.0.1", True), ("bareon-2.0", False), ("9.4.0", False), ("bareon-", False)]
)
def test_versions_of_a_ramdisk(agent: str, fits: bool) -> None:
    assert (outcome.mismatch(agent, "1.4.0") is None) == fits


def test_host_keys() -> None:
    blob = base64.b64encode(b"\0\0\0\x0bssh-ed25519" + b"\0\0\0\x20" + b"x" * 32).decode()
    assert ssh.host_keys(f"ssh-ed25519 {blob} root@ramdisk\n\n") == (f"ssh-ed25519 {blob}",)
    for wrong in ("", "ssh-ed25519", f"ssh-rsa {blob}", f"* ssh-ed25519 {blob}", "-----BEGIN CERTIFICATE-----"):
        with pytest.raises(ssh.Unreachable):
            ssh.host_keys(wrong)


def test_addresses() -> None:
    assert ssh.Address.of_url("https://192.0.2.7:2222") == ssh.Address("192.0.2.7", 2222)
    assert ssh.Address.of_url("https://[2001:db8::7]:2222", 22) == ssh.Address("2001:db8::7", 22)
    for wrong in ("https://host:22", "https://-oProxyCommand=x:22", "", "https://192.0.2.7:x"):
        with pytest.raises(ssh.Unreachable):
            ssh.Address.of_url(wrong)


def test_the_command_line_of_ssh() -> None:
    connection = ssh.Connection(ssh.Address("192.0.2.7", 22), "root", "/key", ("ssh-ed25519 A",))
    words = connection.argv("/known")
    assert words[:4] == ["ssh", "-F", "none", "-T"] and words[-2:] == ["--", "192.0.2.7"]
    assert {"StrictHostKeyChecking=yes", "UserKnownHostsFile=/known", "BatchMode=yes", "ControlPath=none"} <= {*words}


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ramdisk.Run]:
    """A ramdisk that answers each question by a script."""
    program = tmp_path / "ssh"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def answering(script: str) -> ramdisk.Run:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return ramdisk.Run(ssh.Connection(ssh.Address("192.0.2.7", 22), "root", "/key", ("ssh-ed25519 A",)))

    return answering


def test_what_is_brought_may_be_larger_than_a_pipe(hostile: Callable[[str], ramdisk.Run], tmp_path: Path) -> None:
    run = hostile(f'for last; do :; done; case $last in *"cat >"*) cat >>{tmp_path}/brought;; esac')
    run.start("bareon-provision", {}, {"large": "x" * 200_000}, "y" * 200_000)
    assert (tmp_path / "brought").read_text() == json.dumps({"large": "x" * 200_000}) + "y" * 200_000


@pytest.mark.parametrize(
    ("script", "look"),
    [
        ("echo ended 0", ramdisk.Look("ended", 0)),
        ("printf 'ended '; head -c 5000 /dev/zero | tr '\\0' 9", ramdisk.Look("ended", None)),
        ("echo ended \u0660", ramdisk.Look("ended", None)),
        ("echo ended -0", ramdisk.Look("ended", None)),
        ("echo running; head -c 100000 /dev/zero | tr '\\0' '['", ramdisk.Look("running")),
        ("echo running; echo '[1]'; echo '{\"a\": 1'", ramdisk.Look("running")),
    ],
)
def test_odd_answers_to_a_look(hostile: Callable[[str], ramdisk.Run], script: str, look: ramdisk.Look) -> None:
    assert hostile(script).look() == look


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("head -c 50000000 /dev/zero | tr '\\0' x", "does not answer as bareon's would: 'xxx"),
        (r"printf '\033[2J\377' >&2; exit 9", r"failed with exit code 9: \\x1b\[2J"),
        (r"printf '\033[2J' >&2; exit 255", r"no SSH connection to the ramdisk at 192.0.2.7: \\x1b\[2J"),
        ("kill -9 $$", "was ended by signal SIGKILL"),
        ("", "does not answer as bareon's would: ''"),
    ],
)
def test_answers_to_a_look_that_are_none(hostile: Callable[[str], ramdisk.Run], script: str, words: str) -> None:
    with pytest.raises(ActionFailed, match=words) as raised:
        hostile(script).look()
    assert len(str(raised.value)) < 500


def test_the_size_of_what_is_kept_of_a_ramdisk(hostile: Callable[[str], ramdisk.Run]) -> None:
    text = hostile("echo there; head -c 50000000 /dev/zero").file("errors")
    assert text is not None and len(text) <= ssh.LARGEST + 10


def test_keys(tmp_path: Path) -> None:
    key = tmp_path / "key"
    with pytest.raises(InvalidInput, match=r"driver_info.k: the SSH key .* cannot be read: No such file"):
        ssh.check_key_file(str(key), "driver_info.k")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a b", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text().split()
    line = ssh.public_key(str(key), "k")
    assert line.split() == public[:2]
    value = ssh.kernel_parameter(line)
    assert base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode() == line and "=" not in value
    key.chmod(0o640)
    with pytest.raises(InvalidInput, match=r"is open to others \(mode 0640\)"):
        ssh.public_key(str(key), "k")


def test_every_key_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "doc/source/reference/ironic.rst").read_text()
    for name in (*(option.name for option in conf.OPTIONS), *conf.PROPERTIES):
        assert f"``{name}``" in page, name


def test_the_deploy_template_of_the_documentation() -> None:
    """It is for a new node, whose disks are to be emptied."""
    page = (Path(__file__).parents[2] / "doc/source/howto/ironic.rst").read_text()
    (step,) = json.loads(page.partition("<<'END'\n")[2].partition("    END\n")[0])
    assert (step["interface"], step["step"]) == ("deploy", "provision")
    assert request({}, {}, step["args"]["provision"]).document["partitions_policy"] == "clean"


def test_the_versions_that_are_said_to_be_tried() -> None:
    """They reach from the first to the last that the extra allows, and the tests' own is one of them."""
    root = Path(__file__).parents[2]
    page = (root / "doc/source/howto/ironic.rst").read_text()
    tried = re.findall(r"\b\d+\.\d+\.\d+\b", page[page.index("The tests of this interface") :].partition("\n\n")[0])
    (own,) = re.findall(r"^ironic==(.*)$", (root / "tests_functional/ironic-requirements.txt").read_text(), re.M)
    assert own in tried
    read = configparser.ConfigParser()
    read.read(root / "setup.cfg")
    numbers = sorted(int(version.split(".")[0]) for version in tried)
    assert read["extras"]["ironic"].strip() == f"ironic>={numbers[0]}.0,<{numbers[-1] + 1}"
    assert set(numbers) == set(range(numbers[0], numbers[-1] + 1))


def test_nothing_of_it_needs_ironic() -> None:
    modules = ("document", "outcome", "ssh", "ramdisk", "conf", "configdrive")
    code = f"import sys, {', '.join(f'bareon.ironic.{name}' for name in modules)}; print('ironic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n", json.dumps(done.stderr)

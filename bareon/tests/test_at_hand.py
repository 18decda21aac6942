# SPDX-License-Identifier: Apache-2.0
"""The document that the systems of several images have at hand: what is left of it, and where no secret may be."""

from __future__ import annotations

import copy
import json
import os
import re
from dataclasses import replace
from typing import Any

import pytest

from bareon import conf as options
from bareon.actions.bootloader import Bootloader
from bareon.actions.configdrive import ConfigdriveAction
from bareon.actions.copyimage import CopyImage
from bareon.actions.partitioning import Partitioning
from bareon.boot import at_hand
from bareon.boot.at_hand import Found
from bareon.cmd import provision
from bareon.cmd.exit import code_of
from bareon.decide import decide
from bareon.drivers.data.ironic import Ironic
from bareon.drivers.deploy.rsync import Rsync
from bareon.errors import DisksDiffer, UsageError
from bareon.layout.chosen import chosen
from bareon.model.deployment import Deployment
from bareon.model.location import Location
from bareon.model.node import NodeFacts
from bareon.plan.plan import Plan
from bareon.tests import cases
from bareon.tests.cases import HERE, load
from bareon.tests.simulation import after
from bareon.tools import mount

INPUT: dict[str, Any] = load(HERE / "cases/plan/multiboot.yaml")["input"]
SEVERAL = [
    case["input"]
    for case in map(load, sorted((HERE / "cases/plan").glob("*.yaml")))
    if "input" in case and case.get("driver", "ironic") == "ironic" and len(case["input"].get("images", ())) > 1
]
CONFIGDRIVE = {"meta_data": {"host_key": "planted"}, "user_data": "#cloud-config\n# planted\n"}


def changed(**keys: Any) -> dict[str, Any]:
    return copy.deepcopy({**INPUT, **keys})


def left(document: dict[str, Any]) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The document that is left, and the warnings."""
    driver = Ironic()
    found = driver.parse(json.dumps(document).encode()).at_hand
    return json.loads(found) if found else None, driver.warnings


def without_urls(deployment: Deployment) -> Deployment:
    none = {"url": Location(""), "checksums_url": None, "signature_url": None}
    return replace(deployment, images=tuple(replace(x, **none) for x in deployment.images))  # type: ignore[arg-type]


@pytest.mark.parametrize("given", SEVERAL)
def test_what_is_left_describes_the_same_disks_and_images(given: dict[str, Any]) -> None:
    before = Ironic().parse(json.dumps(given).encode())
    if not before.multiboot:
        assert before.at_hand is None
        return
    assert before.at_hand
    disks = tuple(replace(x, erase=None) for x in before.disks)
    wanted = replace(before, policy="verify", configdrive=None, disks=disks)
    again = Ironic().parse(before.at_hand.encode())  # which leaves the same again
    assert without_urls(again) == without_urls(wanted)


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("rsync://server/a", "rsync://server/a"),
        ("server::module/a", "server::module/a"),
        ("planted@server::module/a", "rsync://server/module/a"),
        ("http://u:planted@server:81/a.img?temp_url_sig=planted&x=1#planted", "http://server:81/a.img"),
        (["http://one/a", "http://planted@two/a?planted"], ["http://one/a", "http://two/a"]),
        ("oci://u:planted@server/a@sha256:" + "0" * 64, "oci://server/a@sha256:" + "0" * 64),
    ],
)
@pytest.mark.parametrize("key", ["image_pull_url", "image_checksums_url", "image_signature_url"])
def test_accounts_and_queries_are_left_out_of_urls(key: str, url: str | list[str], public: str | list[str]) -> None:
    if isinstance(url, list) and key != "image_pull_url":
        return
    document = changed(configdrive=CONFIGDRIVE)
    document["partitions"][0]["erase"] = "discard"
    document["images"][0][key] = url
    document["partitions_policy"] = "clean"
    found, warnings = left(document)
    assert found and not [x for x in warnings if "beside the menu" in x]
    assert found["images"][0][key] == public
    assert "planted" not in json.dumps(found) and "erase" not in found["partitions"][0]


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("$.deploy_data.kernel_params", changed(deploy_data={"kernel_params": "ro rd.luks.password=planted"})),
        ("$.deploy_data.kernel_params", changed(deploy_data={"kernel_params": "x=http://u:planted@server/"})),
        (
            "$.image_deploy_flags.rsync_flags",
            changed(image_deploy_flags={"rsync_flags": "-a --password-file=/tmp/planted"}),
        ),
        (
            "$.images[0].image_pull_url",
            changed(images=[{**INPUT["images"][0], "image_pull_url": "http://u:pl/anted@s/a"}, INPUT["images"][1]]),
        ),
    ],
)
def test_a_document_with_a_secret_that_it_needs_is_not_left(path: str, document: dict[str, Any]) -> None:
    found, warnings = left(document)
    assert found is None
    assert (
        f"{path}: the document is not left beside the menu for later runs: it is, or looks like, a secret" in warnings
    )


def test_nor_is_one_with_the_url_of_a_key() -> None:
    document = changed()
    volume = document["partitions"][0]["volumes"][1]
    volume["encryption"] = {"type": "luks2", "name": "x", "key": {"url": "https://server/planted"}}
    found, warnings = left(document)
    assert found is None and any("volumes[1].encryption.key.url: the document" in x for x in warnings)
    volume["encryption"]["key"] = {"file": "/tmp/key"}
    assert left(document)[0] is not None


def plan(wanted: Deployment, node: NodeFacts) -> Plan:
    actions = [Partitioning(), ConfigdriveAction(), CopyImage(), Bootloader()]
    for action in actions:
        action.configure({})
    return decide(wanted, node, actions, Rsync(), cases.SEED).plan


def parsed(document: dict[str, Any]) -> Deployment:
    return Ironic().parse(json.dumps(document).encode())


def test_with_what_is_left_an_image_is_brought_and_the_configdrive_stays() -> None:
    document = changed(configdrive=CONFIGDRIVE)
    document["partitions"][2]["volumes"][0]["keep_data"] = False
    first, node = parsed(document), cases.node("two-disks")
    layout = plan(first, node).layout
    (drive,) = [x.device for disk in layout.disks for x in disk.partitions if x.role == "configdrive"]
    found = plan(chosen(Ironic().parse((first.at_hand or "").encode()), ["b"]), after(layout, node))
    assert [x.description for x in found.steps] == [
        "Activate volume group os",
        "Make xfs on /dev/os/b (300 MiB) for /",
        "Copy image 'b' from rsync://server/b to /",
        "Write /etc/fstab of image 'b', and what else names devices",
        "Install GRUB with a menu of images 'a', 'b' on /dev/vdb, /dev/vda, 'b' by default",
    ]
    (kept,) = [x for disk in found.layout.disks for x in disk.partitions if x.role == "configdrive"]
    assert (kept.device, kept.decision) == (drive, "keep")


def test_what_describes_other_disks_is_refused_with_the_differences() -> None:
    other = changed()
    other["partitions"][0]["volumes"][0]["size"] = "700 MiB"
    node = cases.node("two-disks")
    deployed = after(plan(parsed(changed()), node).layout, node)
    with pytest.raises(DisksDiffer) as caught:
        plan(chosen(Ironic().parse((parsed(other).at_hand or "").encode()), ["b"]), deployed)
    assert code_of(caught.value) == 5
    assert caught.value.differences[0] == "/dev/vdb3: expected its end at 825 MiB, found 1149 MiB"


LINE = "29 1 254:3 / / rw,relatime shared:1 - ext4 /dev/vda3 rw"


@pytest.mark.parametrize(
    ("lines", "devices"),
    [
        ([LINE, "30 29 254:4 / /srv rw - ext4 /dev/vda4 rw", ""], ["/dev/block/254:3", "/dev/vda3"]),
        ([LINE, "31 29 0:26 /@ / rw - btrfs /dev/mapper/a\\040b rw"], ["/dev/block/0:26", "/dev/mapper/a b"]),
        (["1 1 0:2 / / rw - rootfs rootfs rw"], ["/dev/block/0:2"]),  # which is none
        (["25 1 0:22 / /proc rw - proc proc rw"], []),
        ([""], []),
    ],
)
def test_what_the_device_of_the_root_may_be_called(lines: list[str], devices: list[str]) -> None:
    assert mount.root_devices(lines) == devices


def read(monkeypatch: pytest.MonkeyPatch, found: Found, argv: list[str]) -> Deployment:
    """What a program understands of its input, where a menu has what was found, and /tmp has no input."""
    lexists = os.path.lexists
    monkeypatch.setattr(at_hand, "of_running_system", lambda: found)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os.path, "lexists", lambda path: path != "/tmp/provision.json" and lexists(path))
    run = provision._Run("bareon-verify", "", None, argv)
    known = [*options.DRIVERS, *options.INPUT, *options.DEPLOY, *options.TRANSFER]
    run._conf = options.parse(argv, known, "bareon-verify", "1", "")
    run._read()
    return run._deployment


def test_a_program_without_an_input_takes_the_document_at_hand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.dumps(changed(partitions_policy="verify")).encode()
    deployment = read(monkeypatch, Found(document, ("/dev/vda2", "/dev/vdb2"), ("/dev/vdc1 is broken",)), [])
    assert deployment == Ironic().parse(document)
    said = "the input is the document beside the menu, /boot/grub2/bareon-input.json on /dev/vda2, /dev/vdb2\n"
    assert capsys.readouterr().err == f"warning: /dev/vdc1 is broken\n{said}"


@pytest.mark.parametrize(
    ("found", "argv", "says"),
    [
        (Found(None), [], "/tmp/provision.json is not there, and no menu with this system in it has a document"),
        (Found(json.dumps(changed(partitions_policy="clean")).encode(), ("/dev/vda2",)), [], "has the policy clean"),
        (Found(b"{}", ("/dev/vda2",)), ["--input_data_file", "/tmp/provision.json"], "json is not there; name it by"),
        (Found(b"{}", ("/dev/vda2",)), ["--plan", "--node_facts", "x"], "json is not there; name it by"),
    ],
)
def test_no_document_at_hand(monkeypatch: pytest.MonkeyPatch, found: Found, argv: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        read(monkeypatch, found, argv)

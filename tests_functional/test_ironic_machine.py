# SPDX-License-Identifier: Apache-2.0
"""Machines that Ironic boots into the ramdisk, deploys by bareon, and boots from their own disks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests_functional.bench.conductor import until
from tests_functional.bench.lab import LIMIT, PAUSE, Lab, Machine
from tests_functional.bench.session import Session
from tests_functional.bench.ssh import Ssh, UnreachableError
from tests_functional.bench.strategy import DEPLOYED_LIMIT, RAMDISK_LIMIT
from tests_functional.bench.template import Template


@pytest.fixture(scope="module")
def lab(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Return a running Ironic with a BMC."""
    with Lab(session, tmp_path_factory.mktemp("ironic-machine")) as running:
        yield running


def document(image: str, disk: str = "vda", policy: str = "clean") -> dict[str, Any]:
    """Return a document with the root on a logical volume, which is always made anew, and a volume for data."""
    root = {"type": "lv", "name": "root", "mount": "/", "size": "2 GiB", "file_system": "ext4", "keep_data": False}
    boot = {"type": "partition", "mount": "/boot", "size": "256 MiB", "file_system": "ext4", "keep_data": False}
    data = {"type": "lv", "name": "srv", "mount": "/srv", "size": "256 MiB", "file_system": "ext4"}
    return {
        "partitions_policy": policy,
        "images": [{"name": "system", "image_pull_url": image}],
        "partitions": [
            {
                "type": "disk",
                "id": {"type": "name", "value": disk},
                "volumes": [boot, {"type": "pv", "vg": "os", "size": "remaining"}],
            },
            {"type": "vg", "id": "os", "volumes": [root, data]},
        ],
    }


#: Where the ramdisk notes who sends the heartbeats.
CALLBACK = "/run/bareon-ironic-callback.pid"
CONFIGDRIVE = {
    "meta_data": {"uuid": "c0ffee00-0000-4000-8000-000000000001", "hostname": "by-ironic"},
    "user_data": "#!/bin/sh\nhostname > /root/proof\n",
}


@pytest.mark.long
def test_virtual_media(lab: Lab) -> None:
    """A deployment that fails and says why, then one by rsync onto LVM with a configdrive, which boots."""
    template = Template.load("one_disk")
    with lab.machine("ironic-virtual-media", template, template.disks, "redfish-virtual-media") as machine:
        image = f"{lab.session.rsync.url}/cloud/"
        machine.set(bareon_provision=document(image, disk="vdq"), configdrive=CONFIGDRIVE)
        machine.provision("active")
        found = machine.reach("deploy failed", "active")
        assert found["provision_state"] == "deploy failed"
        assert "bareon: exit 4, this node cannot satisfy the input" in found["last_error"], found["last_error"]
        assert "$.partitions[0].id: " in found["last_error"]
        assert found["power_state"] == "power off"
        machine.set(bareon_provision=document(image))
        machine.provision("active")
        copying(machine)
        only_the_conductor_enters(machine)
        active(machine)
        machine.node.ssh.wait(DEPLOYED_LIMIT)
        configured(machine.node.ssh)


def copying(machine: Machine) -> dict[str, Any]:
    """Wait until a run is known to copy an image; return the node. The way into the ramdisk is open then."""
    found: dict[str, Any] = {}

    def notes() -> dict[str, Any]:
        found.update(machine.show())
        if found["provision_state"] not in ("deploying", "wait call-back"):
            raise AssertionError(f"{found['provision_state']}: {found['last_error']}")
        return dict(found["driver_internal_info"])

    def reached() -> bool:
        # Sooner than the next heartbeat is due.
        machine.ramdisk.run(f'kill -USR1 "$(cat {CALLBACK})"')
        return bool(notes().get("bareon_progress", {}).get("bytes"))

    until(lambda: "bareon_run" in notes(), "the run was started", LIMIT, PAUSE)
    machine.ramdisk.wait(RAMDISK_LIMIT)
    until(reached, "the run copies", LIMIT, PAUSE)
    return found


def only_the_conductor_enters(machine: Machine) -> None:
    """See that the ramdisk admits the conductor's key, and no longer the one that it was built with."""
    assert machine.ramdisk.run("cat /root/.ssh/authorized_keys | wc -l").stdout.strip() == "1"
    machine.ramdisk.forget()

    def refused() -> bool:
        try:
            machine.node.ssh.run("true")
        except UnreachableError as error:
            return "Permission denied" in str(error)  # and not that an emulated machine was too slow
        raise AssertionError("the ramdisk admits the key that it was built with")

    until(refused, "the ramdisk refuses a key", RAMDISK_LIMIT, PAUSE)


def active(machine: Machine) -> dict[str, Any]:
    """Wait for the end of a deployment, and look at what it left; return the node."""
    found = machine.reach("active", "deploy failed")
    assert (found["provision_state"], found["last_error"]) == ("active", None)
    assert found["driver_internal_info"]["bareon_report"]["exit_code"] == 0
    # Neither the medium nor the network is left, whatever lies on the disk.
    assert machine.node.boots_from() == ["vda"]
    return found


def configured(ssh: Ssh) -> None:
    """Look for what cloud-init had to do, from inside the deployed system."""
    status = ssh.run("cloud-init status --wait --long", timeout=300, check=False).stdout
    assert "status: done" in status and "DataSourceConfigDrive" in status, status
    assert ssh.run("hostname; cat /root/proof").stdout == "by-ironic\nby-ironic\n"
    assert ssh.run("findmnt --noheadings --output SOURCE /").stdout == "/dev/mapper/os-root\n"

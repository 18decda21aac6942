# SPDX-License-Identifier: Apache-2.0
"""Machines that Ironic boots into the ramdisk, deploys by bareon, and boots from their own disks."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests_functional.bench import faulty
from tests_functional.bench.lab import LIMIT, PAUSE, Lab, Machine
from tests_functional.bench.rsyncd import Module, RsyncServer
from tests_functional.bench.session import Session
from tests_functional.bench.ssh import Ssh, UnreachableError
from tests_functional.bench.strategy import DEPLOYED_LIMIT, RAMDISK_LIMIT
from tests_functional.bench.template import Template
from tests_functional.bench.waiting import until


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
#: The port of a server of trees that a test makes up.
TREES_PORT = 8730
#: Bytes of a file, and KiB a second at which it comes: long enough to do something meanwhile.
LARGE, SLOW = 100 << 20, 1024
#: Seconds by which the clocks of this machine and of a node may differ in what is compared.
CLOCKS = 10
CONFIGDRIVE = {
    "meta_data": {"uuid": "c0ffee00-0000-4000-8000-000000000001", "hostname": "by-ironic"},
    "user_data": "#!/bin/sh\nhostname > /root/proof\n",
}


@pytest.mark.long
@pytest.mark.thorough("test_ironic.py has a real conductor and all steps; the machine and its BMC are what this adds")
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
        # Sooner than the next heartbeat is due, but not for nothing: each one makes the conductor log in.
        beat = f'kill -USR1 "$(cat {CALLBACK})"'
        machine.ramdisk.run(f"tail -n 1 bareon-run/events | grep -q '\"done\"' && {beat}", check=False)
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


@pytest.mark.long
@pytest.mark.thorough("test_ironic.py kills the conductor and aborts without a machine; iPXE is Ironic's")
def test_network_boot_a_killed_conductor_and_an_abort(lab: Lab, tmp_path: Path) -> None:
    """By iPXE. The run goes on without the conductor, and the next one goes on with it. Another run is aborted."""
    template = Template.load("one_disk")
    (faulty.tiny(tmp_path / "slow") / "large").write_bytes(os.urandom(LARGE))
    extra = lab.for_network_boot()
    with (
        trees(tmp_path, "slow", limit=SLOW) as url,
        lab.machine("ironic-network-boot", template, template.disks, "ipxe", **extra) as machine,
    ):
        machine.set(bareon_provision=document(f"{url}/slow/"), **own_image(f"{url}/slow/"))
        machine.provision("active")
        started = copying(machine)["driver_internal_info"]["bareon_run"]["started"]
        lab.conductor.kill()
        killed = time.time()
        machine.ramdisk.run('kill -0 "$(cat bareon-run/pid)"')
        machine.ramdisk.forget()
        lab.conductor.start()
        report = active(machine)["driver_internal_info"]["bareon_report"]
        assert report["seconds"] > killed - started - CLOCKS, "that is another run"
        machine.provision("rebuild")
        copying(machine)
        machine.provision("abort")
        found = machine.reach("deploy failed", "active")
        assert "By request, the deploy operation was aborted" in found["last_error"]
        assert found["driver_internal_info"]["bareon_report"]["exit_code"] == 143
        assert found["power_state"] == "power off"
        scripts = lab.conductor.place / "http/pxelinux.cfg"
        assert not list(scripts.iterdir())


def own_image(url: str) -> dict[str, str]:
    """Return what Ironic wants to know of an image before it rebuilds a node, whatever the document says."""
    return {"image_source": url, "image_type": "partition"}


@contextmanager
def trees(place: Path, *names: str, limit: int | None = None) -> Iterator[str]:
    """Serve folders of ``place``, and give the URL that they are below; ``limit`` is in KiB a second."""
    server = RsyncServer(
        place / "rsyncd", {name: Module(place / name) for name in names}, port=TREES_PORT, limit=limit
    )
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@pytest.mark.long
@pytest.mark.thorough("what is kept is decided by bareon alone, see verify_redeploys and redeploy_keeps_files")
def test_rebuild_keeps_data(lab: Lab, tmp_path: Path) -> None:
    """After a rebuild under ``verify`` the files of a volume are there, and the root is new."""
    template = Template.load("one_disk")
    for name in ("before/srv/kept", "before/gone", "before/etc/hostname", "after/new", "after/etc/hostname"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    with (
        trees(tmp_path, "before", "after") as url,
        lab.machine("ironic-rebuild", template, template.disks, "redfish-virtual-media") as machine,
    ):
        actions = "do_partitioning,do_copyimage"
        machine.set(bareon_actions=actions, **own_image(f"{url}/before/"))
        machine.set(bareon_provision=document(f"{url}/before/"))
        machine.provision("active")
        active(machine)
        machine.set(bareon_provision=document(f"{url}/after/", policy="verify"))
        machine.provision("rebuild")
        active(machine)
        machine.node.undefine()
        lab.session.strategy.ramdisk(machine.node)
        run = machine.node.ssh.run
        run("vgchange --activate y os; mkdir /l; mount /dev/os/root /l; mount /dev/os/srv /l/srv")
        assert run("cd /l; ls new gone; cat srv/kept", check=False).stdout == "new\nbefore/srv/kept"


def several(url: str) -> dict[str, Any]:
    """Return a document with two systems, one of them on a logical volume."""
    one = {"type": "partition", "mount": "/", "file_system": "ext4", "size": "256 MiB", "images": ["first"]}
    other = {
        "type": "lv",
        "name": "second",
        "mount": "/",
        "file_system": "ext4",
        "size": "100%",
        "images": ["second"],
    }
    disk: dict[str, Any] = {"type": "disk", "id": {"type": "name", "value": "vda"}}
    return {
        "partitions_policy": "clean",
        "deploy_data": {"kernel_params": "console=ttyS0,115200"},
        "images": [
            {"name": "first", "image_pull_url": f"{url}/first/", "boot": True},
            {"name": "second", "image_pull_url": f"{url}/second/"},
        ],
        "partitions": [
            {**disk, "volumes": [one, {"type": "pv", "vg": "os", "size": "remaining"}]},
            {"type": "vg", "id": "os", "volumes": [other]},
        ],
    }


@pytest.mark.long
@pytest.mark.thorough("multiboot_uefi has such a menu; test_ironic.py has the steps, without a machine")
def test_uefi_and_several_images(lab: Lab, tmp_path: Path) -> None:
    """By virtual media with UEFI: two systems; the disks are compared, and the other one boots.

    The systems are no more than a kernel, which says what root it was started with.
    """
    template = Template.load("uefi")
    kernel = next((lab.session.products.systems["debian12"].tree / "boot").glob("vmlinuz-*"))
    for name in ("first", "second"):
        tree = faulty.small(tmp_path / name)
        (tree / "boot").mkdir()
        shutil.copy(kernel, tree / "boot")
        (tree / "sbin").mkdir()
        (tree / "sbin/init").touch()
        # An archive of cpio with nothing in it, by which a kernel comes to look for its root itself.
        initramfs = "070701" + "0" * 88 + "0000000b" + "0" * 8 + "TRAILER!!!\0\0\0\0"
        (tree / "boot" / kernel.name.replace("vmlinuz", "initrd.img")).write_text(initramfs)
        modules = tree / "lib/modules" / kernel.name.removeprefix("vmlinuz-")
        modules.mkdir(parents=True)
        (modules / "modules.dep").touch()
    extra = lab.for_uefi_media()
    with (
        trees(tmp_path, "first", "second") as url,
        lab.machine("ironic-uefi", template, template.disks, "redfish-virtual-media", **extra) as machine,
    ):
        machine.set(bareon_provision=several(url))
        machine.provision("active")
        boot_info = active(machine)["instance_info"]["bareon_boot_info"]
        roots = {element["image_name"]: element["root_uuid"] for element in boot_info["elements"]}
        assert set(roots) == {"first", "second"}
        started(machine, roots["first"])
        assert roots["second"] not in machine.node.console.read_text(errors="replace")
        switch = {"interface": "deploy", "step": "switch_boot", "args": {"image": "second"}}
        machine.provision("service", service_steps=[{"interface": "deploy", "step": "verify"}, switch])
        machine.reach("service wait", "service failed")
        found = machine.reach("active", "service failed")
        assert (found["provision_state"], found["last_error"]) == ("active", None)
        assert machine.node.boots_from() == ["vda"]
        started(machine, roots["second"])


def started(machine: Machine, root: str) -> None:
    """Wait until a kernel has been started with a root, by its UUID."""
    line = re.compile(rf"Kernel command line: .*root=UUID={root}\b")
    until(lambda: line.search(machine.node.console.read_text(errors="replace")), root, DEPLOYED_LIMIT, PAUSE)

# SPDX-License-Identifier: Apache-2.0
"""Images brought to disks that a system runs from: what is in use is never written, what is unclear refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bareon.actions.bootloader import Bootloader
from bareon.actions.copyimage import CopyImage
from bareon.actions.partitioning import Partitioning
from bareon.boot.renewal import RenewEntries
from bareon.decide import decide
from bareon.drivers.data.ironic import Ironic
from bareon.drivers.deploy.rsync import FetchTree, Rsync
from bareon.errors import UnsuitableNode
from bareon.layout.chosen import chosen
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts, SecureBootFacts, Use
from bareon.plan.plan import Plan
from bareon.tests import cases
from bareon.tests.simulation import after
from bareon.tests.test_chosen import CASE, deployment
from bareon.tests.test_chosen import plan as plan_of_all

VDA, VDB, BOTH = ("/dev/vda",), ("/dev/vdb",), ("/dev/vda", "/dev/vdb")
ROOT_A = Use("/dev/vdb3", "mounted", VDB, "/")
SRV = Use("/dev/vdb4", "mounted", VDB, "/srv")
ROOT_B = Use("/dev/os/b", "mounted", BOTH, "/")


@pytest.fixture(scope="module")
def deployed() -> NodeFacts:
    """The node once both images are on it."""
    node = cases.node(CASE["node"])
    return after(plan_of_all(deployment("clean"), node).layout, node)


def used(node: NodeFacts, *uses: Use) -> NodeFacts:
    """The node with these uses, also in the words of its disks."""

    def words(device: str) -> tuple[str, ...]:
        return tuple(f"{x.words} as {x.device}" for x in uses if device in x.disks)

    return replace(node, disks=tuple(replace(x, users=words(x.device)) for x in node.disks), uses=uses)


def plan(wanted: Deployment, node: NodeFacts) -> Plan:
    actions = [Partitioning(), CopyImage()]
    for action in actions:
        action.configure({})
    return decide(wanted, node, actions, Rsync(), cases.SEED).plan


def test_the_menu_keeps_all_but_the_entry_of_the_image(deployed: NodeFacts) -> None:
    found = plan_of_all(chosen(deployment("verify"), ["b"]), used(deployed, ROOT_A, SRV))
    assert found.steps[-1].description == (
        "Renew or add the entry of image 'b' in the menu on /dev/vdb2; the default and other entries stay"
    )
    assert not any("GRUB" in x.description for x in found.steps)
    (renewal,) = [x for x in found.steps if isinstance(x, RenewEntries)]
    assert renewal.document and renewal.document == deployment("clean").at_hand
    enabled = replace(used(deployed, ROOT_A), firmware="bios", secure_boot=SecureBootFacts("enabled"))
    with pytest.raises(UnsuitableNode, match="with Secure Boot on"):
        plan_of_all(chosen(deployment("verify"), ["b"]), enabled)


def test_no_kernel_is_started_in_the_place_of_a_system_that_runs(deployed: NodeFacts) -> None:
    action = Bootloader()
    action.configure({"kexec": True})
    wanted = chosen(deployment("verify"), ["b"])
    with pytest.raises(UnsuitableNode, match="--kexec: a system runs from the disks"):
        decide(wanted, used(deployed, ROOT_A), [Partitioning(), CopyImage(), action], Rsync(), cases.SEED)


def refusals(wanted: Deployment, node: NodeFacts) -> list[str]:
    with pytest.raises(UnsuitableNode) as caught:
        plan(wanted, node)
    return caught.value.lines()


def test_the_other_image_is_brought(deployed: NodeFacts) -> None:
    found = plan(chosen(deployment("verify"), ["b"]), used(deployed, ROOT_A, SRV))
    assert [x.description for x in found.steps] == [
        "Activate volume group os",
        "Make xfs on /dev/os/b (300 MiB) for /",
        "Copy image 'b' from rsync://server/b to /",
        "Write /etc/fstab of image 'b', and what else names devices",
    ]
    assert found.warnings[-1] == "/dev/vdb4 is mounted at /srv: what image 'b' has for /srv is left out"
    (fetch,) = [x for x in found.steps if isinstance(x, FetchTree)]
    assert {x.point: x.left for x in fetch.mounts} == {"/": False, "/srv": True}


def test_nothing_is_left_out_of_what_nobody_uses(deployed: NodeFacts) -> None:
    found = plan(chosen(deployment("verify"), ["b"]), used(deployed, ROOT_A))
    assert found.warnings == plan(chosen(deployment("verify"), ["b"]), deployed).warnings
    assert found.layout.left == frozenset()


@pytest.mark.parametrize(
    ("uses", "line"),
    [
        ((ROOT_B,), "in use: /dev/os/b is mounted at /, and is to be made anew"),
        (
            (replace(ROOT_B, at="/mnt", process="7"),),
            "in use: /dev/os/b is mounted at /mnt by process 7, and is to be",
        ),
        (
            (Use("/dev/os/b", "held", BOTH, "/dev/mapper/x"),),
            "in use: /dev/os/b is held by /dev/mapper/x, and is to be",
        ),
        ((ROOT_A, replace(ROOT_B, device="/dev/vdb2")), "in use: /dev/vdb2 is mounted at /, and is to be written to"),
        ((replace(ROOT_A, device="/dev/vdb"),), "in use: /dev/vdb is mounted at /, and is no volume of the input"),
        ((replace(ROOT_A, device="/dev/vdb9"),), "in use: /dev/vdb9 is mounted at /, and is no volume of the input"),
        (
            (Use("/dev/vdb4", "held", VDB, "/dev/mapper/x"),),
            "in use: /dev/vdb4 is held by /dev/mapper/x, and an image",
        ),
    ],
)
def test_what_would_be_written_is_not_in_use(deployed: NodeFacts, uses: tuple[Use, ...], line: str) -> None:
    (said,) = refusals(chosen(deployment("verify"), ["b"]), used(deployed, *uses))
    assert said.startswith(line)


def test_an_image_that_runs_is_not_brought_to_what_is_kept_either(deployed: NodeFacts) -> None:
    (said,) = refusals(chosen(deployment("verify", root_b=True), ["b"]), used(deployed, ROOT_B))
    assert said == "in use: /dev/os/b is mounted at /, and is to be / of an image that is brought"


def test_all_images_are_as_none(deployed: NodeFacts) -> None:
    """What both share is made anew then."""
    said = refusals(chosen(deployment("verify"), ["a", "b"]), used(deployed, ROOT_A, SRV))
    assert [x.split(" is ")[0] for x in said] == ["in use: /dev/vdb3", "in use: /dev/vdb4"]


def test_without_a_choice_a_disk_in_use_is_refused(deployed: NodeFacts) -> None:
    said = refusals(deployment("verify"), used(deployed, SRV))
    assert said == ["in use: /dev/vdb is mounted at /srv as /dev/vdb4"]


def test_words_that_no_use_explains_are_refused(deployed: NodeFacts) -> None:
    """As those of facts that an older bareon has written."""
    wanted = chosen(deployment("verify"), ["b"])
    old = replace(used(deployed, ROOT_A), uses=())
    assert refusals(wanted, old) == ["in use: /dev/vdb is mounted at / as /dev/vdb3"]
    other = replace(old, disks=tuple(replace(x, users=("mounted at /x",)) for x in old.disks), uses=(ROOT_A,))
    assert "in use: /dev/vda is mounted at /x" in refusals(wanted, other)


@pytest.mark.parametrize(
    ("point", "line"),
    [
        ("/boot", "and is shared: an image cannot be brought without its /boot"),
        ("/var", "and is shared: an image cannot be brought without its /var"),
    ],
)
def test_a_system_is_brought_with_all_that_it_starts_by(deployed: NodeFacts, point: str, line: str) -> None:
    def moved(fs):  # type: ignore[no-untyped-def]
        return replace(fs, mounts=tuple(replace(x, point=point) if x.point == "/srv" else x for x in fs.mounts))

    wanted = chosen(deployment("verify").with_filesystems(moved), ["b"])
    (said,) = refusals(wanted, used(deployed, ROOT_A, SRV))
    assert said == f"in use: /dev/vdb4 is mounted at /srv, {line}"


def test_a_volume_inside_of_one_in_use_is_refused(deployed: NodeFacts) -> None:
    def moved(fs):  # type: ignore[no-untyped-def]
        at = {"/": "/srv/b"} if fs.images == ("b",) else {"/srv": "/srv"}
        return replace(fs, mounts=tuple(replace(x, point=at.get(x.point, x.point)) for x in fs.mounts))

    wanted = deployment("verify").with_filesystems(moved)
    images = tuple(replace(x, target="/srv") if x.name == "b" else x for x in wanted.images)
    (said,) = refusals(chosen(replace(wanted, images=images), ["b"]), used(deployed, ROOT_A, SRV))
    assert said == (
        "in use: /dev/vdb4 is mounted at /srv, and is shared: /srv/b of an image that is brought lies in it"
    )


def test_another_path_of_a_disk_in_use_is_refused(deployed: NodeFacts) -> None:
    disks = tuple(replace(x, wwn="0x1") if x.device == "/dev/vdb" else x for x in deployed.disks)
    other = next(replace(x, device="/dev/vdx", partitions=()) for x in disks if x.device == "/dev/vdb")
    node = replace(deployed, disks=(*disks, other))
    (said,) = refusals(
        chosen(deployment("verify"), ["b"]), used(node, Use("/dev/vdx4", "mounted", ("/dev/vdx",), "/srv"))
    )
    assert "/dev/vdb, /dev/vdx are paths of one disk (multipath, wwn 0x1) that no map puts together" in said


def test_the_boot_loader_of_all_images_may_be_mounted(deployed: NodeFacts) -> None:
    """Nothing is written to the ESP, and an image without a system has no entry."""
    case = cases.load(cases.HERE / "cases/plan/multiboot-uefi.yaml")
    document = {**case["input"], "partitions_policy": "verify"}
    wanted = Ironic().parse(cases.json.dumps(document).encode())
    layout = cases.plan_of(case).layout
    uses = (Use("/dev/vda1", "mounted", VDA, "/boot/efi"), Use("/dev/vda3", "mounted", VDA, "/"))
    node = used(after(layout, cases.node("uefi")), *uses)
    found = plan_of_all(chosen(wanted, ["b"]), node)
    assert [x.description for x in found.steps] == ["Copy image 'b' from rsync://server/b to /data"]
    (said,) = refusals(chosen(wanted, ["a"]), node)
    assert said == "in use: /dev/vda3 is mounted at /, and is to be / of an image that is brought"
    menu = replace(uses[0], device="/dev/vda2", at="/mnt")
    (said,) = refusals(chosen(wanted, ["b"]), used(node, menu))
    assert said == "in use: /dev/vda2 is mounted at /mnt, and is to be written to as multiboot"


def _planned(name: str, *actions: str, image: str | None = None) -> list[str]:
    """The steps of a case's input in the ramdisk, where nothing uses its node."""
    case = cases.load(cases.HERE / f"cases/plan/{name}.yaml")
    node = cases.node(case["node"])
    idle = replace(node, uses=(), disks=tuple(replace(x, users=()) for x in node.disks))
    wanted = Ironic().parse(cases.json.dumps(case["input"]).encode())
    queued = [x for x in (Partitioning(), CopyImage(), Bootloader()) if not actions or x.name in actions]
    for action in queued:
        action.configure({})
    given = chosen(wanted, [image]) if image else wanted
    return [x.description for x in decide(given, idle, queued, Rsync(), cases.SEED).plan.steps]


def test_an_image_is_added_and_another_taken_out_in_the_ramdisk() -> None:
    added = _planned("image-added", image="c")
    assert added[0] == "Add /dev/vda6 (4065 MiB) to the table of /dev/vda; its other partitions stay as they are"
    assert added[-1] == "Install GRUB with a menu of images 'a', 'b', 'c' on /dev/vda, 'a' by default"
    assert not any(x.startswith(("Write a gpt", "Clear")) for x in added)
    # Here the second one is described without its image.
    assert _planned("image-added-to-volumes", "do_bootloader") == [
        "Install GRUB with a menu of images 'a', 'c' on /dev/vda, 'a' by default"
    ]

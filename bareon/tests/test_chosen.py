# SPDX-License-Identifier: Apache-2.0
"""Some images of several: what a run that brings these alone makes, and what stays."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from bareon.actions.bootloader import Bootloader
from bareon.actions.copyimage import CopyImage
from bareon.actions.partitioning import Partitioning
from bareon.cmd.provision import _listed
from bareon.decide import decide
from bareon.drivers.data.ironic import Ironic
from bareon.drivers.deploy.rsync import Rsync
from bareon.errors import InvalidInput, UsageError
from bareon.layout.chosen import chosen
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts
from bareon.plan.plan import Plan
from bareon.tests import cases
from bareon.tests.simulation import after

CASE = cases.load(cases.HERE / "cases/plan/multiboot.yaml")


def deployment(policy: str, **keep: bool) -> Deployment:
    """The input of the case; ``keep`` has ``keep_data`` of its volumes: ``root_a``, ``srv``, ``root_b``."""
    document: dict[str, Any] = copy.deepcopy(CASE["input"])
    document["partitions_policy"] = policy
    a, srv, _ = document["partitions"][0]["volumes"]
    for name, volume in (("root_a", a), ("srv", srv), ("root_b", document["partitions"][2]["volumes"][0])):
        volume["keep_data"] = keep.get(name, False)
    return Ironic().parse(cases.json.dumps(document).encode())


def plan(wanted: Deployment, node: NodeFacts) -> Plan:
    actions = [Partitioning(), CopyImage(), Bootloader()]
    for action in actions:
        action.configure({})
    return decide(wanted, node, actions, Rsync(), cases.SEED).plan


@pytest.fixture(scope="module")
def deployed() -> NodeFacts:
    """The node once both images are on it."""
    node = cases.node(CASE["node"])
    return after(plan(deployment("clean"), node).layout, node)


def steps(found: Plan) -> list[str]:
    return [step.description for step in found.steps]


def test_one_image_alone_is_brought(deployed: NodeFacts) -> None:
    assert steps(plan(chosen(deployment("verify"), ["b"]), deployed)) == [
        "Activate volume group os",
        "Make xfs on /dev/os/b (300 MiB) for /",
        "Copy image 'b' from rsync://server/b to /",
        "Write /etc/fstab of image 'b', and what else names devices",
        "Install GRUB with a menu of images 'a', 'b' on /dev/vdb, /dev/vda, 'b' by default",
    ]
    assert steps(plan(chosen(deployment("verify"), ["a"]), deployed)) == [
        "Activate volume group os",
        "Make ext4 on /dev/vdb3 (1 GiB) for /",
        "Copy image 'a' from rsync://server/a to /",
        "Write /etc/fstab of image 'a', and what else names devices",
        "Install GRUB with a menu of images 'a', 'b' on /dev/vdb, /dev/vda, 'b' by default",
    ]


def test_what_two_images_share_is_made_where_both_are_brought(deployed: NodeFacts) -> None:
    shared = "Make ext4 on /dev/vdb4 (512 MiB) for /srv"
    both = chosen(deployment("verify"), ["b", "a"])
    assert shared in steps(plan(both, deployed))
    assert steps(plan(both, deployed)) == steps(plan(deployment("verify"), deployed))
    for name in ("a", "b"):
        assert shared not in steps(plan(chosen(deployment("verify"), [name]), deployed))


def test_what_is_kept_stays_so(deployed: NodeFacts) -> None:
    found = steps(plan(chosen(deployment("verify", root_b=True), ["b"]), deployed))
    assert not any(step.startswith("Make") for step in found)


def test_no_name_is_not_all_of_them() -> None:
    """As of a shell's variable that is not set."""
    with pytest.raises(UsageError, match=r"^--image: names no image$"):
        chosen(deployment("verify"), [])


@pytest.mark.parametrize(
    ("given", "names"),
    [(["a"], ["a"]), (["a,b"], ["a", "b"]), (["a", "b, c"], ["a", "b", "c"]), ([""], []), ([","], [])],
)
def test_names_are_listed_or_given_one_by_one(given: list[str], names: list[str]) -> None:
    assert _listed(given) == names


def test_a_name_that_no_image_has() -> None:
    with pytest.raises(UsageError, match=r"^--image: no image is named 'c', 'd'; known: 'a', 'b'$"):
        chosen(deployment("verify"), ["c", "a", "d"])


@pytest.mark.parametrize(("names", "lost"), [(["a"], "c"), (["c", "b"], "a")])
def test_images_of_one_system_come_together(names: list[str], lost: str) -> None:
    """The file systems of all of it are made anew."""
    found = deployment("verify")
    part = replace(found.images[0], name="c", target="/srv", part_of="a")
    found = replace(found, images=(*found.images, part))
    with pytest.raises(UsageError, match=rf"^--image: '{lost}' would be lost: "):
        chosen(found, names)
    assert chosen(found, ["c", "a"]).brought == {"a", "c"}
    assert chosen(found, ["b"]).brought == {"b"}


def test_disks_that_are_cleared_hold_the_others() -> None:
    with pytest.raises(InvalidInput) as caught:
        chosen(deployment("clean"), ["a"])
    (line,) = caught.value.lines()
    assert line.startswith("$.partitions_policy: --image is for 'verify': 'clean' clears the disks")
    # Other systems may be there than the document has.
    with pytest.raises(InvalidInput):
        chosen(deployment("clean"), ["a", "b"])

# SPDX-License-Identifier: Apache-2.0
"""From input and node to a plan: reserve, lay out, validate, plan. Nothing is changed here."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bareon.actions.base import BOOT_INFO, Action, Job
from bareon.actions.stack import starting
from bareon.drivers.deploy.base import DeployDriver
from bareon.errors import UnsuitableNode, UsageError
from bareon.facts.node import NodeFacts
from bareon.layout.build import build
from bareon.layout.compare import adopt
from bareon.layout.identifier import Identifiers
from bareon.layout.teardown import busy, forbidden
from bareon.model.deployment import Deployment
from bareon.model.layout import Layout
from bareon.model.settings import TransferSettings
from bareon.plan.step import Plan
from bareon.run import missing
from bareon.tools import lvm, mdadm, udev


@dataclass(frozen=True)
class Decision:
    """The plan of a run, and the programs its steps will start."""

    plan: Plan
    programs: frozenset[str]
    node: NodeFacts

    def check_allowed(self, allowed: Collection[str]) -> None:
        """See that only disks in ``allowed`` (names, serials, wwns) lose data.

        :raises UnsuitableNode: naming the others.
        """
        devices = [device for step in self.plan.steps for device in step.destroys]
        if reasons := forbidden(self.node, devices, allowed):
            raise UnsuitableNode(*(f"{reason}, and --allow_destroy does not name it" for reason in reasons))

    def check_programs(self) -> None:
        """See that each program is installed on this machine.

        :raises UnsuitableNode: naming those that are missing.
        """
        if absent := missing(self.programs):
            raise UnsuitableNode(f"not installed: {', '.join(absent)}")


def decide(
    deployment: Deployment,
    node: NodeFacts,
    actions: Sequence[Action],
    transport: DeployDriver,
    seed: uuid.UUID,
    settings: TransferSettings | None = None,
    boot_info: str = BOOT_INFO,
) -> Decision:
    """Let the queued actions decide everything.

    :raises InvalidInput: :class:`UnsuitableNode` or :class:`DisksDiffer`, whichever stands in the way.
    """
    deployment = transport.reserve(deployment)
    for action in actions:
        deployment = action.reserve(deployment)
    names = tuple(action.name for action in actions)
    layout = _layout(deployment, node, names, seed)
    job = Job(deployment, node, layout, names, transport, settings or TransferSettings(), boot_info)
    if in_use := busy(node, {disk.device for disk in job.layout.disks}):
        raise UnsuitableNode(*in_use)
    for action in actions:
        action.validate(job)
    mounting = any(name != "do_partitioning" for name in names)
    first = tuple(starting(job.layout, node, names[0], everything=mounting)) if names else ()
    steps = (*first, *transport.do_provisioning(actions, job))
    programs = frozenset(program for action in actions for program in action.requires(job))
    if first:
        programs |= {*lvm.PROGRAMS, *mdadm.PROGRAMS, *udev.PROGRAMS}
    return Decision(Plan(job.layout, steps), programs, node)


def _layout(deployment: Deployment, node: NodeFacts, names: Sequence[str], seed: uuid.UUID) -> Layout:
    """What the disks will be; what they are, where nothing or only file systems are to be made."""
    wanted = build(deployment, node, Identifiers(seed))
    making = "do_partitioning" in names
    if making and deployment.policy == "clean":
        return wanted
    return adopt(wanted, node, make=making, copy="do_copyimage" in names)


ORDER = ("do_partitioning", "do_configdrive", "do_copyimage", "do_bootloader", "do_reboot")


def check_order(names: Sequence[str]) -> None:
    """Refuse an order in which an action would undo or miss the work of another.

    :raises UsageError: naming the two. Third parties' actions may stand anywhere.
    """
    if len(set(names)) < len(names):
        raise UsageError("--actions: an action stands twice")
    known = [name for name in names if name in ORDER]
    for first, second in itertools.pairwise(known):
        if ORDER.index(first) > ORDER.index(second):
            raise UsageError(f"--actions: {second} must come before {first}")

# SPDX-License-Identifier: Apache-2.0
"""From input and node to a plan: reserve, lay out, validate, plan. Nothing is changed here."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from bareon.actions.base import BOOT_INFO, Action, Job
from bareon.actions.stack import starting
from bareon.cmd.plugin import blamed, returned
from bareon.drivers.deploy.base import DeployDriver
from bareon.errors import UnsuitableNode, UsageError
from bareon.facts.node import NodeFacts
from bareon.layout.build import build
from bareon.layout.compare import adopt
from bareon.layout.configdrive import as_found
from bareon.layout.identifier import Identifiers
from bareon.layout.place import placed
from bareon.layout.teardown import busy, forbidden, meant
from bareon.model.deployment import Deployment
from bareon.model.layout import Layout
from bareon.model.settings import TransferSettings
from bareon.plan.step import Plan, Step
from bareon.run import missing
from bareon.tools import lvm, mdadm, udev


@dataclass(frozen=True)
class Decision:
    """The plan of a run, and the programs its steps will start."""

    plan: Plan
    programs: frozenset[str]
    node: NodeFacts

    def check_allowed(self, allowed: Collection[str]) -> Decision:
        """See that only disks in ``allowed`` (names, serials, wwns) lose data; warn of values that mean no disk.

        :raises UnsuitableNode: naming the others, and each value that means several disks.
        """
        disks = {value: meant(self.node, value) for value in allowed}
        if several := {value: found for value, found in disks.items() if len(found) > 1}:
            raise UnsuitableNode(
                *(f"--allow_destroy: {x!r} means {len(y)} disks: {', '.join(y)}" for x, y in several.items())
            )
        devices = [device for step in self.plan.steps for device in step.destroys]
        if reasons := forbidden(self.node, devices, allowed):
            raise UnsuitableNode(*(f"{reason}, and --allow_destroy does not name it" for reason in reasons))
        unknown = (
            f"--allow_destroy: {value!r} is no disk of this node" for value, found in disks.items() if not found
        )
        return replace(self, plan=replace(self.plan, warnings=(*self.plan.warnings, *unknown)))

    def check_programs(self) -> None:
        """See that each program is installed on this machine.

        :raises UnsuitableNode: naming those that are missing.
        """
        if absent := missing(self.programs):
            raise UnsuitableNode(f"not installed: {', '.join(absent)}")


@blamed(UnsuitableNode)
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
    names = tuple(action.name for action in actions)
    deployment = placed(deployment, node)
    deployment = returned(transport.reserve(deployment), Deployment, f"{type(transport).__name__}: reserve")
    deployment = _for_configdrive(deployment, node, names)
    for action in actions:
        deployment = returned(action.reserve(deployment), Deployment, f"{action.name}: reserve")
    layout = _layout(deployment, node, names, seed)
    job = Job(deployment, node, layout, names, transport, settings or TransferSettings(), boot_info)
    if in_use := busy(node, {disk.device for disk in job.layout.disks}):
        raise UnsuitableNode(*in_use)
    for action in actions:
        action.validate(job)
    warnings = tuple(
        str(warning) for x in actions for warning in returned(x.warnings(job), Iterable, f"{x.name}: warnings")
    )
    mounting = any(name not in _WITHOUT_TREES for name in names)
    first = tuple(starting(job.layout, node, names[0], everything=mounting)) if names else ()
    steps = (*first, *_steps(actions, transport, job))
    programs = frozenset(
        str(program) for x in actions for program in returned(x.requires(job), Iterable, f"{x.name}: requires")
    )
    if first:
        programs |= {*lvm.PROGRAMS, *mdadm.PROGRAMS, *udev.PROGRAMS}
    return Decision(Plan(job.layout, steps, warnings), programs, node)


def _steps(actions: Sequence[Action], transport: DeployDriver, job: Job) -> tuple[Step, ...]:
    steps = returned(
        transport.do_provisioning(actions, job), Iterable, f"{type(transport).__name__}: do_provisioning"
    )
    found = tuple(returned(step, Step, "of one of the actions: plan") for step in steps)
    for step in found:  # what a plug-in fails to say is found out now, not when half of the steps have run
        returned(step.description, str, f"{step.action}: {type(step).__name__}.description")
        returned(step.destroys, tuple, f"{step.action}: {type(step).__name__}.destroys")
    return found


def _layout(deployment: Deployment, node: NodeFacts, names: Sequence[str], seed: uuid.UUID) -> Layout:
    """What the disks will be; what they are, where nothing or only file systems are to be made."""
    wanted = build(deployment, node, Identifiers(seed))
    making = "do_partitioning" in names
    if making and deployment.policy == "clean":
        return wanted
    writing = deployment.configdrive is not None and "do_configdrive" in names
    return adopt(wanted, node, make=making, copy="do_copyimage" in names, configdrive=writing)


_WITHOUT_TREES = ("do_partitioning", "do_configdrive", "do_reboot")


def _for_configdrive(deployment: Deployment, node: NodeFacts, names: Sequence[str]) -> Deployment:
    """The deployment with the configdrive that this run is about, and its partition where it is not the run's work.

    Partitioning alone makes the partition, for do_configdrive may run later. A run that partitions and then goes on
    to a stage behind do_configdrive, without it, is one without a configdrive.
    """
    if "do_configdrive" in names and deployment.configdrive:
        return deployment
    if "do_partitioning" not in names:
        return as_found(replace(deployment, configdrive=None), node)
    later = {"do_copyimage", "do_bootloader", "do_reboot"} & set(names)
    return replace(deployment, configdrive=None) if later else deployment


ORDER = ("do_partitioning", "do_configdrive", "do_copyimage", "do_bootloader", "do_reboot")


def check_order(names: Sequence[str]) -> None:
    """Refuse an order in which an action would undo or miss the work of another.

    :raises UsageError: naming the two. Third parties' actions may stand anywhere.
    """
    if len(set(names)) < len(names):
        raise UsageError("--actions: an action stands twice")
    if "do_reboot" in names[:-1]:
        raise UsageError("--actions: do_reboot must be the last")
    known = [name for name in names if name in ORDER]
    for first, second in itertools.pairwise(known):
        if ORDER.index(first) > ORDER.index(second):
            raise UsageError(f"--actions: {second} must come before {first}")

# SPDX-License-Identifier: Apache-2.0
"""From input and node to a plan: reserve, lay out, validate, plan. No action is known by name."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from bareon.actions.base import Action, Job
from bareon.drivers.deploy.base import DeployDriver
from bareon.errors import UnsuitableNode, UsageError
from bareon.layout.bootplace import placed
from bareon.layout.build import build
from bareon.layout.claim import configdrive_as_found
from bareon.layout.compare import adopt
from bareon.layout.match import settled
from bareon.layout.networked import unreachable_roots
from bareon.layout.readable import readable
from bareon.layout.running import beside, left
from bareon.layout.sets import torn
from bareon.layout.stack import failures, forbidden, meant, to_start, unreadable
from bareon.model.deployment import Deployment
from bareon.model.layout import Layout
from bareon.model.node import NodeFacts
from bareon.model.settings import TransferSettings
from bareon.plan.plan import Plan
from bareon.plugin import blamed, returned
from bareon.run import missing
from bareon.step import Step
from bareon.storage.identifier import Identifiers
from bareon.tools import udev


@dataclass(frozen=True)
class Decision:
    """The plan of a run, the programs its steps will start, and what it makes."""

    plan: Plan
    programs: frozenset[str]
    node: NodeFacts
    makes: frozenset[str] = frozenset()

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
        if reasons := forbidden(self.node, self.plan.layout, devices, allowed):
            raise UnsuitableNode(*(f"{reason}, and --allow_destroy does not name it" for reason in reasons))
        unknown = (
            f"--allow_destroy: {value!r} is no disk of this node" for value, found in disks.items() if not found
        )
        return replace(self, plan=replace(self.plan, warnings=(*self.plan.warnings, *unknown)))

    def check_health(self, *, allowed: bool) -> Decision:
        """See that no disk of the layout says that it is failing, where the run makes anything.

        :param allowed: warn of such disks only.
        :raises UnsuitableNode: naming them, with their words.
        """
        failing = failures(self.node, {disk.device for disk in self.plan.layout.disks}) if self.makes else []
        if failing and not allowed:
            raise UnsuitableNode(*(f"{words}; replace it, or go on with --allow_failing_disks" for words in failing))
        return replace(self, plan=replace(self.plan, warnings=(*self.plan.warnings, *failing)))

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
) -> Decision:
    """Let the queued actions decide everything.

    :raises InvalidInput: :class:`UnsuitableNode` or :class:`DisksDiffer`, whichever stands in the way.
    """
    names = tuple(action.name for action in actions)
    makes = frozenset(thing for action in actions for thing in action.makes)
    deployment = placed(settled(deployment, node), node)
    deployment = returned(transport.reserve(deployment), Deployment, f"{type(transport).__name__}: reserve")
    deployment = _for_configdrive(deployment, node, actions, makes)
    for action in actions:
        deployment = returned(action.reserve(deployment), Deployment, f"{action.name}: reserve")
    deployment = readable(deployment)
    layout, noticed = _layout(deployment, node, makes, seed)
    if not reads_only(actions):
        if roots := [*unreachable_roots(layout, deployment, node)]:
            raise UnsuitableNode(*roots)
        layout = beside(layout, deployment, node)
        noticed = (*noticed, *left(layout, deployment, node))
    job = Job(deployment, node, layout, names, transport, settings or TransferSettings(), makes)
    for action in actions:
        action.validate(job)
    warnings = [
        str(warning) for x in actions for warning in returned(x.warnings(job), Iterable, f"{x.name}: warnings")
    ]
    programs = {
        str(program) for x in actions for program in returned(x.requires(job), Iterable, f"{x.name}: requires")
    }
    started = to_start(layout, node, everything=any(action.mounts for action in actions)) if actions else []
    first = [step for structure in started for step in structure.start(names[0])]
    steps = (*first, *_steps(actions, transport, job))
    if sets := torn(node, {device for step in steps for device in step.destroys}):
        raise UnsuitableNode(*sets)
    if started:
        programs |= {*udev.PROGRAMS, *(program for structure in started for program in structure.programs)}
    origins = transport.origins(job) if "images" in makes else ()
    plan = Plan(layout, steps, (*noticed, *warnings), tuple(returned(origins, Iterable, "origins")))
    return Decision(plan, frozenset(programs), node, makes)


def _steps(actions: Sequence[Action], transport: DeployDriver, job: Job) -> tuple[Step, ...]:
    steps = returned(
        transport.do_provisioning(actions, job), Iterable, f"{type(transport).__name__}: do_provisioning"
    )
    found = tuple(returned(step, Step, "of one of the actions: plan") for step in steps)
    for step in found:  # what a plug-in fails to say is found out now, not when half of the steps have run
        returned(step.description, str, f"{step.action}: {type(step).__name__}.description")
        returned(step.destroys, tuple, f"{step.action}: {type(step).__name__}.destroys")
    return found


def _layout(
    deployment: Deployment, node: NodeFacts, makes: Collection[str], seed: uuid.UUID
) -> tuple[Layout, tuple[str, ...]]:
    """The layout, and warnings. Without partitioning, or with the policy ``verify``, what is there is taken over."""
    wanted = build(deployment, node, Identifiers(seed))
    making = "layout" in makes
    clearing = making and deployment.policy == "clean"
    if reasons := unreadable(node, {disk.device for disk in wanted.disks}, inside=not clearing):
        raise UnsuitableNode(*reasons)
    if clearing:
        return wanted, ()
    return adopt(wanted, node, make=making, copy="images" in makes)


def _for_configdrive(
    deployment: Deployment, node: NodeFacts, actions: Sequence[Action], makes: Collection[str]
) -> Deployment:
    """The deployment with the configdrive that this run is about, and its partition where it is not the run's work.

    Partitioning alone makes the partition, for the configdrive may be written later. A run that partitions and then
    goes on to a stage behind the configdrive, without it, is one without a configdrive. Where some images alone are
    brought, the one that is there stays.
    """
    if "configdrive" in makes and deployment.configdrive:
        return deployment
    if "layout" not in makes or deployment.brought is not None:
        return configdrive_as_found(replace(deployment, configdrive=None), node)
    later = any("configdrive" in action.after for action in actions)
    return replace(deployment, configdrive=None) if later else deployment


def reads_only(actions: Sequence[Action]) -> bool:
    """True for a run that changes nothing on the node, by what its actions say."""
    return bool(actions) and not any(action.writes for action in actions)


def check_order(actions: Sequence[Action]) -> None:
    """Refuse an order in which an action would undo or miss the work of another.

    :raises UsageError: naming the two. An action that says nothing of an order may stand anywhere.
    """
    if len({action.name for action in actions}) < len(actions):
        raise UsageError("--actions: duplicate action")
    for action in actions[:-1]:
        if action.last:
            raise UsageError(f"--actions: {action.name} must be the last")
    for number, action in enumerate(actions):
        for later in actions[number + 1 :]:
            if {later.name, *later.makes} & set(action.after):
                raise UsageError(f"--actions: {later.name} must come before {action.name}")

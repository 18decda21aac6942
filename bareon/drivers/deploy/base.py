# SPDX-License-Identifier: Apache-2.0
"""The base class of deploy drivers: a transport for images, and the default flow of actions with their stages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from bareon.actions.base import Action, Job, Transport
from bareon.errors import UnsuitableNode
from bareon.step import Step


class DeployDriver(Transport):
    """A transport (see :class:`bareon.actions.base.Transport`) with the flow that uses it.

    The drivers of bareon differ in how an image arrives (``fetch``) and in nothing else. The methods below are called
    with the queued action of their name and plan its stage; a driver that does a stage in another way overrides one
    and may build on the action's own steps. Like actions they plan; nothing is changed in them.
    """

    flow: ClassVar[tuple[str, ...]] = ("do_partitioning", "do_configdrive", "do_copyimage", "do_bootloader")

    def do_partitioning(self, action: Action, job: Job) -> Sequence[Step]:
        """The steps that make the disks what the layout says."""
        return action.plan(job)

    def do_configdrive(self, action: Action, job: Job) -> Sequence[Step]:
        """The steps that write the configdrive."""
        return action.plan(job)

    def do_copyimage(self, action: Action, job: Job) -> Sequence[Step]:
        """The steps that bring every image, each by ``fetch``, and write its fstab."""
        return action.plan(job)

    def do_reboot(self, action: Action, job: Job) -> Sequence[Step]:
        """The steps that end the ramdisk."""
        return action.plan(job)

    def do_provisioning(self, actions: Sequence[Action], job: Job) -> Sequence[Step]:
        """The steps of all queued actions in their order: each by the method of its name, or the action's own."""
        stages = {
            "do_partitioning": self.do_partitioning,
            "do_configdrive": self.do_configdrive,
            "do_copyimage": self.do_copyimage,
            "do_reboot": self.do_reboot,
        }
        planned = [(x.name, stages[x.name](x, job) if x.name in stages else x.plan(job)) for x in actions]
        for name, steps in planned:
            if not isinstance(steps, Iterable):
                raise UnsuitableNode(f"plug-in {name}: plan returned {type(steps).__name__}, not steps")
        return [step for _, steps in planned for step in steps]

# SPDX-License-Identifier: Apache-2.0
"""What an action is.

All queued actions reserve, then the layout is made, then all validate, then all plan; only then does the executor
start. None of these methods changes anything or reads the machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from bareon.facts.node import NodeFacts
from bareon.model.deployment import Deployment
from bareon.model.image import Image
from bareon.model.layout import Layout
from bareon.plan.step import Step


class Transport(Protocol):
    """How the bits of an image arrive: what a deploy driver lends to the copyimage action."""

    def requires(self) -> Iterable[str]:
        """The programs it starts."""

    def validate(self, job: Job) -> None:
        """Refuse what this transport cannot bring.

        :raises InvalidInput: or :class:`UnsuitableNode`.
        """

    def fetch(self, image: Image, job: Job) -> Sequence[Step]:
        """The steps that bring one image onto its volumes."""


@dataclass(frozen=True)
class Job:
    """All that was decided before the actions plan. ``queued`` are the names of all actions of this run, in order."""

    deployment: Deployment
    node: NodeFacts
    layout: Layout
    queued: tuple[str, ...]
    transport: Transport


class Action(ABC):
    """A stage of a deployment. ``name`` is that of its entry point."""

    name: ClassVar[str]

    def requires(self, job: Job) -> Iterable[str]:
        """The programs its steps start, checked before anything is written."""
        return ()

    def reserve(self, deployment: Deployment) -> Deployment:
        """Claim what it needs of the layout, for instance a partition; called before the layout is made."""
        return deployment

    def validate(self, job: Job) -> None:  # noqa: B027  most have nothing to add
        """Refuse what could not work.

        :raises InvalidInput: when the input must change.
        :raises UnsuitableNode: when this node cannot do it.
        """

    @abstractmethod
    def plan(self, job: Job) -> Sequence[Step]:
        """The steps it takes, in order."""

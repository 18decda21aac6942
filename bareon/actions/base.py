# SPDX-License-Identifier: Apache-2.0
"""The base class of actions, the stages of a deployment, and of transports.

All queued actions reserve, then the layout is made, then all validate, then all plan; only then does the executor
start. None of these methods changes anything or reads the machine; ``look`` of a transport reaches servers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from bareon.errors import Defect
from bareon.model.deployment import Deployment
from bareon.model.image import Early, Image, Origin
from bareon.model.layout import Layout
from bareon.model.node import NodeFacts
from bareon.model.settings import TransferSettings
from bareon.step import Step

COPY_IMAGE = "do_copyimage"
"""The name of the action that the steps of transports belong to."""


class Transport(ABC):
    """The way images arrive: each deploy driver is one, and ``do_copyimage`` uses it."""

    @abstractmethod
    def requires(self, job: Job) -> Iterable[str]:
        """The programs it starts, checked before anything is written."""

    def look(self, deployment: Deployment, settings: TransferSettings) -> Deployment:
        """See what its images are, where the layout or the steps depend on it, before anything is decided.

        It may reach servers, and changes nothing. What it notes in the images is all that it gives; an image that it
        cannot reach stays as it is, since whether that matters is not known yet. It is not called for a plan that is
        made for a saved node.
        """
        return deployment

    def reserve(self, deployment: Deployment) -> Deployment:
        """Adapt the deployment to its images, for instance where a file system arrives with one.

        Called in every run with this transport, whether an image is copied in it or not: the stages of a deployment
        may run apart, and must agree.
        """
        return deployment

    def check(self, deployment: Deployment) -> Iterable[Defect]:
        """What this transport cannot bring, as far as the input alone tells."""
        return ()

    @abstractmethod
    def validate(self, job: Job) -> None:
        """Refuse what this transport cannot bring.

        :raises InvalidInput: or :class:`UnsuitableNode`.
        """

    @abstractmethod
    def fetch(self, image: Image, job: Job) -> Sequence[Step]:
        """The steps that bring one image onto its volumes."""

    def origins(self, job: Job) -> Iterable[Origin]:
        """What each image that is brought is taken for, and by what its bytes are checked; for the plan."""
        return ()

    def early(self, image: Image, job: Job) -> Early | None:
        """What brings single files of an image before the first write; ``None`` where nothing can."""
        return None


@dataclass(frozen=True)
class Job:
    """All that was decided before the actions plan.

    ``queued`` are the names of all actions of this run, in order; ``makes`` is what they make together.
    """

    deployment: Deployment
    node: NodeFacts
    layout: Layout
    queued: tuple[str, ...]
    transport: Transport
    settings: TransferSettings
    makes: frozenset[str] = frozenset()


class Action(ABC):
    """A stage of a deployment. ``name`` is that of its entry point.

    What an action says of itself is all that is known of it; see :mod:`bareon.decide`. ``makes`` are the things that
    it makes: ``layout`` (tables, arrays, groups, file systems), ``configdrive``, ``images``, ``boot loader``, or
    others of its own. ``after`` are the things, or the names of actions, that it must not come before in a run;
    nothing can follow one that is ``last``. ``mounts`` says whether its steps mount file systems of the layout, so
    that what these lie on must have been started. ``writes`` says whether they change anything on the node: with
    actions alone that do not, disks may be in use. ``options`` are the configuration options it takes, each with its
    default; their values are in ``settings``.
    """

    name: ClassVar[str]
    makes: ClassVar[tuple[str, ...]] = ()
    after: ClassVar[tuple[str, ...]] = ()
    last: ClassVar[bool] = False
    mounts: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    options: ClassVar[Mapping[str, Any]] = {}
    settings: Mapping[str, Any] = {}

    def configure(self, values: Mapping[str, Any]) -> None:
        """Take the values of the options; those that are left out have their defaults."""
        self.settings = {**self.options, **values}

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
        :raises UsageError: when it cannot be queued with the others.
        """

    def warnings(self, job: Job) -> Iterable[str]:
        """Warnings: what does not stop the run, but its operator should know. A line each, no secrets."""
        return ()

    @abstractmethod
    def plan(self, job: Job) -> Sequence[Step]:
        """The steps it takes, in order."""

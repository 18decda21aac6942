# SPDX-License-Identifier: Apache-2.0
"""What a deploy driver is: a default flow of actions, and a transport for images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

from bareon.actions.base import Job
from bareon.model.image import Image
from bareon.plan.step import Step


class DeployDriver(ABC):
    """A transport (see :class:`bareon.actions.base.Transport`) with the flow that uses it."""

    flow: ClassVar[tuple[str, ...]] = ("do_partitioning", "do_copyimage", "do_bootloader")

    @abstractmethod
    def requires(self) -> Iterable[str]:
        """The programs it starts."""

    @abstractmethod
    def validate(self, job: Job) -> None:
        """Refuse what this transport cannot bring.

        :raises InvalidInput: or :class:`UnsuitableNode`.
        """

    @abstractmethod
    def fetch(self, image: Image, job: Job) -> Sequence[Step]:
        """The steps that bring one image onto its volumes."""

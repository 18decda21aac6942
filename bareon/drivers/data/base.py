# SPDX-License-Identifier: Apache-2.0
"""The base class of data drivers, which translate one dialect of input each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from bareon.errors import Defect, InvalidInput
from bareon.layout.bootplace import placed
from bareon.layout.build import declared_defects
from bareon.layout.claim import configdrive_claim
from bareon.model.consistency import defects
from bareon.model.deployment import Deployment


class DataDriver(ABC):
    """Translates one dialect of input. No value of the input's own form leaves it.

    ``template_path`` is a folder of the operator's, set before :meth:`parse`: where a dialect makes documents from
    templates, those in it come before the driver's own.
    """

    template_path: str | None = None

    @abstractmethod
    def parse(self, text: bytes) -> Deployment:
        """The deployment that a document describes.

        :raises InvalidInput: listing every defect with its JSON path.
        """

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of the last :meth:`parse`: what it accepted, but the author of the input should know."""
        return ()


def checked(deployment: Deployment, found: Iterable[Defect]) -> Deployment:
    """The deployment, if neither its dialect has ``found`` defects in it, nor has the model that all dialects share.

    :raises InvalidInput: listing every defect with its JSON path, in the order of the paths.
    """
    listed = list(found)
    claimed = there = placed(deployment)
    try:
        claimed = configdrive_claim(there, written=False)
    except InvalidInput as error:
        listed += error.defects
    listed += [*defects(there), *declared_defects(claimed)]
    if listed:
        raise InvalidInput(sorted(listed, key=lambda defect: defect.path))
    return deployment

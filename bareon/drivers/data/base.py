# SPDX-License-Identifier: Apache-2.0
"""What a data driver is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from bareon.model.deployment import Deployment


class DataDriver(ABC):
    """Translates one dialect of input. No value of the input's own form leaves it."""

    @abstractmethod
    def parse(self, text: bytes) -> Deployment:
        """The deployment that a document describes.

        :raises InvalidInput: listing every defect with its JSON path.
        """

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the last :meth:`parse` accepted, but the author should know of."""
        return ()

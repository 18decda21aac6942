# SPDX-License-Identifier: Apache-2.0
"""Volumes of the ironic dialect, each read by its kind of storage."""

from __future__ import annotations

from typing import Any

from bareon.errors import Defect
from bareon.storage import filesystem
from bareon.storage.kind import Aggregate, Content, Read, Volume
from bareon.storage.kinds import KINDS

LEGACY = ("extra", "free_space", "label", "min_size", "_allocate_size")
"""Keys that old documents have beside others, without any effect."""


class Volumes:
    """A :class:`bareon.storage.kind.Reader`: from the entries of a document that fits the schema to values.

    ``defects`` and ``warnings`` collect what is found on the way, ``aggregates`` what volumes make up together.

    :param first_image: the name of the first image, to which volumes belong that name none; empty without images.
    """

    def __init__(self, first_image: tuple[str, ...]) -> None:
        self.defects: list[Defect] = []
        self.warnings: list[str] = []
        self.aggregates: list[Aggregate] = []
        self._first_image = first_image
        self._readers: dict[str, Read] = {}
        for kind in KINDS:
            self._readers |= kind.readers(self)

    def entry(self, value: dict[str, Any], path: str) -> None:
        """Take in an entry beside the disks, such as a volume group."""
        found = self._read(value, path)
        assert isinstance(found, Aggregate)  # by the schema
        self.aggregates.append(found)

    def volume(self, value: dict[str, Any], path: str) -> Volume | None:
        """An item of a list of volumes; ``None`` for one that is accepted and ignored."""
        found = self._read(value, path)
        assert found is None or isinstance(found, Volume)
        return found

    def _read(self, value: dict[str, Any], path: str) -> Volume | Aggregate | None:
        self.warn_of_legacy(value, path)
        return self._readers[value["type"]](value, path)

    def content(self, value: dict[str, Any], path: str) -> Content | None:
        """The file system that a volume describes, in the containers that it describes."""
        images = tuple(value.get("images", self._first_image))
        keep_data = value.get("keep_data", True)
        found = filesystem.read(value, path, self.defects, images=images, keep_data=keep_data)
        return self.contained(value, path, found)

    def contained(self, value: dict[str, Any], path: str, content: Content | None) -> Content | None:
        """A content in the containers that a volume describes."""
        for kind in KINDS:
            content = kind.contain(value, path, content, self)
        return content

    def warn_of_legacy(self, value: dict[str, Any], path: str) -> None:
        """Name the keys that have no effect."""
        self.warnings += [f"{path}.{key} is ignored" for key in LEGACY if key in value]

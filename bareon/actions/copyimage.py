# SPDX-License-Identifier: Apache-2.0
"""do_copyimage: each image onto its volumes, by the deploy driver's transport, and its fstab."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bareon.actions.base import Action, Job
from bareon.errors import Defect, InvalidInput
from bareon.model.deployment import InterfaceName
from bareon.model.layout import Layout
from bareon.step import Outcome, Progress, Step
from bareon.system import crypttab, fstab, interface
from bareon.system.tree import actual, mounted_tree
from bareon.tools import mount


class CopyImage(Action):
    """Fetches the images and writes ``/etc/fstab``, and ``/etc/crypttab`` if needed, into each deployed system."""

    name = "do_copyimage"
    makes = ("images",)
    after = ("layout", "configdrive")

    def requires(self, job: Job) -> set[str]:
        return {*mount.PROGRAMS, *job.transport.requires(job)}

    def validate(self, job: Job) -> None:
        if not job.deployment.images:
            raise InvalidInput([Defect("$.images", f"{self.name} is queued, but there is no image to copy")])
        job.transport.validate(job)

    def plan(self, job: Job) -> Sequence[Step]:
        return list(self._steps(job))

    def _steps(self, job: Job) -> Iterator[Step]:
        for image in job.deployment.images:
            yield from job.transport.fetch(image, job)
        # Not before all images are there: several may make up one system.
        for image in job.deployment.images:
            if job.layout.has_root(image.name):
                yield WriteFstab(self.name, image.name, job.layout)
                if job.layout.crypttab(image.name):
                    yield WriteCrypttab(self.name, image.name, job.layout)
                if names := job.deployment.interface_names:
                    yield NameInterfaces(self.name, image.name, job.layout, names)


@dataclass(frozen=True)
class WriteFstab(Step):
    """Write ``/etc/fstab`` of one image from its own volumes."""

    image: str
    layout: Layout

    @property
    def description(self) -> str:
        return f"Write /etc/fstab of image {self.image!r}"

    def run(self, progress: Progress) -> Outcome:
        mounts = self.layout.tree(self.image)
        with mounted_tree(mounts, writing="/etc/fstab") as tree:
            existing = tree.read("/etc/fstab") if mounts[0].kept else None
            esp = self.layout.mounted_esp(self.image)
            ours = (*tree.mounts, *([esp] if esp else []), *actual(self.layout.swaps(self.image)))
            tree.write("/etc/fstab", fstab.render(ours, existing or ""))
        return {}


@dataclass(frozen=True)
class WriteCrypttab(Step):
    """Write ``/etc/crypttab`` of one image, by which it opens what its volumes lie in."""

    image: str
    layout: Layout

    @property
    def description(self) -> str:
        return f"Write /etc/crypttab of image {self.image!r}"

    def run(self, progress: Progress) -> Outcome:
        mounts = self.layout.tree(self.image)
        with mounted_tree(mounts, writing="/etc/crypttab") as tree:
            existing = tree.read("/etc/crypttab") if mounts[0].kept else None
            tree.write("/etc/crypttab", crypttab.render(self.layout.crypttab(self.image), existing or ""))
        return {}


@dataclass(frozen=True)
class NameInterfaces(Step):
    """Write the rules by which udev of one image names network interfaces."""

    image: str
    layout: Layout
    names: tuple[InterfaceName, ...]

    @property
    def description(self) -> str:
        listed = ", ".join(f"{x.mac} {x.name}" for x in self.names)
        return f"Name the network interfaces of image {self.image!r}: {listed}"

    def run(self, progress: Progress) -> Outcome:
        with mounted_tree(self.layout.tree(self.image), writing=interface.RULES) as tree:
            tree.write(interface.RULES, interface.render(self.names))
        return {}

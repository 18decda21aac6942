# SPDX-License-Identifier: Apache-2.0
"""do_copyimage: each image onto its volumes, by the deploy driver's transport, and its binding to the node."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bareon.actions.base import COPY_IMAGE, Action, Job
from bareon.actions.manifest import PLACE as MANIFEST
from bareon.actions.manifest import manifests
from bareon.boot.drivers import needed
from bareon.errors import ActionFailed, CommandError, Defect, InvalidInput
from bareon.layout.stack import disks_below
from bareon.model.consistency import shared_targets
from bareon.model.layout import Layout
from bareon.model.node import NodeFacts
from bareon.model.settings import SANDBOX, runs_programs
from bareon.step import Outcome, Progress, Step
from bareon.system import initramfs, sandbox, selinux
from bareon.system.bindings.binding import Result
from bareon.system.bindings.home import Home, identifiers
from bareon.system.bindings.table import bind
from bareon.system.makers.table import MAKERS
from bareon.system.tree import Tree, actual, mounted_tree
from bareon.text import visible
from bareon.tools import lvm, mount
from bareon.tools.sandbox import PROGRAMS

LOG = logging.getLogger(__name__)


class CopyImage(Action):
    """Fetches the images and binds each deployed system to the node: ``/etc/fstab``, and what else names devices."""

    name = COPY_IMAGE
    makes = ("images",)
    after = ("layout", "configdrive")
    options = {"image_programs": SANDBOX}

    def requires(self, job: Job) -> set[str]:
        judged = lvm.PROGRAMS if any(x.kind.name == "lvm" for x in job.layout.aggregates) else ()
        inside = PROGRAMS if runs_programs(self.settings) else ()
        return {*mount.PROGRAMS, *inside, *judged, *job.transport.requires(job)}

    def validate(self, job: Job) -> None:
        if not job.deployment.images:
            raise InvalidInput([Defect("$.images", f"{self.name} is queued, but there is no image to copy")])
        job.transport.validate(job)
        if defects := list(shared_targets(job.deployment)):
            raise InvalidInput(defects)

    def warnings(self, job: Job) -> Iterator[str]:
        images = job.deployment.images
        for number, image in enumerate(images):
            for outer in job.deployment.around(image):
                if outer in images[number:] and job.deployment.brings(outer) and job.deployment.brings(image):
                    yield (
                        f"{image.path}.target: {image.target} lies in the tree of image {outer.name!r}, so image"
                        f" {image.name!r} is brought after it; of files that both have, its own stay"
                    )

    def plan(self, job: Job) -> Sequence[Step]:
        return list(self._steps(job))

    def _steps(self, job: Job) -> Iterator[Step]:
        brought = [image for image in job.deployment.outer_first() if job.deployment.brings(image)]
        for image in brought:
            yield from job.transport.fetch(image, job)
        # Not before all images are there: several may make up one system.
        elsewhere, former = _beside(job.layout, job.node)
        for image in job.deployment.images:
            if image in brought and job.layout.has_root(image.name):
                drivers = tuple(x for _, x in needed(job.layout, job.node, image.name))
                names = job.deployment.interface_names
                home = Home(job.layout, image.name, elsewhere, former, names, drivers=drivers)
                yield BindSystem(self.name, home, runs_programs(self.settings))
        if "boot loader" not in job.makes:
            yield from manifests(self.name, job)


def _beside(layout: Layout, node: NodeFacts) -> tuple[frozenset[str], frozenset[str]]:
    """The identifiers of what lies outside of the layout, and of what lay where the layout is."""
    mine, below = {disk.device for disk in layout.disks}, disks_below(node)
    names: tuple[set[str], set[str]] = set(), set()
    for device, content in node.contents():
        names[bool(below[device] & mine)].update(identifiers(device, content))
    for disk in node.disks:
        if disk.device not in mine:
            names[False].update(disk.names)
            names[False].update(f"PARTUUID={part.guid.lower()}" for part in disk.partitions if part.guid)
            names[False].update(f"PARTLABEL={part.name}" for part in disk.partitions if part.name)
    elsewhere = frozenset(names[False])
    # Another disk may have the same label; names of devices and labels come back.
    former = frozenset(x for x in names[True] if x.startswith("UUID=")) - elsewhere
    return elsewhere, former


@dataclass(frozen=True)
class BindSystem(Step):
    """Bind the system of one image to this node: what it knows of devices, from ``/etc/fstab`` on.

    ``programs`` is whether those of the image may run.
    """

    home: Home
    programs: bool = True

    @property
    def description(self) -> str:
        names = ", ".join(f"{x.mac} {x.name}" for x in self.home.interfaces)
        also = f"; name the network interfaces: {names}" if names else ""
        keys = [x.name for x in self.home.layout.crypt_devices(self.home.image) if x.key]
        given = f"; give it the key of {', '.join(keys)}" if keys else ""
        without = "" if self.programs else "; run none of its programs"
        return f"Write /etc/fstab of image {self.home.image!r}, and what else names devices{also}{given}{without}"

    def preflight(self) -> None:
        if self.programs:
            sandbox.check()
        for crypt in self.home.layout.crypt_devices(self.home.image):
            if crypt.key:
                crypt.key()

    def run(self, progress: Progress) -> Outcome:
        layout, image = self.home.layout, self.home.image
        with mounted_tree(layout.tree(image), writing=("/etc", "/boot")) as tree:
            esp = layout.mounted_esp(image)
            volumes = (*tree.mounts, *([esp] if esp else []), *actual(layout.swaps(image)))
            volumes += layout.made_at_start(image)
            result = bind(tree, replace(self.home, volumes=volumes))
            reason = self._reason(tree, result)
            result.done += filter(None, [selinux.label(tree)])
            if tree.has(MANIFEST):  # of an earlier deployment
                tree.remove(MANIFEST)
        for line in result.done:
            LOG.info("image %s: %s", image, line)
        for line in result.warnings:
            LOG.warning("image %s: %s", image, line)
        found = {"done": "; ".join(result.done), "warnings": "; ".join(result.warnings)}
        return {name: lines for name, lines in found.items() if lines} | (self._remade(reason) if reason else {})

    def _reason(self, tree: Tree, result: Result) -> str | None:
        """Why the initial ramdisks must be made anew, in words that go on "the initramfs, which ..."."""
        reasons = [*self._copies(tree, result), *self._lacks(tree, result)]
        if not reasons:
            return None
        reason = " and ".join(reasons)
        if initramfs.maker(tree) is None:
            unable = f"and the image has neither {' nor '.join(x.program for x in MAKERS)}"
            result.warnings.append(f"the initramfs must be made anew, since it {reason}, {unable}")
            return None
        initramfs.to_be_made(tree)
        return reason

    def _copies(self, tree: Tree, result: Result) -> Iterator[str]:
        """The files of which an initramfs has another copy."""
        if (result.stale or initramfs.is_outdated(tree)) and initramfs.initial_ramdisks(tree):
            yield f"has copies of {', '.join(result.stale) or 'files of this node'}"

    def _lacks(self, tree: Tree, result: Result) -> Iterator[str]:
        """What an initramfs does not carry of what gets at the root file system; a warning where nobody can tell."""
        looked = [initramfs.looked_into(tree, x, self.home.needs) for x in initramfs.initial_ramdisks(tree)]
        result.warnings += [visible(words) for x in looked for words in x.unknown]
        if words := [word for x in looked for word in x.lacks]:
            yield f"lacks {', '.join(dict.fromkeys(words))}"

    def _remade(self, reason: str) -> Outcome:
        image = self.home.image
        with mounted_tree(self.home.layout.tree(image), writing=initramfs.FOLDERS) as tree:
            program = str(initramfs.maker(tree))
            if not self.programs:
                raise ActionFailed(
                    f"image {image!r}: {program} of the image would have to make the initramfs anew, which {reason},"
                    " and --image_programs none forbids it: give sandbox, or an image that needs no such thing"
                )
            LOG.info("image %s: %s makes the initramfs anew, which %s", image, program, reason)
            try:
                initramfs.remake(tree)
            except CommandError as error:
                missing = tree.lacks("/boot")
                cause = f"/boot has no {missing} left" if missing else str(error)
                raise ActionFailed(
                    f"image {image!r}: the initramfs, which {reason}, cannot be made anew: {cause}"
                ) from error
            selinux.label(tree)
        return {"initramfs": f"made anew by {program}, as it {reason}"}

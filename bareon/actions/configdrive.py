# SPDX-License-Identifier: Apache-2.0
"""do_configdrive: writes the configdrive, which cloud-init reads, to the partition that was reserved for it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bareon.actions.base import Action, Job
from bareon.errors import ActionFailed, Defect, InvalidInput, UnsuitableNode
from bareon.layout.claim import configdrive_claim
from bareon.layout.stack import disks_below
from bareon.model.configdrive import FOLDER, LABEL, Configdrive
from bareon.model.deployment import Deployment
from bareon.step import Outcome, Progress, Step
from bareon.storage.disk import PlannedDisk, PlannedPartition
from bareon.storage.identifier import as_kind
from bareon.tools import blkid, device, filesystem, mount, udev

_POINT = "/run/bareon/configdrive"


class ConfigdriveAction(Action):
    """Writes the configdrive, if there is one."""

    name = "do_configdrive"
    makes = ("configdrive",)
    after = ("layout",)
    mounts = False

    def requires(self, job: Job) -> set[str]:
        if job.deployment.configdrive is None:
            return set()
        made = () if job.deployment.configdrive.image else (filesystem.maker("vfat"), *mount.PROGRAMS)
        return {*blkid.PROGRAMS, *udev.PROGRAMS, *made}

    def reserve(self, deployment: Deployment) -> Deployment:
        return configdrive_claim(deployment, written=True)

    def validate(self, job: Job) -> None:
        configdrive = job.deployment.configdrive
        for disk, _ in _places(job) if configdrive else ():
            if configdrive and disk.sector > configdrive.sector:
                raise UnsuitableNode(
                    f"{disk.device} has sectors of {disk.sector} bytes, and {configdrive.kind} with smaller ones"
                    " cannot be mounted from it; give the content in the input, under 'configdrive'"
                )

    def warnings(self, job: Job) -> Iterator[str]:
        if job.deployment.configdrive is None and job.queued == (self.name,):
            yield "there is no configdrive to write: none in the input, and no file at --config_drive_path"
        for where in stale(job):
            yield f"{where} is labelled {LABEL}: cloud-init may read it in place of the one for this system"

    def plan(self, job: Job) -> Sequence[Step]:
        configdrive = job.deployment.configdrive
        if configdrive is None:
            return ()
        return [WriteConfigdrive(self.name, part, configdrive) for _, part in _places(job)]


def _places(job: Job) -> Iterator[tuple[PlannedDisk, PlannedPartition]]:
    for disk in job.layout.disks:
        for part in disk.partitions:
            if part.role == "configdrive":
                yield disk, part


def stale(job: Job) -> list[str]:
    """Stale configdrives: the devices that will still hold another one after this run."""
    written = {part.device for _, part in _places(job)}
    cleared = set()
    if job.deployment.policy == "clean" and "layout" in job.makes:
        cleared = {disk.device for disk in job.layout.disks}
    below = disks_below(job.node)
    labelled = (name for name, content in job.node.contents() if content and (content.label or "").lower() == LABEL)
    return [name for name in labelled if name not in written and not below[name] & cleared]


@dataclass(frozen=True)
class WriteConfigdrive(Step):
    """Write a configdrive over a whole partition, so that nothing of an earlier one is left."""

    partition: PlannedPartition
    configdrive: Configdrive = field(repr=False)

    @property
    def description(self) -> str:
        return f"Write the configdrive ({self.configdrive.kind}) to {self.partition.device}"

    @property
    def destroys(self) -> tuple[str, ...]:
        return (self.partition.device,) if self.partition.decision == "format" else ()

    def preflight(self) -> None:
        if self.partition.decision != "create":
            device.refuse_if_busy(self.partition.device)
        if self.configdrive.image and (found := self._other_than_it_seems(self.configdrive.image)):
            message = f"it is {found} as well: whoever looks at its partition could take it for that"
            raise InvalidInput([Defect(self.configdrive.path, message)])

    def _other_than_it_seems(self, image: bytes) -> str | None:
        """What else than the file system that its header tells of an image would be as its partition.

        An image is somebody's input. There is room before the header of an ISO 9660 and behind its end for whatever
        the ramdisk or the deployed system would start: a physical volume, a member of an array, a partition table.
        """
        with tempfile.NamedTemporaryFile(prefix="bareon-") as file:
            file.write(image)
            file.truncate(self.partition.size)
            file.flush()
            tags = blkid.probe([file.name]).get(file.name, {})
        if "AMBIVALENT" in tags:
            return "something else"
        others = [tags.get(tag) for tag in ("TYPE", "PTTYPE")]
        return next((x for x in others if x not in (None, self.configdrive.kind)), None)

    def run(self, progress: Progress) -> Outcome:
        place = self.partition.device
        device.refuse_if_busy(place)
        device.overwrite(place, self.configdrive.image or b"", self.partition.size)
        if not self.configdrive.image:
            self._make()
        tags = blkid.probe([place]).get(place, {})
        if tags.get("LABEL", "").lower() != LABEL:
            raise ActionFailed(f"{place}: no file system labelled {LABEL} is found after it was written")
        udev.look_again(place)
        return {"bytes": len(self.configdrive.image or b"") or sum(len(x) for _, x in self.configdrive.files)}

    def _make(self) -> None:
        place = self.partition.device
        filesystem.make("vfat", place, as_kind(self.partition.guid, "vfat"), LABEL)
        Path(_POINT).mkdir(parents=True, exist_ok=True)
        with mount.mounted(place, _POINT, kind="vfat", options="umask=0077"):
            folder = Path(_POINT) / FOLDER
            folder.mkdir(parents=True)
            for name, content in self.configdrive.files:
                (folder / name).write_bytes(self.completed(name, content))
            mount.write_back(_POINT)

    def completed(self, name: str, content: bytes) -> bytes:
        """The content, with a uuid where metadata lacks it: by that cloud-init tells a new system from an old one."""
        if name != "meta_data.json":
            return content
        return json.dumps({"uuid": self.partition.guid.lower(), **json.loads(content)}).encode()

# SPDX-License-Identifier: Apache-2.0
"""``--deploy_driver folder``: images are folders of the ramdisk, for instance on a network file system."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bareon.actions.base import Job
from bareon.drivers.deploy.base import DeployDriver
from bareon.errors import Defect, ImageFailed, InvalidInput
from bareon.model.image import Image
from bareon.step import Outcome, Progress, Step
from bareon.storage.filesystem import Mounted
from bareon.system.tree import mounted_tree
from bareon.tools import copy


class Folder(DeployDriver):
    def requires(self, job: Job) -> tuple[str, ...]:
        return copy.PROGRAMS

    def validate(self, job: Job) -> None:
        defects = [*_defects(job.deployment.images)]
        if defects:
            raise InvalidInput(defects)

    def fetch(self, image: Image, job: Job) -> list[Step]:
        return [CopyFolder("do_copyimage", image, job.layout.tree(image.name))]


def _defects(images: tuple[Image, ...]) -> Iterator[Defect]:
    for image in images:
        if image.url.scheme != "file" or image.url.authority != "":
            yield Defect(f"{image.path}.image_pull_url", "write file:///FOLDER")


@dataclass(frozen=True)
class CopyFolder(Step):
    image: Image
    mounts: tuple[Mounted, ...]

    @property
    def folder(self) -> str:
        return self.image.url.path

    @property
    def description(self) -> str:
        return f"Copy {self.folder} to {self.image.target}"

    def preflight(self) -> None:
        if not Path(self.folder).is_dir():
            raise ImageFailed(f"image {self.image.name!r}: there is no folder {self.folder}")

    def run(self, progress: Progress) -> Outcome:
        with mounted_tree(self.mounts) as tree:
            copy.tree(self.folder, tree.folder(self.image.target))
        return {}

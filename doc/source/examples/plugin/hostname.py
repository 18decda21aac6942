"""do_hostname: gives each deployed system a name, that of its image."""

from collections.abc import Sequence
from dataclasses import dataclass

from bareon.actions.base import Action, Job
from bareon.errors import Defect, InvalidInput
from bareon.model.layout import FilesystemLayout
from bareon.plan.step import Outcome, Progress, Step
from bareon.target.tree import mounted_tree


class Hostname(Action):
    name = "do_hostname"

    def requires(self, job: Job) -> Sequence[str]:
        return ("mount", "umount")

    def validate(self, job: Job) -> None:
        defects = [
            Defect(f"{image.path}.name", f"{image.name!r} cannot be a host name")
            for image in job.deployment.images
            if not image.name.isalnum()
        ]
        if defects:
            raise InvalidInput(defects)

    def plan(self, job: Job) -> Sequence[Step]:
        return [
            WriteHostname(self.name, image.name, job.layout.tree(image.name))
            for image in job.deployment.images
            if image.target == "/"
        ]


@dataclass(frozen=True)
class WriteHostname(Step):
    hostname: str
    filesystems: tuple[FilesystemLayout, ...]

    @property
    def description(self) -> str:
        return f"Name the system {self.hostname!r}"

    def run(self, progress: Progress) -> Outcome:
        with mounted_tree(self.filesystems) as tree:
            tree.write("/etc/hostname", f"{self.hostname}\n")
        return {}

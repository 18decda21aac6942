# SPDX-License-Identifier: Apache-2.0
"""do_message: greets whoever logs in to a deployed system."""

from dataclasses import dataclass

from bareon.actions.base import Action, Job
from bareon.step import Outcome, Progress, Step
from bareon.storage.filesystem import Mounted
from bareon.system.tree import mounted_tree


class Message(Action):
    name = "do_message"

    def requires(self, job: Job) -> list[str]:
        return ["mount", "umount"]

    def plan(self, job: Job) -> list[Step]:
        systems = [image.name for image in job.deployment.images if image.target == "/"]
        return [WriteMessage(self.name, name, job.layout.tree(name)) for name in systems]


@dataclass(frozen=True)
class WriteMessage(Step):
    image: str
    mounts: tuple[Mounted, ...]

    @property
    def description(self) -> str:
        return f"Write /etc/motd of image {self.image!r}"

    def run(self, progress: Progress) -> Outcome:
        with mounted_tree(self.mounts) as tree:
            tree.write("/etc/motd", f"This is {self.image}, deployed by bareon.\n")
        return {}

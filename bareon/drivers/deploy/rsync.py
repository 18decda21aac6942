# SPDX-License-Identifier: Apache-2.0
"""Images as trees of files from an rsync daemon, spread over all volumes of the image."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bareon.actions.base import Job
from bareon.actions.copyimage import CopyImage
from bareon.drivers.deploy.base import DeployDriver
from bareon.errors import (
    ActionFailed,
    CommandError,
    Defect,
    ImageFailed,
    InvalidInput,
    UnsuitableNode,
)
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.sizes import mib
from bareon.step import Outcome, Progress, Step
from bareon.storage.filesystem import SWAP, Mounted
from bareon.system.bindings.table import of_node
from bareon.system.tree import holder, mounted_tree
from bareon.tools import mount, rsync

LOG = logging.getLogger(__name__)
T = TypeVar("T")

_DAEMON = re.compile(r"rsync://([^/@]*@)?(\[[0-9A-Fa-f:.]+\]|[^/@:\[\]]+)(:[0-9]{1,5})?/.+|[^-:/][^:/]*::.+")
_PASSWORD = re.compile(r"rsync://[^/@]*:[^/]*@")

# Owners are those of the image, whatever the ramdisk's user table says; hard links stay hard links.
_ALWAYS = ("--numeric-ids", "--hard-links")
# On file systems just made there is nothing to compare with.
_FRESH = ("--whole-file", "--inplace")
# On a root that is kept its fstab is kept too, and what else is the node's own: bareon changes only its lines in it.
# The first rule that fits decides, so they come before those of the input.
_KEPT_ROOT = tuple(f"--exclude={path}" for path in of_node())


class Rsync(DeployDriver):
    """``--deploy_driver rsync``."""

    def requires(self, job: Job) -> Sequence[str]:
        return rsync.PROGRAMS

    def validate(self, job: Job) -> None:
        defects = [
            Defect("$.image_deploy_flags.rsync_flags", f"{flag!r} is not allowed here")
            for flag in rsync.refused(job.deployment.rsync_flags)
        ]
        kept = [x for fs in job.layout.filesystems() for x in fs.mounts if x.kept and x.point != SWAP]
        if kept and any(flag.startswith("--delete") for flag in job.deployment.rsync_flags):
            message = f"--delete would remove files from {kept[0].point}, which is kept"
            defects.append(Defect("$.image_deploy_flags.rsync_flags", message))
        defects += [
            Defect(
                f"{fs.path}.file_system", f"vfat keeps no owners, modes and links, which a system needs at {x.point}"
            )
            for fs in job.deployment.filesystems()
            for x in fs.mounts
            if fs.type == "vfat" and x.point in ("/", "/usr", "/var")
        ]
        for image in job.deployment.images:
            if not is_daemon(image.url):
                wanted = "write rsync://HOST[:PORT]/MODULE[/PATH] or HOST::MODULE"
                message = f"{str(image.url)!r} is no rsync daemon: {wanted}"
                defects.append(Defect(f"{image.path}.image_pull_url", message))
            elif _PASSWORD.match(image.url.reveal()):
                message = "rsync takes no password in a URL, and would show it to every user of the machine"
                defects.append(Defect(f"{image.path}.image_pull_url", message))
            if image.digest or image.disk_format:
                key = "image_os_hash_value" if image.digest else "image_disk_format"
                message = "a tree of files has none; remove it, or use --deploy_driver swift"
                defects.append(Defect(f"{image.path}.{key}", message))
        if defects:
            raise InvalidInput(defects)

    def fetch(self, image: Image, job: Job) -> Sequence[Step]:
        mounts = job.layout.tree(image.system)
        flags = flags_for(image, mounts, job.deployment.rsync_flags, clean=job.layout.policy == "clean")
        return [FetchTree(CopyImage.name, image, mounts, flags, job.settings)]


def is_daemon(location: Location) -> bool:
    """True if rsync can only take it for a module of a daemon, never for an option or a path."""
    return _DAEMON.fullmatch(location.reveal()) is not None


def flags_for(
    image: Image, mounts: Sequence[Mounted], asked: Sequence[str], *, clean: bool = False
) -> tuple[str, ...]:
    """The options for rsync: those ``asked`` for, and what these file systems need.

    :param clean: the policy, under which what an earlier stage made is kept, and nobody's.
    """
    kept = _KEPT_ROOT if mounts[0].kept and image.target == "/" and not clean else ()
    return (*kept, *asked, *_ALWAYS, *(_FRESH if _all_fresh(mounts) else ()))


def _all_fresh(mounts: Sequence[Mounted]) -> bool:
    return not any(mount.kept for mount in mounts)


@dataclass(frozen=True)
class FetchTree(Step):
    """Bring the files of one image onto its mounted volumes."""

    image: Image
    mounts: tuple[Mounted, ...]
    flags: tuple[str, ...]
    settings: TransferSettings

    @property
    def url(self) -> str:
        """The source as rsync takes it: with a slash at its end it means the content of the folder."""
        return self.image.url.reveal().rstrip("/") + "/"

    @property
    def description(self) -> str:
        return f"Copy image {self.image.name!r} from {self.image.url} to {self.image.target}"

    def preflight(self) -> None:
        """Ask for the list of what would come.

        On what is kept only its top folder: comparing with what is there is the transfer itself.
        """
        fresh = _all_fresh(self.mounts)
        with tempfile.TemporaryDirectory(prefix="bareon-") as empty:
            flags = self.flags if fresh else (*self.flags, "--no-recursive", "--dirs")
            try:
                found = self._persistently(lambda: rsync.listing(self.url, flags, empty))
            except CommandError as error:
                raise ImageFailed(f"image {self.image.name!r} cannot be fetched: {rsync.reason(error)}") from error
        if not found:
            raise ImageFailed(f"image {self.image.name!r}: there is nothing at {self.image.url}")
        if fresh and not any(x == "--sparse" or re.fullmatch("-[A-Za-z]*S[A-Za-z]*", x) for x in self.flags):
            self._check_fit(found)

    def _persistently(self, transfer: Callable[[], T]) -> T:
        """The transfer's result; it is begun again where rsync's exit code says that the connection was to blame.

        What has arrived stays, so that each attempt goes on where the one before ended.
        """
        from bareon.transfer.deadline import retrying

        again = retrying(
            self.settings,
            lambda error: isinstance(error, CommandError) and error.code in rsync.TRANSIENT,
            lambda _, number: LOG.warning("image %s: attempt %d failed, trying again", self.image.name, number),
        )
        return again(transfer)

    def _check_fit(self, listing: Sequence[tuple[str, int]]) -> None:
        """Compare the plain sum of file sizes with each volume: what fails this could never fit."""
        need: Counter[Mounted] = Counter()
        for path, size in listing:
            inside = os.path.normpath(f"{self.image.target}/{path}")
            need[holder(inside, self.mounts)] += size
        reasons = [
            f"image {self.image.name!r} has {mib(size)} for {fs.point}, and {fs.device} holds {mib(fs.size)}"
            for fs, size in need.items()
            if size > fs.size
        ]
        if reasons:
            raise UnsuitableNode(*reasons)

    def run(self, progress: Progress) -> Outcome:
        attempts: list[rsync.Progress] = []

        def transfer() -> None:
            attempts.append(brought := rsync.Progress())
            rsync.copy(self.url, self.flags, target, lambda line: progress(*brought.read(line)))

        with mounted_tree(self.mounts) as tree:
            target = tree.folder(self.image.target)
            try:
                self._persistently(transfer)
            except CommandError as error:
                self._explain(error, tree.root)
            for fs in self.mounts:
                self._write_back(fs, tree.root)
        return {
            "bytes": sum(attempt.bytes for attempt in attempts),
            "files": sum(attempt.files for attempt in attempts),
            "attempts": len(attempts),
        }

    def _write_back(self, fs: Mounted, root: str) -> None:
        """Bring a file system to its disk here, so that the time it takes and its errors belong to this step."""
        try:
            mount.write_back(root + fs.point)
        except CommandError as error:
            reason = f"{fs.device} for {fs.point}: {rsync.reason(error)}"
            raise ActionFailed(f"image {self.image.name!r} cannot be written: {reason}") from error

    def _explain(self, error: CommandError, root: str) -> None:
        """Say what an exit code of rsync means for this deployment.

        :raises ActionFailed: when a file system is full, or its disk does not take what is written.
        :raises ImageFailed: otherwise.
        """
        for fs in self.mounts:
            if mount.is_full(root + fs.point):
                raise ActionFailed(
                    f"{fs.device} ({mib(fs.size)}) for {fs.point} is full, image {self.image.name!r} does not fit"
                ) from error
        if rsync.is_local(error):
            raise ActionFailed(f"image {self.image.name!r} cannot be written: {rsync.reason(error)}") from error
        if error.code in (rsync.PARTIAL, rsync.VANISHED):
            raise ImageFailed(f"image {self.image.name!r} did not arrive whole: {rsync.reason(error)}") from error
        raise ImageFailed(f"image {self.image.name!r} cannot be fetched: {rsync.reason(error)}") from error

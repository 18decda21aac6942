# SPDX-License-Identifier: Apache-2.0
"""Images as trees of files from an rsync daemon, spread over all volumes of the image.

Each volume gets an rsync of its own: what cannot be on two volumes, such as the names of a hard-linked file, is then
never asked for, and a volume that can hold less than others is brought less.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bareon.actions.base import COPY_IMAGE, Job
from bareon.drivers.deploy import fitness, vfat
from bareon.drivers.deploy.early import LARGEST, EarlyFiles
from bareon.drivers.deploy.fitness import unfit_for_trees
from bareon.drivers.deploy.kind import Kind, OfKinds
from bareon.drivers.deploy.listing import Share, Survey, listed
from bareon.drivers.deploy.overlap import Neighbour, common, neighbours, overlaps, paths
from bareon.drivers.deploy.placing import of_the_node
from bareon.drivers.deploy.reader import readers
from bareon.errors import ActionFailed, CommandError, Defect, ImageFailed, InvalidInput
from bareon.model.deployment import Deployment
from bareon.model.image import Early, Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.run import missing
from bareon.sizes import mib
from bareon.step import Outcome, Progress, Step
from bareon.storage.filesystem import SWAP, Mounted
from bareon.storage.reader import Reader
from bareon.system.tree import Tree, holds, mounted_tree
from bareon.tools import mount, rsync

LOG = logging.getLogger(__name__)
T = TypeVar("T")

# Its host may become a word of RSYNC_CONNECT_PROG, which a shell reads.
_HOST = r"[A-Za-z0-9._][A-Za-z0-9._-]*"
_DAEMON = re.compile(
    rf"rsync://([^/@]*@)?(\[[0-9A-Fa-f:.]+\]|{_HOST})(:[0-9]{{1,5}})?/.+|(?!-)([^/@:]*@)?{_HOST}::.+"
)
_PASSWORD = re.compile(r"rsync://[^/@]*:[^/]*@")

# Paths that are left to other images go to rsync one by one.
_MOST_TAKEN = 2000

_FLAGS = "$.image_deploy_flags.rsync_flags"
_REPLACING = "--force in rsync_flags replaces folders with something in them by what the image has there"

# Owners are those of the image, whatever the ramdisk's user table says; hard links stay hard links.
_ALWAYS = ("--numeric-ids", "--hard-links")
# On a file system just made there is nothing to compare with.
_FRESH = ("--whole-file", "--inplace")
# Where files are compared the whole list comes before the first of them: folder by folder costs a seventh more of the
# processor, and may fetch a hard link though another name of its file is there. A million files take some 100 MiB.
_COMPARED = ("--no-inc-recursive",)


class Daemon(Kind):
    """Trees of files from rsync daemons."""

    name = "rsync"
    title = "tree of files on an rsync daemon"
    forms = "rsync://HOST[:PORT]/MODULE[/PATH] or HOST::MODULE"

    def takes(self, location: Location) -> bool:
        return location.scheme == "rsync"

    def readers(self, image: Image, deployment: Deployment, settings: TransferSettings) -> tuple[Reader, ...]:
        asked = rsync.joined(deployment.rsync_flags)
        whole = image.target == "/" and all(is_daemon(x) for x in (image.url, *image.url.mirrors))
        if not whole or rsync.refused(asked) or missing(rsync.PROGRAMS):
            return ()  # the rest is said, or refused, later
        return readers(FetchTree(COPY_IMAGE, image, (), asked, settings))

    def held(self, image: Image, settings: TransferSettings) -> Iterator[str]:
        return iter(())

    def requires(self, images: Sequence[Image], job: Job) -> Sequence[str]:
        return rsync.PROGRAMS

    def unfit(self, images: Sequence[Image], deployment: Deployment) -> Iterator[Defect]:
        for flag in rsync.refused(_asked(deployment)):
            yield Defect(_FLAGS, f"{flag!r} is not allowed here")
        yield from unfit_for_trees(images, deployment)
        for image in images:
            for url in (image.url, *image.url.mirrors):
                if not is_daemon(url):
                    message = f"{str(url)!r} is no rsync daemon: write {self.forms}"
                    yield Defect(f"{image.path}.image_pull_url", message)
                elif _PASSWORD.match(url.reveal()):
                    message = "rsync takes no password in a URL, and would show it to every user of the machine"
                    yield Defect(f"{image.path}.image_pull_url", message)
            of_files = {
                "image_os_hash_value": image.digest,
                "image_disk_format": image.disk_format,
                "image_checksums_url": image.checksums_url,
                "image_signature_url": image.signature_url,
            }
            message = "a tree of files has none on a daemon; remove it, or serve the image as one file"
            yield from (Defect(f"{image.path}.{key}", message) for key, value in of_files.items() if value)

    def defects(self, images: Sequence[Image], job: Job) -> Iterator[Defect]:
        for message in (*_left_empty(images, job), *_deleted(job)):
            yield Defect(_FLAGS, message)
        if job.settings.keyring or job.settings.cosign_key:
            option = "--image_keyring" if job.settings.keyring else "--image_cosign_key"
            message = f"a tree of files from rsync has no signature, and {option} wants one of every image"
            yield from (Defect(image.path, message) for image in images)

    def fetch(self, image: Image, alike: Sequence[Image], job: Job) -> Sequence[Step]:
        if rsync.changes_nothing(_asked(job.deployment)):
            return [LeaveTree(COPY_IMAGE, image)]
        mounts = job.layout.tree(image.system)
        clean = job.layout.policy == "clean"
        around = tuple(neighbours(job.layout, job.deployment.images, image))
        beside = tuple(x for x in around if x.image in alike)
        after = frozenset(x.point for x in around if x.image not in alike)
        return [FetchTree(COPY_IMAGE, image, mounts, _asked(job.deployment), job.settings, clean, beside, after)]

    def early(self, image: Image, job: Job) -> Early | None:
        asked = _asked(job.deployment)
        if rsync.changes_nothing(asked):
            return None  # what will start is there already
        return EarlyFiles(FetchTree(COPY_IMAGE, image, (), asked, job.settings))


class Rsync(OfKinds):
    """``--deploy_driver rsync``."""

    kinds = (Daemon(),)


def is_daemon(location: Location) -> bool:
    """True if rsync can only take it for a module of a daemon, never for an option or a path."""
    return _DAEMON.fullmatch(location.reveal()) is not None


def _asked(deployment: Deployment) -> tuple[str, ...]:
    """The options for rsync that the input asks for."""
    return rsync.joined(deployment.rsync_flags)


def _left_empty(images: Sequence[Image], job: Job) -> Iterator[str]:
    """Why ``--dry-run`` is refused, where it would leave a volume without its image."""
    if rsync.changes_nothing(_asked(job.deployment)):
        for image in images:
            made = (x for x in job.layout.tree(image.system) if not x.kept and holds(image.target, x.point))
            for mount in list(made)[:1]:
                place = f"{mount.point}, which is made anew"
                yield f"--dry-run would bring nothing of image {image.name!r} to {place}: keep its data, or remove it"


def _deleted(job: Job) -> list[str]:
    """Why ``--delete`` is refused, where it is asked for and would reach what the image did not bring."""
    if not any(flag.startswith("--delete") for flag in job.deployment.rsync_flags):
        return []
    kept = [x for fs in job.layout.filesystems() for x in fs.mounts if x.kept and x.point != SWAP]
    found = [f"--delete would remove files from {x.point}, which is kept" for x in kept[:1]]
    return found + [
        f"--delete would remove from {folder}, with image {second.name!r}, what image {first.name!r} brought there"
        for first, second, folder in overlaps(job.layout, job.deployment.images)
    ]


def _source(location: Location) -> str:
    """The source as rsync takes it: with a slash at its end it means the content of the folder."""
    # With --relative, the first /./ of all is where the names begin that the other side sees.
    return re.sub(r"/(\./)+", "/", location.reveal()).rstrip("/") + "/"


def flags_for(
    image: Image, share: Share, asked: Sequence[str], *, clean: bool = False, after: Collection[str] = ()
) -> tuple[str, ...]:
    """The options for rsync to bring a share: those ``asked`` for, and what its file system needs.

    :param clean: the policy, under which what an earlier stage made is kept, and nobody's.
    :param after: mount points whose files stay as they are, since an image before this one brought them.
    """
    # On what is kept its fstab is kept too, and what else is the node's own: bareon changes only its lines in it.
    # The first rule that fits decides, so they come before those of the input.
    own = of_the_node(image.target) if share.mount.kept and not clean else ()
    kept = [f"--exclude={path}" for path in own if holds(share.mount.point, path)]
    apart = [f"--exclude=/{rsync.literal(folder)}" for folder in share.apart]
    speed = _COMPARED if share.mount.kept else _FRESH
    # A file that is half there after a broken connection must not pass for one that is there.
    stay = ("--ignore-existing", "--no-inplace") if share.mount.point in after else ()
    return (*apart, *kept, *asked, *_ALWAYS, *speed, *stay, *(vfat.FLAGS if share.lost else ()))


@dataclass(frozen=True)
class LeaveTree(Step):
    """A step that leaves the files of an image as they are, since a trial without changes was asked for."""

    image: Image

    @property
    def description(self) -> str:
        return f"Leave the files of image {self.image.name!r} as they are, as --dry-run in rsync_flags asks"

    def run(self, progress: Progress) -> Outcome:
        return {}


@dataclass(frozen=True)
class FetchTree(Step):
    """Bring the files of one image onto its mounted volumes.

    ``beside`` are images of this kind that are brought earlier to a volume of both; ``after`` the mount points to
    which images of other kinds are, whose files cannot be listed.
    """

    image: Image
    mounts: tuple[Mounted, ...]
    asked: tuple[str, ...]
    settings: TransferSettings
    clean: bool = False
    beside: tuple[Neighbour, ...] = ()
    after: frozenset[str] = frozenset()

    @property
    def description(self) -> str:
        return f"Copy image {self.image.name!r} from {self.image.url} to {self.image.target}"

    def preflight(self) -> None:
        """Ask for the list of what would come, and for all that it tells."""
        survey = self._survey
        if not survey.entries:
            raise ImageFailed(f"image {self.image.name!r}: there is nothing at {self.image.url}")
        sparse = any(x == "--sparse" or re.fullmatch("-[A-Za-z]*S[A-Za-z]*", x) for x in self.asked)
        fitness.judge(self.image.name, survey, sparse=sparse)
        if len(self._taken) > _MOST_TAKEN:
            message = f"{len(self._taken)} files are another image's too, on a volume of both: {listed(self._taken)}"
            raise InvalidInput([Defect(self.image.path, message)])
        for note in survey.notes():
            LOG.warning("image %s: %s", self.image.name, note)

    @functools.cached_property
    def _taken(self) -> list[str]:
        """The paths that an image before this one brings to a volume of both; they stay that one's."""

        def looked_up(image: Image, point: str) -> dict[str, bool]:
            try:
                return self._anywhere(image, lambda url: paths(url, image.target, point, self.asked))
            except CommandError as error:
                raise self._not_fetched(error) from error

        there = {share.mount.point for share in self._survey.shares if share.present and not share.mount.left}
        beside = [x for x in self.beside if x.point in there]
        found = [common(looked_up(x.image, x.point), looked_up(self.image, x.point)) for x in beside]
        return sorted({path for taken in found for path in taken})

    @property
    def _survey(self) -> Survey:
        return self._listed[1]

    @functools.cached_property
    def _listed(self) -> tuple[str, Survey]:
        """The daemon that answers, as rsync takes it, and what its list says.

        Looked up by ``preflight`` and kept with the step, as that returns nothing. Of an image on a single volume
        that is kept only its top folder is asked for: comparing with what is there is the transfer itself.
        """

        def surveyed(url: str) -> tuple[str, Survey]:
            survey = Survey(self.image.target, self.mounts)
            first = survey.shares[0]
            whole = len(survey.shares) > 1 or not first.mount.kept or first.lost
            flags = (*self.asked, *_ALWAYS, *(() if whole else ("--no-recursive", "--dirs")))
            with tempfile.TemporaryDirectory(prefix="bareon-") as empty:
                rsync.listing(url, flags, empty, survey.take)
            return url, survey

        try:
            return self._anywhere(self.image, surveyed)
        except CommandError as error:
            raise self._not_fetched(error) from error

    def some(self, filters: Sequence[str], paths: Sequence[str], folder: str) -> None:
        """Bring single files into a folder of the ramdisk.

        :raises ImageFailed: when the server cannot be reached, or refuses.
        """
        try:
            self._anywhere(self.image, lambda url: rsync.some(url, filters, paths, LARGEST, folder))
        except CommandError as error:
            raise self._not_fetched(error) from error

    def contents(self, paths: Sequence[str], take: Callable[[rsync.Entry], None]) -> None:
        """Tell ``take`` of what lies in some folders of the image, and of the folders on the way to them.

        :param paths: absolute in the tree of the image.
        :raises ImageFailed: when the server cannot be reached, or refuses.
        """

        def listed(url: str) -> None:
            with tempfile.TemporaryDirectory(prefix="bareon-") as empty:
                rsync.contents(url, self.filters, paths, empty, take)

        try:
            self._anywhere(self.image, listed)
        except CommandError as error:
            raise self._not_fetched(error) from error

    @property
    def filters(self) -> list[str]:
        """Those of the options that leave files out."""
        return [x for x in self.asked if x.startswith(("--exclude=", "--include="))]

    def _anywhere(self, image: Image, transfer: Callable[[str], T]) -> T:
        """The result from the first of an image's daemons that gives one."""
        *others, last = (_source(x) for x in (image.url, *image.url.mirrors))
        for url in others:
            try:
                return self._persistently(functools.partial(transfer, url), self.settings.hasty())
            except CommandError as error:
                LOG.warning("image %s: %s; asking its next mirror", image.name, self._not_fetched(error))
        return self._persistently(functools.partial(transfer, last), self.settings)

    def _persistently(self, transfer: Callable[[], T], settings: TransferSettings) -> T:
        """The transfer's result; it is begun again where rsync says that the connection was to blame, or "later".

        What has arrived stays, so that each attempt goes on where the one before ended.
        """
        from bareon.transfer.deadline import retrying

        again = retrying(
            settings,
            lambda error: isinstance(error, CommandError) and rsync.is_transient(error),
            lambda _, number: LOG.warning("image %s: attempt %d failed, trying again", self.image.name, number),
            later=lambda error: isinstance(error, CommandError) and rsync.is_full(error),
        )
        return again(transfer)

    def run(self, progress: Progress) -> Outcome:
        survey, attempts, left = self._survey, list[rsync.Progress](), list[str]()
        with mounted_tree(self.mounts) as tree:
            tree.folder(self.image.target)
            for share in survey.shares:
                if share.present and not share.mount.left:
                    self._bring(share, tree, attempts, progress)
                    left += vfat.replace_links(share.lost.links, share.mount.point, tree) if share.lost else []
            for fs in (x for x in self.mounts if not x.left):
                self._write_back(fs, tree)
        return {
            "bytes": sum(attempt.bytes for attempt in attempts),
            "files": sum(attempt.files for attempt in attempts),
            "attempts": len(attempts) - sum(share.present and not share.mount.left for share in survey.shares) + 1,
            **({"hard links that became copies": str(survey.torn)} if survey.torn else {}),
            **({"links left out of vfat": listed(left)} if left else {}),
            **({"left to other images": listed(self._taken)} if self._taken else {}),
            **survey.left_out(),
        }

    def _bring(self, share: Share, tree: Tree, attempts: list[rsync.Progress], progress: Progress) -> None:
        """Bring one share, and say what became of the attempts."""
        taken = [os.path.relpath(x, self.image.target) for x in self._taken if holds(share.mount.point, x)]
        flags = flags_for(self.image, share, self.asked, clean=self.clean, after=self.after)
        flags = (*(f"--exclude=/{rsync.literal(x)}" for x in taken), *flags)
        url, target = self._listed[0], tree.folder(self.image.target)
        if share.folder:
            # Named so, the folder itself comes too, and patterns of the input mean what they mean for the whole tree.
            flags = (*flags, "--relative", "--no-implied-dirs")
            url = f"{url}./{rsync.literal(share.folder)}/"
        before = sum(attempt.bytes for attempt in attempts)
        shares = self._survey.shares
        after = sum(x.bytes for x in shares[shares.index(share) + 1 :] if not x.mount.kept)

        def transfer() -> None:
            attempts.append(brought := rsync.Progress())

            def tell(line: str) -> None:
                done, total = brought.read(line)
                progress(before + done, None if total is None else before + total + after)

            rsync.copy(url, flags, target, tell)

        try:
            self._persistently(transfer, self.settings)
        except CommandError as error:
            self._explain(error, tree)

    def _write_back(self, fs: Mounted, tree: Tree) -> None:
        """Bring a file system to its disk here, so that the time it takes and its errors belong to this step."""
        try:
            mount.write_back(tree.folder(fs.point))
        except CommandError as error:
            reason = f"{fs.device} for {fs.point}: {rsync.reason(error)}"
            raise ActionFailed(f"image {self.image.name!r} cannot be written: {reason}") from error

    def _explain(self, error: CommandError, tree: Tree) -> None:
        """Say what an exit code of rsync means for this deployment.

        :raises ActionFailed: when a file system is full, or its disk does not take what is written.
        :raises ImageFailed: otherwise.
        """
        for fs in self.mounts:
            if lacking := tree.lacks(fs.point):
                raise ActionFailed(
                    f"{fs.device} ({mib(fs.size)}) for {fs.point} has no {lacking} left, "
                    f"image {self.image.name!r} does not fit"
                ) from error
        if rsync.is_local(error):
            remedy = f"; {_REPLACING}" if rsync.is_in_the_way(error) else ""
            reason = f"{rsync.reason(error)}{remedy}"
            raise ActionFailed(f"image {self.image.name!r} cannot be written: {reason}") from error
        if error.code in (rsync.PARTIAL, rsync.VANISHED):
            raise ImageFailed(f"image {self.image.name!r} did not arrive whole: {rsync.reason(error)}") from error
        raise self._not_fetched(error) from error

    def _not_fetched(self, error: CommandError) -> ImageFailed:
        who = rsync.culprit(error)
        reason = f"{who}: {rsync.reason(error)}" if who else rsync.reason(error)
        return ImageFailed(f"image {self.image.name!r} cannot be fetched: {reason}")

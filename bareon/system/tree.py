# SPDX-License-Identifier: Apache-2.0
"""Files inside a deployed tree. A link inside an image never leads a write of bareon's outside of it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO

from bareon.atomic import linked_in, replacing_in
from bareon.errors import ActionFailed
from bareon.sizes import MIB, human
from bareon.storage.filesystem import SWAP, TYPES, Mounted
from bareon.system import metadata
from bareon.system.lookup import Entry, below, looked_up, names
from bareon.tools import blkid
from bareon.tools.mount import attach, lacks, mounted

ROOT = "/run/bareon/target"
DEPLOYED = "the deployed system"
#: Bytes of a file that is read whole: no image shall fill the ramdisk's memory with a sparse one.
LARGEST = 16 * MIB
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextlib.contextmanager
def mounted_tree(
    mounts: Sequence[Mounted], *, root: str = ROOT, writing: Sequence[str] | None = None, name: str = DEPLOYED
) -> Iterator[Tree]:
    """Mount the file systems of an image, parents first, for the length of a ``with`` block.

    :param mounts: in the order of :meth:`Layout.tree`. Where none of them is mounted at ``/``, that is an empty
        folder of the ramdisk.
        In the place of a file system that is left there is an empty folder, to which nobody can write.
    :param writing: the files or folders that will be written: what is kept and holds none of them is mounted
        read-only, for not even a time stamp of it is to change.
    :param name: says whose tree it is, in errors.
    """
    Path(root).mkdir(parents=True, exist_ok=True)
    root = os.path.realpath(root)  # /run of a ramdisk may be a link; the kernel tells of mounts by what it leads to
    tree = Tree(root, actual(mounts), name=name)
    with contextlib.ExitStack() as stack:
        whole = False
        for mount in tree.mounts:
            point = root if mount.point == "/" else tree.folder(mount.point)
            used = writing is None or not mount.kept or any(holds(mount.point, x) for x in writing)
            options = ",".join([*mount.flags, *([] if used else ["ro"])]) or None
            source, kind = mount.device, mount.type
            if mount.left:
                source, kind, options = "bareon", "tmpfs", "ro,size=4k"
            if whole:  # goes with its root, found by no path: a program of the image may have moved the folder
                attach(source, point, kind=kind, options=options)
            else:
                stack.enter_context(mounted(source, point, kind=kind, options=options))
            whole = whole or mount.point == "/"
        yield tree


def actual(mounts: Iterable[Mounted]) -> tuple[Mounted, ...]:
    """The mounts with type and UUID as they are on the devices.

    Only those of an image's own, and of what could not be looked at before it was opened, can be other than decided.

    :raises ActionFailed: naming a device without a file system, as where an image was not brought yet; or with
        another one than it was to keep.
    """
    return tuple(_found(x) if x.filesystem.wanted.from_image or x.filesystem.unseen else x for x in mounts)


def _found(mount: Mounted) -> Mounted:
    tags = blkid.probe([mount.device]).get(mount.device, {})
    kind = tags.get("TYPE", "no file system")
    if mount.filesystem.unseen and not mount.filesystem.wanted.from_image:
        if kind != mount.type:
            raise ActionFailed(f"{mount.device}: expected {mount.type}, found {kind}")
        return replace(mount, filesystem=replace(mount.filesystem, uuid=tags.get("UUID", mount.uuid), unseen=False))
    if kind not in TYPES or kind == SWAP:
        raise ActionFailed(f"{mount.device} for {mount.point} holds {kind}: no image was written to it")
    found = replace(mount.filesystem, type=kind, uuid=tags.get("UUID", mount.uuid))
    return replace(mount, filesystem=found)


def holder(path: str, mounts: Sequence[Mounted]) -> Mounted:
    """The one of the mounts that a path of the deployed system lies on."""
    fitting = [mount for mount in mounts if holds(mount.point, path)]
    return max(fitting, key=lambda mount: len(mount.point))


def holds(folder: str, path: str) -> bool:
    """True if a path of the deployed system lies in a folder of it, or is that folder."""
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


class Tree:
    """A tree of files below ``root``, on ``mounts``. All paths are absolute inside it.

    Its names, links and special files are a stranger's. What reads follows links, as the deployed system would; what
    writes follows none. ``name`` says whose tree it is, in errors.
    """

    def __init__(self, root: str, mounts: tuple[Mounted, ...] = (), *, name: str = DEPLOYED) -> None:
        self.root = root
        self.mounts = mounts
        self.name = name

    def outside(self, path: str) -> str:
        """The path as programs of the ramdisk see it. Nothing here opens it: it may lead through a link."""
        return f"{self.root}/{path.lstrip('/')}"

    def folder(self, path: str) -> str:
        """Make the folder where it is missing, and return the path of it as the ramdisk sees it.

        :raises ActionFailed: when a part of it is a link or no folder.
        """
        os.close(self._folder(path))
        return self.outside(path)

    def status(self, path: str) -> os.stat_result | None:
        """Size, mode and times of a regular file; ``None`` where there is none."""
        with self._found(path, stat.S_ISREG) as found:
            return os.fstat(found.fd) if found else None

    def has(self, path: str) -> bool:
        """True if there is anything at a path, a link as such too."""
        place = PurePosixPath(path)
        with self._found(str(place.parent), stat.S_ISDIR) as folder:
            return folder is not None and _mode_at(place.name, folder.fd) is not None

    def is_file(self, path: str) -> bool:
        """True if there is a regular file, links followed inside the tree only."""
        return self.status(path) is not None

    def loads(self, path: str, mount: Mounted) -> bool:
        """True if a boot loader that reads the file system of a mount finds a regular file there.

        It knows no other file system: links lead nowhere else, and absolute ones begin at the top of this one.

        :param path: absolute in the file system.
        """
        own = self.outside(mount.point)
        with self._saying("read", path), looked_up(own, "/") as top, looked_up(own, path) as found:
            if not (top and found and stat.S_ISREG(found.mode)):
                return False
            # A subvolume of btrfs has a device number of its own, and GRUB goes into it.
            return mount.type == "btrfs" or os.fstat(found.fd).st_dev == os.fstat(top.fd).st_dev

    def end(self, path: str) -> str | None:
        """The path without links of a regular file, as the deployed system would resolve them."""
        with self._found(path, stat.S_ISREG) as found:
            return str(found.path) if found else None

    def real(self, path: str) -> str:
        """The path without links in its folder, as the deployed system would resolve them; for writing there."""
        place = PurePosixPath(path)
        with self._found(str(place.parent), stat.S_ISDIR) as folder:
            return str(folder.path / place.name) if folder else path

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none where it does not exist.

        :raises ActionFailed: when there are more than any system has.
        """
        with self._found(folder, stat.S_ISDIR) as found:
            return names(found) if found else []

    def lacks(self, folder: str) -> str | None:
        """What the file system of a folder has none left of; see :func:`bareon.tools.mount.lacks`.

        It is asked for the reason of a failure: ``None`` also where the file system cannot be read any more, as that
        of a disk that has failed.
        """
        try:
            with self._found(folder, stat.S_ISDIR) as found:
                return lacks(found.fd) if found else None
        except ActionFailed:
            return None

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[IO[bytes] | None]:
        """A regular file, open for reading; ``None`` where there is none. It may have any size.

        :raises ActionFailed: when it cannot be read, from the ``with`` block too.
        """
        with self._found(path, stat.S_ISREG) as found:
            if found:
                with os.fdopen(found.open(), "rb") as file:
                    yield file
            else:
                yield None

    def read(self, path: str) -> str | None:
        """The text of a regular file as it is, ``None`` where there is none.

        :raises ActionFailed: when it is too large to be the configuration that is looked for.
        """
        content = self.content(path)
        return None if content is None else content.decode(errors="surrogateescape")

    def content(self, path: str, at_most: int = LARGEST) -> bytes | None:
        """The bytes of a regular file, ``None`` where there is none.

        :raises ActionFailed: when it is larger than ``at_most`` bytes.
        """
        with self.opened(path) as file:
            if file is None:
                return None
            content = file.read(at_most + 1)
            if len(content) > at_most:  # not what it says beforehand: it may grow
                size = human(os.fstat(file.fileno()).st_size)
                raise ActionFailed(f"{path} of {self.name} has {size}; at most {human(at_most)} are read")
        return content

    def same(self, path: str, other: str) -> bool:
        """True if both are regular files with the same content."""
        with self.opened(path) as one, self.opened(other) as two:
            if not one or not two or os.fstat(one.fileno()).st_size != os.fstat(two.fileno()).st_size:
                return False
            while (piece := one.read(MIB)) == two.read(MIB):
                if not piece:
                    return True
            return False

    def write(self, path: str, text: str, mode: int | None = None) -> None:
        """Replace the file as a whole; a link or special file in its place is replaced, never followed.

        Owner, mode, ACL and label stay as they are, and a new file gets the label of its folder.

        :param mode: the one that it gets in any case; without it, a new file gets 0644.
        :raises ActionFailed: when a part of the path is a link or no folder, or the file system is full.
        """
        with self._replacing(path, mode) as file:
            file.write(text.encode(errors="surrogateescape"))

    def write_private(self, path: str, text: str) -> None:
        """Replace the file, as :meth:`write` does, by one that nobody else may read: of an old one nothing is kept.

        :raises ActionFailed: as :meth:`write`.
        """
        with self.writing_private(path) as file:
            file.write(text.encode(errors="surrogateescape"))

    @contextlib.contextmanager
    def writing_private(self, path: str) -> Iterator[IO[bytes]]:
        """As :meth:`write_private`, by what is written in the ``with`` block.

        :raises ActionFailed: as :meth:`write`.
        """
        with self._changing("write", path) as (folder, name), replacing_in(folder, name, 0o600) as file:
            metadata.private(folder).give(file.fileno())
            yield file

    def copy(self, source: str, path: str, of: Tree | None = None) -> None:
        """Replace the file ``path``, as :meth:`write` does, by a copy of a regular file, with its times.

        :param of: the tree in which ``source`` is, where that is another one.
        """
        with (of or self).opened(source) as file, self._replacing(path) as target:
            if file is None:
                raise OSError(errno.ENOENT, f"{source} is no file")
            found = os.fstat(file.fileno())
            left = found.st_size  # of a file that may grow
            while piece := file.read(min(left, MIB)):
                left -= target.write(piece)
            target.flush()
            os.utime(target.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))

    def scratch(self, folder: str) -> int:
        """A descriptor of an empty file without a name, on the file system of a folder; it goes when it is closed.

        :raises ActionFailed: when there can be none.
        """
        with self._saying("write to", folder):
            place = self._folder(folder)
            try:
                return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=place)
            finally:
                os.close(place)

    @contextlib.contextmanager
    def same_times(self, folder: str) -> Iterator[None]:
        """Give a folder its times back after the ``with`` block; it is made where it is missing."""
        descriptor = self._folder(folder)
        try:
            found = os.fstat(descriptor)
            yield
            with self._saying("set the time of", folder):
                os.utime(descriptor, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(descriptor)

    def link(self, path: str, target: str) -> None:
        """Replace the file, as :meth:`write` does, by a symbolic link to ``target``."""
        with self._changing("write", path) as (folder, name):
            linked_in(folder, name, target)

    def remove(self, path: str) -> None:
        """Remove the file, or the link to it; nothing where there is none.

        :raises ActionFailed: when a part of the path is a link or no folder, or it cannot be removed.
        """
        with self._changing("remove", path) as (folder, name), contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)

    def remove_folder(self, path: str) -> None:
        """Remove a folder; it stays where something is in it, or mounted there.

        :raises ActionFailed: when a part of the path is a link or no folder, or it cannot be removed.
        """
        with self._changing("remove", path) as (folder, name):
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                    raise

    def refuse_links(self, path: str) -> None:
        """Refuse links below ``path``, through which a program of the ramdisk could write outside of the tree.

        :raises ActionFailed: naming a link there.
        """
        with self._saying("look through", path), contextlib.closing(self._below(path)) as found:
            special = next((x.path for x, _ in found if not (stat.S_ISDIR(x.mode) or stat.S_ISREG(x.mode))), None)
        if special:
            raise ActionFailed(f"{special} in {self.name} is a link or special file: {path} is not safe")

    def is_labelled(self, path: str) -> bool:
        """True if a regular file has a label of SELinux."""
        with self._found(path, stat.S_ISREG) as found:
            return found is not None and bool(metadata.label(found.name))

    def give_labels(self, path: str) -> None:
        """Give what has no label of SELinux, in a folder and those in it, that of its folder, if that has one.

        :raises ActionFailed: when that cannot be done, or there are more names than any system has.
        """
        with self._saying("give labels in", path), contextlib.closing(self._below(path)) as found:
            for entry, folder in found:
                regular = stat.S_ISDIR(entry.mode) or stat.S_ISREG(entry.mode)
                if regular and not metadata.label(entry.name):
                    metadata.inherit(entry.name, folder.name)

    def _below(self, path: str) -> Generator[tuple[Entry, Entry]]:
        return below(self._folder(path), PurePosixPath(path))

    @contextlib.contextmanager
    def _found(self, path: str, kind: Callable[[int], bool]) -> Iterator[Entry | None]:
        with self._saying("read", path), looked_up(self.root, path) as found:
            yield found if found and kind(found.mode) else None

    @contextlib.contextmanager
    def _changing(self, what: str, path: str) -> Iterator[tuple[int, str]]:
        """The open folder of a file that is about to be changed, and its name there."""
        place = PurePosixPath(path)
        with contextlib.ExitStack() as stack:
            folder = self._folder(str(place.parent))
            stack.callback(os.close, folder)
            with self._saying(what, path):
                yield folder, place.name

    @contextlib.contextmanager
    def _replacing(self, path: str, mode: int | None = None) -> Iterator[IO[bytes]]:
        with self._changing("write", path) as (folder, name):
            kept = metadata.of(name, folder, mode)
            with replacing_in(folder, name, kept.mode) as file:
                kept.give(file.fileno())
                yield file

    @contextlib.contextmanager
    def _saying(self, what: str, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ActionFailed(f"cannot {what} {path} of {self.name}: {_reason(error)}") from error

    def _folder(self, path: str) -> int:
        """Open a folder, without following any link; it is made where it is missing."""
        current = os.open(self.root, _FOLDER)
        for part in PurePosixPath(path).parts[1:]:
            assert part != "..", path
            try:
                following = _made(part, current)
            except OSError as error:
                what = _kind_at(part, current)
                why = f"is {what}, a folder is needed" if what else f"cannot be made: {_reason(error)}"
                raise ActionFailed(f"{path} in {self.name}: {part!r} {why}") from error
            finally:
                os.close(current)
            current = following
        return current


def _made(name: str, folder: int) -> int:
    """A descriptor of a folder in another one, made where it is missing."""
    new = True
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
    except FileExistsError:
        new = False
    fd = os.open(name, _FOLDER, dir_fd=folder)
    if new:
        metadata.inherit(fd, folder)
    return fd


def _mode_at(name: str, folder: int) -> int | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError:
        return None


def _kind_at(name: str, folder: int) -> str | None:
    mode = _mode_at(name, folder)
    if mode is None:
        return None
    return "a link" if stat.S_ISLNK(mode) else None if stat.S_ISDIR(mode) else "no folder"


def _reason(error: OSError) -> str:
    """What an error of a change means."""
    if error.errno == errno.EISDIR and error.filename:
        return f"{error.filename2 or error.filename} is a folder"
    if error.errno == errno.EPERM:
        return f"{error.strerror}; lsattr(1) tells whether it, or its folder, is immutable"
    return str(error.strerror)

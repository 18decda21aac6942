# SPDX-License-Identifier: Apache-2.0
"""Files inside a deployed tree. A link inside an image never leads a write of bareon's outside of it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from bareon.errors import ActionFailed
from bareon.sizes import MIB, human
from bareon.storage.filesystem import LONGEST_NAME, SWAP, TYPES, Mounted
from bareon.tools import blkid
from bareon.tools.mount import mounted

ROOT = "/run/bareon/target"
#: Bytes of a file that is read whole: no image shall fill the ramdisk's memory with a sparse one.
LARGEST = 16 * MIB


@contextlib.contextmanager
def mounted_tree(
    mounts: Sequence[Mounted], *, root: str = ROOT, writing: Sequence[str] | None = None
) -> Iterator[Tree]:
    """Mount the file systems of an image, parents first, for the length of a ``with`` block.

    :param mounts: in the order of :meth:`Layout.tree`. Where none of them is mounted at ``/``, that is an empty
        folder of the ramdisk.
    :param writing: the files or folders that will be written: what is kept and holds none of them is mounted
        read-only, for not even a time stamp of it is to change.
    """
    Path(root).mkdir(parents=True, exist_ok=True)
    tree = Tree(root, actual(mounts))
    with contextlib.ExitStack() as stack:
        for mount in tree.mounts:
            point = root if mount.point == "/" else tree.folder(mount.point)
            used = writing is None or not mount.kept or any(holds(mount.point, x) for x in writing)
            options = None if used else "ro"
            stack.enter_context(mounted(mount.device, point, kind=mount.type, options=options))
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
    """A tree of files below ``root``, on ``mounts``. All paths are absolute inside it."""

    def __init__(self, root: str, mounts: tuple[Mounted, ...] = ()) -> None:
        self.root = root
        self.mounts = mounts

    def outside(self, path: str) -> str:
        """The path as the ramdisk sees it. Not safe to write to: it may lead through a link of the image."""
        return f"{self.root}/{path.lstrip('/')}"

    def folder(self, path: str) -> str:
        """Make the folder where it is missing, and return the path of it as the ramdisk sees it.

        :raises ActionFailed: when a part of it is a link or no folder.
        """
        os.close(self._open_folder(path, make=True))
        return self.outside(path)

    def is_file(self, path: str) -> bool:
        """True if there is a regular file, links followed inside the tree only."""
        return self.find(path) is not None

    def find(self, path: str) -> str | None:
        """The path of a regular file as the ramdisk sees it, links resolved as the deployed system would."""
        resolved = self._resolve(PurePosixPath(path))
        return resolved if resolved and Path(resolved).is_file() else None

    def real(self, path: str) -> str:
        """The path without links in its folder, as the deployed system would resolve them; for writing there."""
        place = PurePosixPath(path)
        folder = self._resolve(place.parent)
        return f"{folder.removeprefix(self.root).rstrip('/')}/{place.name}" if folder else path

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none where it does not exist."""
        resolved = self._resolve(PurePosixPath(folder))
        return (
            sorted(entry.name for entry in Path(resolved).iterdir()) if resolved and Path(resolved).is_dir() else []
        )

    def read(self, path: str) -> str | None:
        """The text of a regular file, ``None`` where there is none.

        :raises ActionFailed: when it is too large to be the configuration that is looked for.
        """
        found = self.find(path)
        if found and (size := Path(found).stat().st_size) > LARGEST:
            raise ActionFailed(f"{path} of the deployed system has {human(size)}; at most {human(LARGEST)} are read")
        return Path(found).read_text(errors="surrogateescape") if found else None

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Replace the file as a whole; a link or special file in its place is replaced, never followed.

        :raises ActionFailed: when a part of the path is a link or no folder, or the file system is full.
        """
        place = PurePosixPath(path)
        folder = self._open_folder(str(place.parent), make=True)
        temporary = f".{place.name}.bareon"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=folder)
            with os.fdopen(fd, "w", errors="surrogateescape") as file:
                os.fchmod(fd, mode)
                file.write(text)
                file.flush()
                os.fsync(fd)
            os.replace(temporary, place.name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            raise ActionFailed(f"cannot write {path} of the deployed system: {error.strerror}") from error
        finally:
            os.close(folder)

    def remove(self, path: str) -> None:
        """Remove the file, or the link to it; nothing where there is none.

        :raises ActionFailed: when a part of the path is a link or no folder, or it cannot be removed.
        """
        place = PurePosixPath(path)
        folder = self._open_folder(str(place.parent), make=True)
        try:
            os.unlink(place.name, dir_fd=folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ActionFailed(f"cannot remove {path} of the deployed system: {error.strerror}") from error
        finally:
            os.close(folder)

    def refuse_links(self, path: str) -> None:
        """Refuse links below ``path``, through which a program of the ramdisk could write outside of the tree.

        :raises ActionFailed: naming a link there.
        """
        place = self.folder(path)
        for parent, folders, files in os.walk(place):
            for name in (*folders, *files):
                entry = Path(parent) / name
                if entry.is_symlink() or (name in files and not entry.is_file()):
                    inside = str(entry).removeprefix(self.root)
                    raise ActionFailed(
                        f"{inside} in the deployed system is a link or special file: {path} is not safe"
                    )

    def _open_folder(self, path: str, *, make: bool) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        current = os.open(self.root, flags)
        for part in PurePosixPath(path).parts[1:]:
            try:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=current)
                following = os.open(part, flags, dir_fd=current)
            except OSError as error:
                what = _kind_at(part, current)
                raise ActionFailed(
                    f"{path} in the deployed system: {part!r} is {what}, a folder is needed"
                ) from error
            finally:
                os.close(current)
            current = following
        return current

    def _resolve(self, path: PurePosixPath, depth: int = 40) -> str | None:
        """Follow links as if ``root`` were the root; ``None`` for what does not exist or turns in a circle."""
        done = PurePosixPath("/")
        parts = list(path.parts[1:])
        while parts:
            part = parts.pop(0)
            if len(os.fsencode(part)) > LONGEST_NAME:  # a link may name what no file system can hold
                return None
            if part == "..":
                done = done.parent
                continue
            here = Path(self.outside(str(done / part)))
            if here.is_symlink():
                depth -= 1
                link = PurePosixPath(here.readlink())
                if depth < 0:
                    return None
                done = PurePosixPath("/") if link.is_absolute() else done
                parts = [*(link.parts[1:] if link.is_absolute() else link.parts), *parts]
            elif here.exists():
                done = done / part
            else:
                return None
        return self.outside(str(done))


def _kind_at(name: str, folder: int) -> str:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError as error:
        return f"not usable ({error.strerror})"
    return "a link" if stat.S_ISLNK(mode) else "no folder"

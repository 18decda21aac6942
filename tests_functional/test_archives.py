# SPDX-License-Identifier: Apache-2.0
"""Archives unpacked onto real file systems by the deploy driver's step: honest ones, and those that lie.

No virtual machine: the volumes are loop devices of this machine.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.drivers.deploy.archive import UnpackArchive
from bareon.errors import ActionFailed, BareonError, ImageFailed
from bareon.model.image import Digest, Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.step import Outcome
from bareon.tools import blkid
from building.process import run
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.imageserver import LOOPBACK, ImageServers
from tests_functional.bench.volumes import MIB, Volumes, volumes
from tests_functional.bench.word import fill

SETTINGS = TransferSettings(attempts=3, back_off=0.05, longest_wait=0.2, idle_timeout=2.0)
SYSTEM = ("/", "ext4", 96), ("/usr", "ext4", 64), ("/var", "xfs", 320)
Entry = tuple[str, bytes, str, bytes]
REG, DIR, SYM, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
LONG = "x" * 200
ATTRIBUTES = ("--format=pax", "--acls", "--xattrs", "--xattrs-include=*")
#: vfs_cap_data of linux/capability.h, revision 2: effective and permitted.
CAP_NET_RAW = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)


def step(file: Path | str, wanted: Volumes, digest: str | None = None, target: str = "/") -> UnpackArchive:
    """The driver's step for an archive, a file or a URL."""
    url = file if isinstance(file, str) else file.as_uri()
    image = Image("a", Location(url), target, digest=Digest("sha256", digest) if digest else None)
    return UnpackArchive("do_copyimage", image, wanted.mounts, SETTINGS)


def brought(found: UnpackArchive) -> Outcome:
    """What comes of the step, as the executor carries it out."""
    found.preflight()
    return found.run(lambda done, total: None)


def failed(found: UnpackArchive, kind: type[BareonError]) -> str:
    """What the step says when it fails; that it writes something before is known."""
    with pytest.raises(kind) as caught:
        brought(found)
    (line,) = caught.value.lines()
    return line


def test_a_volume_that_another_system_uses_stays_as_it_is(tmp_path: Path) -> None:
    tree = (
        ("etc", DIR, "", b""),
        ("etc/name", REG, "", b"x"),
        ("var", DIR, "", b""),
        ("var/data", REG, "", b"x"),
        ("var/name", HARD, "etc/name", b""),
    )
    with volumes(("/", "ext4", 96), ("/var", "ext4", 32)) as made:
        root, var = made.mounts
        wanted = Volumes(root, replace(made.kept().mounts[1], left=True))
        with Volumes(var).tree() as running:
            (running / "var/theirs").write_text("theirs")
            outcome = brought(step(archive(tmp_path / "a.tar.gz", *tree), wanted))
            assert {x.name for x in (running / "var").iterdir()} == {"lost+found", "theirs"}
            other = archive(tmp_path / "b.tar.gz", *tree, ("etc/link", HARD, "var/data", b""))
            assert "which would lie on a volume that is in use" in failed(step(other, wanted), ImageFailed)
            assert {x.name for x in (running / "var").iterdir()} == {"lost+found", "theirs"}
        assert (outcome["files"], outcome["left out of volumes in use"]) == (2, "/var/data, /var/name")


def is_blank(wanted: Volumes) -> bool:
    """True if nobody would take one of the volumes for a file system."""
    return not any(blkid.probe([x.device]).get(x.device) for x in wanted.mounts)


def archive(place: Path, *entries: Entry) -> Path:
    """An archive of such members: path, type, link, content."""
    with tarfile.open(place, "w:gz", format=tarfile.PAX_FORMAT) as made:
        for path, kind, link, content in entries:
            info = tarfile.TarInfo(path)
            info.type, info.linkname, info.size, info.mode = kind, link, len(content), 0o755
            made.addfile(info, io.BytesIO(content))
    return place


@contextmanager
def source() -> Iterator[Path]:
    """A tree with all that only a careful copy keeps, on a file system that has it."""
    with volumes(("/", "ext4", 96)) as made, made.tree() as tree:
        for folder in ("d/e", "usr/lib", "var/log", f"d/{LONG}/{LONG}"):
            (tree / folder).mkdir(parents=True)
        (tree / "d/f").write_text("hi")
        os.link(tree / "d/f", tree / "d/hard")
        os.link(tree / "d/f", tree / "usr/lib/torn")
        os.link(tree / "d/f", tree / "var/log/torn")
        os.chown(tree / "d/f", 4294967294, 3000000000)
        run(["setfacl", "-m", "u:1234:rwx,g:77:r", tree / "d/f"], timeout=10)
        run(["setfacl", "-d", "-m", "u:55:rx", tree / "d/e"], timeout=10)
        os.setxattr(tree / "d/f", "user.attribute", b"a\0b")
        os.setxattr(tree / "d/e", "trusted.attribute", b"x")
        os.setxattr(tree / "usr", "security.selinux", b"system_u:object_r:usr_t:s0\0")
        (tree / "usr/lib/capable").write_bytes(b"\x7fELF")
        (tree / "usr/lib/capable").chmod(0o6755)
        os.setxattr(tree / "usr/lib/capable", "security.capability", CAP_NET_RAW)
        os.mknod(tree / "d/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(tree / "d/block", 0o660 | stat.S_IFBLK, os.makedev(8, 1))
        os.mkfifo(tree / "var/log/fifo")
        with (tree / "d/sparse").open("wb") as sparse:
            sparse.truncate(3 << 30)
            sparse.seek(2 << 30)
            sparse.write(b"here")
        for name in ("ümlaut", os.fsdecode(b"latin\xe9"), "new\nline", f"{LONG}/{LONG}/file"):
            (tree / "d" / name).touch()
        (tree / "d/link").symlink_to(f"{LONG}/{LONG}/../{LONG}")
        (tree / "d/away").symlink_to("/etc/passwd")
        for name, seconds in (("d/link", 1), ("var/log", -(10**8)), ("d", 4 * 10**9)):
            os.utime(tree / name, ns=(0, seconds * 10**9 + 123456789), follow_symlinks=False)
        (tree / "var").chmod(0o750)
        yield tree


def entries(tree: Path) -> dict[bytes, tuple[object, ...]]:
    """All that a tree has, by paths: mode, owner, device, size, time, whether it has holes, attributes, link."""
    found: dict[bytes, tuple[object, ...]] = {}
    root = os.fsencode(tree)
    for folder, folders, files in os.walk(root):
        for name in (b".", *files, *(x for x in folders if Path(os.fsdecode(folder + b"/" + x)).is_symlink())):
            path = os.path.normpath(folder + b"/" + name)
            if path.endswith(b"lost+found"):
                continue
            status = os.lstat(path)
            # XFS shows an ACL a second time.
            names = [x for x in os.listxattr(path, follow_symlinks=False) if not x.startswith("trusted.SGI_ACL_")]
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            found[os.path.relpath(path, root)] = (
                *(oct(status.st_mode), status.st_uid, status.st_gid, status.st_rdev),
                *(size, status.st_mtime_ns, size > MIB and status.st_blocks * 512 < size),
                {x: os.getxattr(path, x, follow_symlinks=False) for x in names},
                str(Path(os.fsdecode(path)).readlink()) if stat.S_ISLNK(status.st_mode) else None,
            )
    return found


def _packed(tree: Path, place: Path, *options: str) -> Path:
    run(
        ["tar", "--sparse", "--numeric-owner", "--exclude=./lost+found", *options, "-C", tree, "-cf", place, "."],
        timeout=60,
    )
    return place


def test_everything_arrives_as_it_was() -> None:
    with source() as tree, volumes(*SYSTEM) as made:
        outcome = brought(step(_packed(tree, SCRATCH / "whole.tar.zst", *ATTRIBUTES, "--zstd"), made))
        assert (outcome["form"], outcome["hard links that became copies"]) == ("tar, zstd", "2")
        wanted = entries(tree)
        with made.tree() as root:
            found = entries(root)
            assert (root / "d/f").samefile(root / "d/hard")
            assert (root / "var/log/torn").stat().st_nlink == 1
    for path in (b".", b"usr", b"var"):  # the time of a file system's top folder is that of its lost+found
        wanted[path], found[path] = (x[path][:5] + x[path][6:] for x in (wanted, found))
    assert found == wanted


@pytest.mark.parametrize("form", ["", "gzip", "xz", "zstd", "bzip2"])
def test_each_packing(form: str, tmp_path: Path) -> None:
    file = _packed(_small(tmp_path / "tree"), tmp_path / "small", "--format=gnu", *([f"--{form}"] if form else []))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with volumes(*SYSTEM) as made:
        outcome = brought(step(file, made, digest))
        assert outcome["digest"] == digest
        assert outcome["form"] == (f"tar, {form}" if form else "tar")
        with made.tree() as root:
            assert (root / "usr/noise").read_bytes() == (tmp_path / "tree/usr/noise").read_bytes()
            assert (root / "etc/hostname").read_text() == "node\n"


def _small(tree: Path) -> Path:
    for folder in ("etc", "usr", "var"):
        (tree / folder).mkdir(parents=True)
    (tree / "etc/hostname").write_text("node\n")
    (tree / "usr/noise").write_bytes(os.urandom(3 * MIB))
    return tree


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[: len(data) // 2], "the gzip stream does not end"),
        (lambda data: data[:-3], "the gzip stream does not end"),
        (lambda data: data[: len(data) // 2] + b"\0\0\0\0" + data[len(data) // 2 + 4 :], "damaged|its sha256 is"),
        (lambda data: data + b"something else", "bytes behind the end"),
        (lambda data: data, "its sha256 is"),
    ],
    ids=["half", "clipped", "flipped", "garbage", "other"],
)
def test_what_is_not_verified_is_no_system(damage: object, says: str, tmp_path: Path) -> None:
    assert callable(damage)
    file = _packed(_small(tmp_path / "tree"), tmp_path / "small", "--gzip")
    file.write_bytes(damage(file.read_bytes()))
    with volumes(*SYSTEM) as made:
        with pytest.raises(ImageFailed, match=says):
            brought(step(file, made, "00" * 32))
        assert is_blank(made)


HOSTILE: dict[str, tuple[Entry, ...]] = {
    "absolute": (("/run/bareon/outside/absolute", REG, "", b"x"),),
    "above": (("../../../run/bareon/outside/above", REG, "", b"x"),),
    "link": (("way", SYM, "/run/bareon/outside", b""), ("way/planted", REG, "", b"x")),
    "relative link": (("way", SYM, "../outside", b""), ("way/planted", REG, "", b"x")),
    "link to a link": (("a", SYM, "/run/bareon", b""), ("b", SYM, "a/outside", b""), ("b/planted", REG, "", b"x")),
    "hard link": (("a", HARD, "/run/bareon/outside/there", b""),),
    "hard link above": (("a", HARD, "../outside/there", b""), ("a", REG, "", b"x")),
    "folder turned link": (("a/b", REG, "", b"x"), ("a", SYM, "/run/bareon/outside", b""), ("a/c", REG, "", b"x")),
    "volume turned link": (("usr", SYM, "/run/bareon/outside", b""), ("usr/planted", REG, "", b"x")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_written_outside(name: str, tmp_path: Path) -> None:
    outside = SCRATCH / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "there").write_text("mine")
    file = archive(tmp_path / "a.tar.gz", ("first", REG, "", b"x"), *HOSTILE[name])
    with volumes(*SYSTEM) as made:
        assert "file://" in failed(step(file, made), ImageFailed)
        assert is_blank(made)
    assert [x.name for x in outside.iterdir()] == ["there"]
    assert (outside / "there").read_text() == "mine"
    assert (outside / "there").stat().st_nlink == 1


def test_a_file_twice_is_the_last_one(tmp_path: Path) -> None:
    outside = SCRATCH / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "there").write_text("mine")
    twice = ("a", REG, "", b"1"), ("a", REG, "", b"2"), ("b", REG, "", b"1"), ("b", SYM, str(outside / "there"), b"")
    with volumes(("/", "ext4", 32)) as made:
        brought(step(archive(tmp_path / "a.tar.gz", *twice), made))
        with made.tree() as root:
            assert (root / "a").read_text() == "2"
            assert (root / "b").is_symlink()
    assert (outside / "there").read_text() == "mine"


def test_bombs_end_at_the_volumes_limit(tmp_path: Path) -> None:
    zeros = tmp_path / "zeros"
    with zeros.open("wb") as file:
        file.truncate(200 * MIB)
    bomb = tmp_path / "bomb.tar.zst"
    run(["tar", "--zstd", "-C", tmp_path, "-cf", bomb, "zeros"], timeout=60)
    many = archive(tmp_path / "many.tar.gz", *((f"{number}", REG, "", b"") for number in range(9000)))
    with volumes(("/", "ext4", 32)) as made:
        assert failed(step(bomb, made), ActionFailed).endswith("has no room left, image 'a' does not fit")
        assert is_blank(made)
    with volumes(("/", "ext4", 32)) as made:
        assert failed(step(many, made), ActionFailed).endswith("has no inodes left, image 'a' does not fit")
        assert is_blank(made)


def test_a_stream_without_end_ends(tmp_path: Path) -> None:
    """More than volumes and headers could hold; it is read through, since the volume is kept."""
    header = bytearray(tarfile.TarInfo("hole").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\x80" + (1 << 40).to_bytes(11, "big")  # a TiB of content
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    plain = tmp_path / "hole"
    with plain.open("wb") as file:
        file.write(header)
        file.truncate(1200 * MIB)
    bomb = tmp_path / "hole.zst"
    run(["zstd", "--quiet", plain, "-o", bomb], timeout=60)
    with volumes(("/", "ext4", 32)) as made, pytest.raises(ImageFailed, match="holds more than the 1088 MiB"):
        step(bomb, made.kept()).preflight()


def test_on_what_is_kept_files_come_back_and_others_stay(tmp_path: Path) -> None:
    fine = archive(
        tmp_path / "fine.tar.gz",
        *((".", DIR, "", b""), ("etc", DIR, "", b""), ("etc/fstab", REG, "", b"image's"), ("etc/a", REG, "", b"new")),
        *(("srv", DIR, "", b""), ("srv/b", REG, "", b"new")),
    )
    outside = SCRATCH / "outside"
    outside.mkdir(exist_ok=True)
    with volumes(("/", "ext4", 32)) as made:
        with made.tree() as root:
            (root / "etc").mkdir()
            for name in ("fstab", "a", "mine"):
                (root / "etc" / name).write_text("node's")
            (root / "srv").symlink_to(outside)
        kept = made.kept()
        line = failed(step(fine, kept, "00" * 32), ImageFailed)
        assert "its sha256 is" in line
        with made.tree() as root:  # read through beforehand, and not a byte was written
            assert (root / "etc/a").read_text() == "node's"
        brought(step(fine, kept))
        with made.tree() as root:
            assert {x.name: x.read_text() for x in (root / "etc").iterdir()} == {
                "a": "new",
                "fstab": "node's",
                "mine": "node's",
            }
            assert not (root / "srv").is_symlink()
            assert (root / "srv/b").read_text() == "new"
    assert not any(outside.glob("b"))


def test_what_is_no_archive_is_told_before(tmp_path: Path) -> None:
    with volumes(("/", "ext4", 32)) as made:
        for content, says in (
            (b"<!DOCTYPE html><title>Sign in</title>" + b" " * 600, "is a web page: give the URL of the file"),
            (b"PK\x03\x04" + bytes(2000), "is a zip archive: unpack it"),
            (bytes(100000), "is no tar archive: it holds nothing that is known"),
        ):
            (tmp_path / "file").write_bytes(content)
            with pytest.raises(ImageFailed, match=says):
                step(tmp_path / "file", made).preflight()
        assert not is_blank(made)


@pytest.mark.parametrize(
    ("fault", "attempts"),
    [("plain", 1), ("cut-at-300000-700000", 3), ("norange+cut-at-300000", 2), ("nolength", 1)],
)
def test_it_is_resumed(fault: str, attempts: int, image_servers: ImageServers) -> None:
    words = image_servers.words(LOOPBACK)
    url = fill("{http}/" + fault + "/small.tar.zst", words)
    with volumes(("/", "ext4", 64)) as made:
        # Without the preflight, which would be the first to meet the fault.
        outcome = step(url, made, fill("{sha256:small.tar.zst}", words)).run(lambda done, total: None)
        assert outcome["attempts"] == attempts
        with made.tree() as root:
            assert (root / "hello").read_text() == "hello\n"

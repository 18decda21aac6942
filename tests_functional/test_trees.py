# SPDX-License-Identifier: Apache-2.0
"""Trees of files on their way from a real rsync daemon onto real file systems, with what does not go together.

No virtual machine: the volumes are loop devices of this machine, and the deploy driver's step runs in this process.
The numbers in names are those of the situations of the field that a test shows.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.drivers.deploy import early
from bareon.drivers.deploy.overlap import Neighbour
from bareon.drivers.deploy.rsync import FetchTree
from bareon.errors import ActionFailed, BareonError, ImageFailed, InvalidInput, UnsuitableNode
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.step import Outcome
from bareon.system.tree import mounted_tree
from bareon.tools import inode
from building.process import run
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.imageserver import LOOPBACK
from tests_functional.bench.rsyncd import Module, RsyncServer
from tests_functional.bench.volumes import Volumes, volumes

MIB = 1 << 20
SETTINGS = TransferSettings(attempts=3, back_off=0.05, longest_wait=0.2)
ASKED = ("-a", "-A", "-X")


@contextmanager
def served(tree: Path, *settings: str) -> Iterator[str]:
    """Serve a tree, and yield its URL."""
    server = RsyncServer(SCRATCH / "trees", {"tree": Module(tree, settings=settings)}, address=LOOPBACK, port=8730)
    server.start()
    try:
        yield f"{server.url}/tree/"
    finally:
        server.stop()


def step(url: str, wanted: Volumes, *asked: str, target: str = "/") -> FetchTree:
    """The driver's step for an image at this URL."""
    return FetchTree("do_copyimage", Image("a", Location(url), target), wanted.mounts, asked or ASKED, SETTINGS)


def brought(found: FetchTree) -> Outcome:
    """What comes of the step, as the executor carries it out."""
    found.preflight()
    return found.run(lambda done, total: None)


def refused(found: FetchTree, kind: type[BareonError]) -> str:
    """What the preflight says when it refuses."""
    with pytest.raises(kind) as caught:
        found.preflight()
    return "\n".join(caught.value.lines())


def written(root: Path, *paths: str, text: str = "x") -> Path:
    """Write files below a folder."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.mark.pain("links-across-volumes")
def test_field_34_names_of_a_file_on_several_volumes_become_copies(tmp_path: Path) -> None:
    tree = written(tmp_path, "usr/lib/modules/6/vmlinuz", "home/alone", text="kernel")
    for name in ("boot/vmlinuz-6", "boot/vmlinuz", "usr/vmlinuz", "var/log/vmlinuz"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(tree / "usr/lib/modules/6/vmlinuz", tree / name)
    (tree / "boot").chmod(0o750)
    wanted = ("/", "ext4", 64), ("/boot", "ext4", 32), ("/var/log", "ext4", 32)
    with served(tree) as url, volumes(*wanted) as made:
        for where in (made, made.kept()):
            outcome = brought(step(url, where))
            assert outcome["hard links that became copies"] == "2"
            assert outcome["attempts"] == 1
            with made.tree() as root:
                assert {(root / "boot" / x).read_text() for x in ("vmlinuz", "vmlinuz-6")} == {"kernel"}
                assert (root / "boot/vmlinuz").samefile(root / "boot/vmlinuz-6")
                assert (root / "usr/vmlinuz").samefile(root / "usr/lib/modules/6/vmlinuz")
                assert (root / "usr/vmlinuz").stat().st_nlink == 2
                assert (root / "var/log/vmlinuz").read_text() == "kernel"
                assert (root / "boot").stat().st_mode & 0o777 == 0o750
                assert (root / "home/alone").read_text() == "kernel"
        with made.tree() as root:
            run(["umount", root / "boot"], timeout=30)
            try:
                assert list((root / "boot").iterdir()) == []  # nothing of it is hidden below the mount
            finally:
                run(["mount", made.mounts[1].device, root / "boot"], timeout=30)


def test_a_folder_around_a_mount_point_that_a_program_of_the_image_moves() -> None:
    victim = SCRATCH / "victim/data"
    victim.mkdir(parents=True)
    with volumes(("/", "ext4", 32), ("/srv/data", "ext4", 32)) as made:
        run(["mount", "-t", "tmpfs", "victim", victim], timeout=30)
        try:
            with mounted_tree(made.mounts) as tree:
                root = Path(tree.root)
                (root / "srv").rename(root / "moved")
                (root / "srv").symlink_to(victim.parent)
            assert victim.is_mount()
            assert str(root) not in Path("/proc/self/mountinfo").read_text()
        finally:
            run(["umount", victim], timeout=30)


def test_a_volume_that_another_system_uses_stays_as_it_is(tmp_path: Path) -> None:
    """Neither does anything come to it, nor to the folder that it will be mounted on."""
    tree = written(tmp_path, "etc/name", "srv/data", "srv/more/data", "srv/theirs")
    with served(tree) as url, volumes(("/", "ext4", 32), ("/srv", "ext4", 32)) as made:
        root, srv = made.mounts
        with Volumes(srv).tree() as running:
            written(running, "srv/theirs", text="theirs")
            before = (running / "srv").stat().st_mtime_ns
            outcome = brought(step(url, Volumes(root, replace(made.kept().mounts[1], left=True))))
            assert {x.name for x in (running / "srv").iterdir()} == {"lost+found", "theirs"}
            assert (running / "srv/theirs").read_text() == "theirs"
            assert (running / "srv").stat().st_mtime_ns == before
        left = ["/srv/data", "/srv/more", "/srv/more/data", "/srv/theirs"]
        assert sorted(str(outcome["left out of volumes in use"]).split(", ")) == left
        with Volumes(root).tree() as deployed:
            assert (deployed / "etc/name").is_file()
            assert list((deployed / "srv").iterdir()) == []


def test_field_41_files_on_a_volume_of_two_systems_stay_those_of_the_first(tmp_path: Path) -> None:
    first = written(tmp_path / "first", "etc/name", "home/me/shell", "home/first", "home/a*", text="first")
    second = written(
        tmp_path / "second", "etc/name", "home/me/shell", "home/second", "home/a*", "home/ab", text="second"
    )
    (first / "home/kind").mkdir()
    written(second, "home/kind", text="second")
    with volumes(("/", "ext4", 32), ("/home", "ext4", 32)) as one, volumes(("/", "ext4", 32)) as other:
        with served(tmp_path) as url:
            shared = Volumes(other.mounts[0], one.mounts[1])
            beside = (Neighbour(Image("first", Location(f"{url}first")), "/home"),)
            for made, again in ((one, shared), (one.kept(), shared.kept())):
                brought(step(f"{url}first", made))
                outcome = brought(replace(step(f"{url}second", again), beside=beside))
                assert outcome["left to other images"] == "/home/a*, /home/kind, /home/me/shell"
        with shared.tree() as root:
            homes = {
                str(x.relative_to(root / "home")): x.read_text() for x in (root / "home").rglob("*") if x.is_file()
            }
            assert homes == {"me/shell": "first", "first": "first", "a*": "first", "second": "second", "ab": "second"}
            assert (root / "etc/name").read_text() == "second"


def test_single_files_come_before_the_first_write(tmp_path: Path) -> None:
    tree = written(tmp_path / "image", "usr/lib/shim/real", "usr/lib/shim/plain", "usr/lib/shim/left", text="shim")
    written(tree, "etc/alternatives/other", "usr/lib/shim/folder/x", "usr/lib/shim/beside", text="never asked for")
    written(tmp_path, "secret", text="outside")
    for name, leads in (
        ("usr/lib/shim/link", "/etc/alternatives/shim"),
        ("etc/alternatives/shim", "../../usr/lib/shim/real"),
        ("usr/lib/shim/out", "../../../../secret"),
        ("usr/lib/shim/host", "/etc/passwd"),
        ("usr/lib/shim/circle", "circle"),
    ):
        (tree / name).symlink_to(leads)
    with (tree / "usr/lib/shim/large").open("wb") as handle:
        handle.truncate(early.LARGEST + 1)
    os.mkfifo(tree / "usr/lib/shim/fifo")
    names = ("link", "plain", "left", "out", "host", "circle", "large", "fifo", "folder", "nothing")
    with served(tree) as url:
        fetch = FetchTree("do_copyimage", Image("a", Location(url)), (), ("-a", "--exclude=left"), SETTINGS)
        found = early.EarlyFiles(fetch)([f"/usr/lib/shim/{name}" for name in names])
        assert found == {"/usr/lib/shim/link": b"shim", "/usr/lib/shim/plain": b"shim"}
        unknown = replace(fetch, image=Image("a", Location(url.replace("/tree/", "/none/"))))
        with pytest.raises(ImageFailed, match="image 'a' cannot be fetched: @ERROR: Unknown module 'none'"):
            early.EarlyFiles(unknown)(["/x"])


def test_patterns_of_the_input_mean_the_same_on_every_volume(tmp_path: Path) -> None:
    tree = written(tmp_path, "srv/a*[b c/keep", "srv/a*[b c/drop", "srv/axb c/no", "drop", "srv/a*[b c/deep/drop")
    with served(tree) as url, volumes(("/", "ext4", 32), ("/srv/a*[b c", "ext4", 32)) as made:
        brought(step(url.replace("/tree/", "/./tree/././"), made, "-a", "--exclude=/srv/a?[[]b c/drop"))
        with made.tree() as root:
            found = sorted(str(x.relative_to(root)) for x in root.rglob("*") if x.is_file())
            assert found == ["drop", "srv/a*[b c/deep/drop", "srv/a*[b c/keep", "srv/axb c/no"]
    with served(tree) as url, volumes(("/", "ext4", 32), ("/srv/a*[b c", "ext4", 32)) as made:
        brought(step(url, made, "-a", "--exclude=/srv"))
        with made.tree() as root:
            assert sorted(x.name for x in root.rglob("*") if x.is_file()) == ["drop"]


def test_a_part_of_a_system_is_spread_over_its_volumes_too(tmp_path: Path) -> None:
    tree = written(tmp_path, "a/one", "b/two")
    with served(tree) as url, volumes(("/", "ext4", 32), ("/opt/b", "ext4", 32)) as made:
        brought(step(url, made, target="/opt"))
        with made.tree() as root:
            assert (root / "opt/a/one").is_file()
            assert (root / "opt/b/two").stat().st_dev != (root / "opt/a/one").stat().st_dev


@pytest.mark.parametrize(("kind", "size"), [("ext4", 4), ("ext4", 64), ("ext4", 511), ("ext4", 600), ("xfs", 320)])
def test_field_35_no_file_system_has_more_inodes_than_are_counted_on(kind: str, size: int) -> None:
    with volumes(("/", kind, size)) as made, made.tree() as root:
        most = inode.at_most(kind, size * MIB)
        assert most is not None
        assert os.statvfs(root).f_favail <= most
        if kind == "ext4":
            assert os.statvfs(root).f_favail > most * 0.8


@pytest.mark.pain("more-files-than-inodes")
def test_field_35_more_files_than_inodes(tmp_path: Path) -> None:
    for number in range(9000):
        (tmp_path / f"{number}").touch()
    with served(tmp_path) as url, volumes(("/", "ext4", 32)) as made:
        said = refused(step(url, made), UnsuitableNode)
        assert "image 'a' has 9000 files for /, and" in said
        found = step(url, made)
        with pytest.raises(ActionFailed, match="for / has no inodes left, image 'a' does not fit"):
            found.run(lambda done, total: None)


def test_sizes_are_compared_for_each_volume_and_sparse_giants_are_named(tmp_path: Path) -> None:
    with (written(tmp_path, "etc/x") / "var-log-lastlog").open("wb") as handle:
        handle.truncate(200 * MIB)
    with served(tmp_path) as url, volumes(("/", "ext4", 64)) as made:
        said = refused(step(url, made), UnsuitableNode)
        assert "are /var-log-lastlog: if it is sparse, add --sparse to rsync_flags" in said
        brought(step(url, made, "-a", "--sparse"))


@pytest.mark.parametrize(
    ("point", "link", "leads", "remedy"),
    [
        ("/home", "home", "var/home", "mount it at /var/home"),
        ("/var/mail/x", "var/mail", "spool/mail", "mount it at /var/spool/mail/x"),
        ("/var/run/x", "var/run", "/run", "choose another mount point"),
        ("/srv", "srv", "/", "choose another mount point"),
    ],
)
@pytest.mark.pain("links-at-mount-points")
def test_field_36_a_link_where_a_volume_is_mounted(
    point: str, link: str, leads: str, remedy: str, tmp_path: Path
) -> None:
    (written(tmp_path, "var/home/me/x") / link).symlink_to(leads)
    with served(tmp_path) as url, volumes(("/", "ext4", 32), (point, "ext4", 32)) as made:
        for where in (made, made.kept()):
            said = refused(step(url, where), InvalidInput)
            assert said.startswith(f"$.volumes[{point}].mount: image 'a' has a link to {leads} at /{link}")
            assert said.endswith(remedy)


def test_field_36_a_file_where_a_volume_is_mounted(tmp_path: Path) -> None:
    with served(written(tmp_path, "srv")) as url, volumes(("/", "ext4", 32), ("/srv", "ext4", 32)) as made:
        assert "image 'a' has a file at /srv" in refused(step(url, made), InvalidInput)


def test_field_36_a_folder_that_is_kept_where_the_image_has_a_link(tmp_path: Path) -> None:
    old, new = written(tmp_path / "old", "bin/sh"), written(tmp_path / "new", "usr/bin/sh")
    (new / "bin").symlink_to("usr/bin")
    with volumes(("/", "ext4", 32)) as made:
        with served(old) as url:
            brought(step(url, made))
        with served(new) as url:
            with pytest.raises(ActionFailed, match=r"symlink: bin; --force in rsync_flags replaces folders"):
                brought(step(url, made.kept()))
            brought(step(url, made.kept(), *ASKED, "--force"))
        with made.tree() as root:
            assert (root / "bin").readlink() == Path("usr/bin")


class _Once(logging.Handler):
    """Does something when it is first logged that an attempt failed."""

    def __init__(self, do: Callable[[], object]) -> None:
        super().__init__()
        self.said: list[str] = []
        self._do = do

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "trying again" in message:
            if not self.said:
                self._do()
            self.said.append(message)


def test_field_37_a_daemon_that_is_full_is_asked_again(tmp_path: Path) -> None:
    (written(tmp_path / "tree", "x") / "big").write_bytes(os.urandom(20 * MIB))
    lock = f"lock file = {tmp_path}/lock"
    with served(tmp_path / "tree", "max connections = 1", lock) as url, volumes(("/", "ext4", 64)) as made:
        neighbour = subprocess.Popen(
            ["rsync", "-a", "--bwlimit=1000", url, f"{tmp_path}/neighbour/"],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while not (tmp_path / "neighbour").is_dir():
            assert neighbour.poll() is None
        watching = _Once(lambda: os.killpg(neighbour.pid, signal.SIGKILL))
        logger = logging.getLogger("bareon.drivers.deploy.rsync")
        logger.addHandler(watching)
        try:
            # The daemon's process for the neighbour takes a while to see that it is gone.
            brought(step(url, made))
        finally:
            logger.removeHandler(watching)
            neighbour.wait()
        assert watching.said


@pytest.mark.parametrize(
    ("settings", "reason", "again"),
    [
        (("max connections = -1",), "@ERROR: max connections", True),
        (("hosts deny = *",), "@ERROR: access denied", False),
        (("auth users = me", "secrets file = /nowhere"), "the credentials, .*@ERROR: auth failed", False),
        (("max connections = 1", "lock file = /nowhere/lock"), "@ERROR: failed to open lock file", False),
    ],
)
def test_field_37_later_is_asked_again_and_never_is_not(
    settings: tuple[str, ...], reason: str, again: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(written(tmp_path, "x"), *settings) as url, volumes(("/", "ext4", 32)) as made:
        limited = replace(step(url, made), settings=replace(SETTINGS, total_timeout=1.5))
        assert re.search(f"^image 'a' cannot be fetched: {reason}", refused(limited, ImageFailed))
    tried = [x for x in caplog.records if "trying again" in x.getMessage()]
    assert len(tried) >= SETTINGS.attempts if again else not tried


@pytest.mark.pain("links-on-vfat")
def test_field_46_what_vfat_cannot_hold_is_told_before_the_first_write(tmp_path: Path) -> None:
    tree = written(tmp_path, "boot/vmlinuz-6", "boot/a:b", "boot/Config", "boot/config")
    os.mkfifo(tree / "boot/pipe")
    (tree / "boot/vmlinuz").symlink_to("vmlinuz-6")
    with (tree / "boot/big").open("wb") as handle:
        handle.truncate(4 << 30)
    with served(tree) as url, volumes(("/", "ext4", 32), ("/boot", "vfat", 32)) as made:
        lines = refused(step(url, made, "-a", "--sparse"), InvalidInput).splitlines()
        assert sorted(x.removeprefix("$.volumes[/boot].file_system: image 'a': ") for x in lines) == [
            "/boot/Config and /boot/config are the same name to vfat, which knows no case",
            "vfat cannot hold /boot/big, which has 4 GiB or more",
            "vfat cannot hold /boot/pipe, a special file",
            "vfat cannot hold the name /boot/a:b",
        ]

# SPDX-License-Identifier: Apache-2.0
"""Trees of strangers: what changes while bareon looks, and what is no file.

A *plot* gets a tree ready, and gives what somebody does to it at one moment. Each is tried at every moment there is:
after each of the calls by which bareon has the kernel do something. A deed outside of the tree would show.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bareon.boot.esp import add_removable
from bareon.boot.platform import PC_UEFI
from bareon.errors import ActionFailed
from bareon.sizes import MIB
from bareon.system import lookup
from bareon.system.kernel import kernels
from bareon.system.tree import Tree
from bareon.tools import sandbox

TEXT, CANARY = "of the image\n", "of the ramdisk\n"
CALLS = (
    *("open", "fdopen", "readlink", "mkdir", "unlink", "replace", "symlink", "scandir", "listdir"),
    *("stat", "lstat", "fstat", "fchmod", "fchown", "fsync", "utime"),
    *("listxattr", "getxattr", "setxattr", "removexattr"),
)

Deed = Callable[[], None]


def _swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    os.rename(one, aside)
    os.rename(other, one)
    os.rename(aside, other)


def _swapped_for_a_link(place: Path, target: Path) -> Deed:
    trap = place.with_name("trap")
    trap.symlink_to(target)
    return lambda: _swap(place, trap)


def _folder(base: Path) -> Deed:
    """A folder of the way becomes a link to one of the ramdisk with the same names."""
    return _swapped_for_a_link(base / "root/etc", base / "outside")


def _relative(base: Path) -> Deed:
    return _swapped_for_a_link(base / "root/etc", Path("../outside"))


def _last_folder(base: Path) -> Deed:
    return _swapped_for_a_link(base / "root/etc/default", base / "outside/default")


def _file(base: Path) -> Deed:
    return _swapped_for_a_link(base / "root/etc/default/grub", base / "outside/default/grub")


def _moved_up(base: Path) -> Deed:
    """A folder is moved, so that the parent of its parent is not in the tree any more."""
    (base / "root/etc/default/grub").unlink()
    (base / "root/etc/default/grub").symlink_to("../../outside/default/grub")
    return lambda: os.rename(base / "root/etc/default", base / "root/default")


def _pipe(base: Path) -> Deed:
    """The file becomes a FIFO, with something in it: to open it would be to read that."""
    trap = base / "root/etc/default/trap"
    os.mkfifo(trap)
    os.write(os.open(trap, os.O_RDWR), CANARY.encode())
    return lambda: _swap(base / "root/etc/default/grub", trap)


def _emptied(base: Path) -> Deed:
    return lambda: os.rename(base / "root/etc", base / "root/gone")


#: Some are undone by doing them again: what bareon looked at, and what it opens, is then the same only by its name.
SWAPS = (_folder, _relative, _last_folder, _file, _pipe)
PLOTS = (*((x, False) for x in (*SWAPS, _moved_up, _emptied)), *((x, True) for x in SWAPS))

PLACE = "/etc/default/grub"
DOINGS: dict[str, Callable[[Tree], object]] = {
    "read": lambda tree: tree.read(PLACE),
    "status": lambda tree: tree.status(PLACE),
    "end": lambda tree: tree.end(PLACE),
    "names": lambda tree: tree.names("/etc/default"),
    "write": lambda tree: tree.write(PLACE, "new"),
    "write where it is": lambda tree: tree.write(tree.real(PLACE), "new"),
    "copy": lambda tree: tree.copy(PLACE, "/etc/default/copy"),
    "same": lambda tree: tree.same(PLACE, "/etc/default/other"),
    "link": lambda tree: tree.link(PLACE, "elsewhere"),
    "remove": lambda tree: tree.remove(PLACE),
    "folder": lambda tree: tree.folder("/etc/default/new"),
    "refuse": lambda tree: tree.refuse_links("/etc"),
    "give labels": lambda tree: tree.give_labels("/etc"),
    "is labelled": lambda tree: tree.is_labelled(PLACE),
}


def _prepared(base: Path) -> Tree:
    for top, text in ("root/etc", TEXT), ("outside", CANARY):
        (base / top / "default").mkdir(parents=True)
        for name in ("grub", "other"):
            (base / top / "default" / name).write_text(text)
    (base / "outside/default/canary").write_text(CANARY)
    return Tree(str(base / "root"))


def _seen(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found


class _Moments:
    """Calls ``deed`` after the ``moment``-th call of :data:`CALLS`; with ``undone`` after the next one again."""

    def __init__(self, patch: pytest.MonkeyPatch, deed: Deed, moment: int, *, undone: bool) -> None:
        self.deed, self.moments, self.count = deed, (moment, moment + 1) if undone else (moment,), 0
        for name in CALLS:
            patch.setattr(os, name, self._counted(getattr(os, name)))
        self._now()

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            try:
                return call(*args, **more)
            finally:
                self.count += 1
                self._now()

        return counted

    def _now(self) -> None:
        if self.count in self.moments:
            self.deed()


@pytest.mark.parametrize(("plot", "undone"), PLOTS, ids=[f"{x.__name__}{' undone' * y}" for x, y in PLOTS])
@pytest.mark.parametrize("doing", DOINGS)
def test_a_tree_that_changes_leads_nowhere(
    doing: str, plot: Callable[[Path], Deed], undone: bool, tmp_path: Path
) -> None:
    moment, done = 0, 0
    while done >= moment:
        base = tmp_path / str(moment)
        tree = _prepared(base)
        deed = plot(base)
        before, result = _seen(base / "outside"), None
        with pytest.MonkeyPatch.context() as patch:
            moments = _Moments(patch, deed, moment, undone=undone)
            try:
                result = DOINGS[doing](tree)
            except ActionFailed as error:
                assert "\n" not in str(error)
        assert _seen(base / "outside") == before
        assert CANARY not in (result, str(result))
        assert "canary" not in str(result)
        moment, done = moment + 1, moments.count
    assert moment > 3


def test_a_file_that_grows_while_it_is_read(tmp_path: Path) -> None:
    tree = _prepared(tmp_path)
    place = tmp_path / "root/etc/default/grub"
    outcomes = set()
    for moment in range(20):
        place.write_text(TEXT)
        with pytest.MonkeyPatch.context() as patch:
            _Moments(patch, lambda: os.truncate(place, 1 << 40), moment, undone=False)
            try:
                outcomes.add(tree.read(PLACE))
            except ActionFailed as error:
                outcomes.add(str(error).partition(" has ")[2])
    assert outcomes == {TEXT, "1 TiB; at most 16 MiB are read"}
    for moment in range(20):
        place.write_text(TEXT)
        (tmp_path / "root/etc/default/copy").unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            _Moments(patch, lambda: os.truncate(place, 3 * MIB), moment, undone=False)
            tree.copy(PLACE, "/etc/default/copy")
        assert tree.status("/etc/default/copy").st_size in (len(TEXT), 3 * MIB)  # type: ignore[union-attr]


LINKS = (
    *("/outside/secret", "../../outside/secret", "/../../outside/secret", "..//./../outside/secret"),
    *("{base}/outside/secret", "/proc/self/root{base}/outside/secret", "/proc/self/cwd", "/proc/self/fd/{fd}"),
    *("/dev/fd/{fd}", "file/../../../outside/secret", "link", "/etc/link/x", "", "a" * 255, "b/" * 2000 + "x"),
)


@pytest.mark.parametrize("last", [True, False], ids=["file", "folder"])
@pytest.mark.parametrize("target", [x for x in LINKS if x], ids=lambda x: x[:40])
def test_where_links_lead(target: str, last: bool, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    secret = tmp_path / "outside/secret"
    secret.write_text(CANARY)
    tree = Tree(str(tmp_path / "root"))
    Path(tree.root).mkdir()
    tree.write("/etc/file", TEXT)
    with secret.open() as file:
        aim = target.format(base=tmp_path, fd=file.fileno())
        Path(tree.outside("/etc/link")).symlink_to(aim if last else os.path.dirname(aim) or ".")
        path = "/etc/link" if last else "/etc/link/secret"
        assert (tree.read(path), tree.status(path), tree.end(path), tree.names(path)) == (None, None, None, [])
        # A file of that path in the tree is found, for that is what the system finds.
        tree.write("/outside/secret", TEXT)
        assert tree.read(path) in (None, TEXT)
        if "outside" in target and "base" not in target and "file" not in target:
            assert (tree.read(path), tree.end(path)) == (TEXT, "/outside/secret")
        tree.remove("/etc/link")
    assert secret.read_text() == CANARY


def test_links_of_proc_are_texts(tmp_path: Path) -> None:
    """They lead to what they stand for, whatever their text says; nobody follows them so."""
    secret = tmp_path / "secret"
    secret.write_text(CANARY)
    tree = Tree(f"/proc/{os.getpid()}")
    with secret.open() as file:
        assert Path(tree.outside(f"/fd/{file.fileno()}")).read_text() == CANARY
        assert tree.read(f"/fd/{file.fileno()}") is None
        assert tree.read(f"/root{secret}") is None
        assert tree.names("/cwd") == []
        assert tree.names("/root") == tree.names("/")


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    tree = _prepared(tmp_path)
    Path(tree.outside("/etc/up")).symlink_to("default/../" * 300 + "default/grub")
    Path(tree.outside("/etc/circle")).symlink_to("default/../circle")
    Path(tree.outside("/deep/" + "d/" * 150)).mkdir(parents=True)
    before = os.listdir("/proc/self/fd")
    for doing in DOINGS.values():
        if doing is not DOINGS["refuse"]:
            doing(tree)
    with pytest.raises(ActionFailed, match=r"cannot look through /deep .*: there are more than 100 folders"):
        tree.refuse_links("/deep")
    assert tree.names("/deep/" + "d/" * 150) == []
    assert tree.read("/etc/circle") is None
    assert os.listdir("/proc/self/fd") == before
    tree.write(PLACE, TEXT)
    assert tree.read("/etc/up") == TEXT


@pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "folder"])
def test_what_is_no_file(kind: str, tmp_path: Path) -> None:
    tree = _prepared(tmp_path)
    place = Path(tree.outside("/etc/special"))
    if kind == "FIFO":
        os.mkfifo(place)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(place))
    elif kind == "folder":
        place.mkdir()
    elif os.geteuid():
        pytest.skip("devices are made by root")
    else:
        os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
    assert (tree.read("/etc/special"), tree.status("/etc/special"), tree.names("/etc/special")) == (None, None, [])
    if kind == "folder":
        for said, doing in ("write", lambda: tree.write("/etc/special", "x")), (
            "remove", lambda: tree.remove("/etc/special")
        ):  # fmt: skip
            with pytest.raises(ActionFailed, match=f"cannot {said} /etc/special of the .*: special is a folder"):
                doing()
        return
    with pytest.raises(ActionFailed, match="/etc/special in the deployed system is a link or special file"):
        tree.refuse_links("/etc")
    with pytest.raises(ActionFailed, match="cannot write /etc/x of the deployed system: /etc/special is no file"):
        tree.copy("/etc/special", "/etc/x")
    tree.write("/etc/special", TEXT)
    assert tree.read("/etc/special") == TEXT


def test_other_names_of_a_file_stay_as_they_are(tmp_path: Path) -> None:
    tree = _prepared(tmp_path)
    Path(tree.outside("/etc/shadow")).write_text("root:*:")
    for name in ("/etc/fstab", "/etc/copy"):
        os.link(tree.outside("/etc/shadow"), tree.outside(name))
    tree.write("/etc/fstab", "new")
    tree.copy(PLACE, "/etc/copy")
    assert tree.read("/etc/shadow") == "root:*:"
    assert (tree.read("/etc/fstab"), tree.read("/etc/copy")) == ("new", TEXT)


def test_text_stays_as_it_is(tmp_path: Path) -> None:
    tree = _prepared(tmp_path)
    content = b"a\r\nb\rc\xff\xc3\xa9\n"
    Path(tree.outside("/etc/fstab")).write_bytes(content)
    text = tree.read("/etc/fstab")
    assert text == "a\r\nb\rc\udcff\xe9\n"
    tree.write("/etc/fstab", text)
    assert Path(tree.outside("/etc/fstab")).read_bytes() == content


def test_names_of_any_bytes(tmp_path: Path) -> None:
    tree = _prepared(tmp_path)
    for name in (b"\xff\n\x1b[2J", b"n" * 255):
        Path(tree.outside("/etc/conf.d")).mkdir(exist_ok=True)
        Path(os.fsdecode(os.fsencode(tree.outside("/etc/conf.d/")) + name)).write_text("old")
    found = tree.names("/etc/conf.d")
    assert [os.fsencode(x) for x in found] == [b"n" * 255, b"\xff\n\x1b[2J"]
    for name in found:
        tree.write(f"/etc/conf.d/{name}", "new")
        assert tree.read(f"/etc/conf.d/{name}") == "new"
    assert tree.names("/etc/conf.d") == found


def test_more_names_than_any_system_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "MOST", 2)
    tree = _prepared(tmp_path)
    assert tree.names("/etc/default") == ["grub", "other"]
    tree.write("/etc/default/third", "")
    for doing in tree.names, tree.refuse_links:
        with pytest.raises(ActionFailed, match="/etc/default of the deployed system: there are more than 2 names"):
            doing("/etc/default")


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ("replace", PermissionError(1, "Operation not permitted"), "lsattr(1) tells whether it, or its folder, is"),
        ("fsync", OSError(28, "No space left on device"), "of the deployed system: No space left on device"),
        ("symlink", OSError(30, "Read-only file system"), "of the deployed system: Read-only file system"),
    ],
)
def test_what_cannot_be_written_says_why_and_leaves_nothing(
    call: str, error: OSError, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = _prepared(tmp_path)

    def failing(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(ActionFailed) as caught:
            tree.link(PLACE, "x") if call == "symlink" else tree.write(PLACE, "new")
    assert str(caught.value).startswith(f"cannot write {PLACE} of the deployed system: ")
    assert said in str(caught.value)
    assert tree.names("/etc/default") == ["grub", "other"]
    assert tree.read(PLACE) == TEXT


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = _prepared(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(ActionFailed, match="'new' cannot be made: No space left on device"):
        tree.folder("/new/x")


def test_what_a_killed_run_left_is_no_hindrance(tmp_path: Path) -> None:
    tree = _prepared(tmp_path)
    left = Path(tree.outside("/etc/.bareon-new"))
    left.symlink_to(tmp_path / "outside/default/grub")
    tree.write("/etc/fstab", "new")
    assert (tree.read("/etc/fstab"), os.path.lexists(left)) == ("new", False)
    assert (tmp_path / "outside/default/grub").read_text() == CANARY
    left.mkdir()
    with pytest.raises(ActionFailed, match=r"cannot write /etc/fstab .*: \.bareon-new is a folder"):
        tree.write("/etc/fstab", "newer")


def test_a_disk_that_fails_is_no_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = _prepared(tmp_path)

    def failing(*_: object, **__: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "open", failing)
    for doing in tree.read, tree.is_file, tree.names:
        with pytest.raises(ActionFailed, match="cannot read /etc/fstab of the deployed system: Input/output error"):
            doing("/etc/fstab")


def test_a_kernel_that_is_no_file_is_not_opened(tmp_path: Path) -> None:
    tree = _prepared(tmp_path)
    tree.folder("/boot")
    os.mkfifo(tree.outside("/boot/vmlinuz-2"))
    Path(tree.outside("/boot/vmlinuz-3")).symlink_to(tmp_path / "outside/default/grub")
    tree.write("/boot/vmlinuz-1", "")
    assert [x.name for x in kernels(tree)] == ["vmlinuz-1"]


def test_links_on_an_efi_system_partition_are_not_followed(tmp_path: Path) -> None:
    """It is vfat, and can have none. Should it not be: nothing of the ramdisk is read or written."""
    _prepared(tmp_path)
    esp, victim = tmp_path / "esp", tmp_path / "outside/default"
    (esp / "EFI/debian").mkdir(parents=True)
    (esp / "EFI/debian/grubx64.efi").write_text("grub")
    (esp / "EFI/debian/secret").symlink_to(victim / "grub")
    (esp / "EFI/other").symlink_to(victim)
    before = _seen(tmp_path / "outside")
    (esp / "EFI/BOOT").symlink_to(victim)
    with pytest.raises(ActionFailed, match="/EFI/BOOT in the EFI system partition: 'BOOT' is a link"):
        add_removable(str(esp), PC_UEFI)
    (esp / "EFI/BOOT").unlink()
    (esp / "EFI/BOOT").mkdir()
    (esp / "EFI/BOOT/BOOTX64.EFI").symlink_to(victim / "grub")
    assert add_removable(str(esp), PC_UEFI) == "\\EFI\\debian\\grubx64.efi"
    assert (esp / "EFI/BOOT/BOOTX64.EFI").read_text() == "grub"
    assert not (esp / "EFI/BOOT/secret").exists()
    assert _seen(tmp_path / "outside") == before


def test_a_mount_point_that_a_program_of_the_image_moved() -> None:
    """The next program would see by another name what is hidden at the place that the file system had."""
    with sandbox._held(["/"]) as held:
        assert sandbox._used(held) == sandbox._used([*held, *held]) > 0
    with (
        pytest.raises(ActionFailed, match="moved a folder around the mount point /proc/x"),
        sandbox._held(["/", "/proc/x"]),
    ):
        pass


def test_a_disk_that_has_failed_lacks_nothing_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason of another failure is asked for, which must not be hidden by this one."""
    tree = Tree(str(tmp_path))
    assert tree.lacks("/") is None

    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "open", failing)
    assert tree.lacks("/") is None

# SPDX-License-Identifier: Apache-2.0
"""The kernel that is started without the firmware: which one it is, what is refused, and what comes then."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bareon.boot import kexec, loaded, several, single, systemd_boot
from bareon.boot.disks import BootDisk
from bareon.boot.entries import grub_cfg
from bareon.boot.entries.entry import BootEntry
from bareon.boot.loaded import LoadKernel
from bareon.boot.menu import FOLDER, Entry, configuration, environment, once
from bareon.boot.platform import PC_UEFI
from bareon.boot.several import InstallMultiboot
from bareon.boot.single import InstallGrub
from bareon.errors import ActionFailed, CommandError
from bareon.system.tree import Tree
from bareon.tests.cases import HERE, load, plan_of
from bareon.tests.test_boot_systems import DEBIAN, GOOD, ROOT, deployed_tree
from bareon.tests.test_boot_systems import HERE as SYSTEMS
from bareon.tests.test_boot_systems import load as load_system
from bareon.tests.test_systemd_boot import ARCH, ESP, Node
from bareon.tools import kexec as programs
from bareon.tools import mount, power

UEFI = BootDisk("/dev/vda", "x", PC_UEFI, ESP, 1, "g")
LOCKED = CommandError(["kexec", "--load"], 255, "failed with exit code 255", "", "kexec_file_load failed: why\n")


@dataclass
class Kernel:
    """The kernel that runs, as far as it loads others. ``refuses`` is what it says instead."""

    loaded: tuple[str, str | None, str] | None = None
    initrd: bytes = b""
    refuses: Exception | None = None
    room: int = 1 << 30
    told: list[str] = field(default_factory=list)

    def load(self, kernel: str, initrd: str | None, arguments: str) -> None:
        if self.refuses:
            raise self.refuses
        self.loaded = (kernel, initrd, arguments)
        self.initrd = Path(initrd).read_bytes() if initrd else b""

    def unload(self) -> None:
        self.loaded = None

    def tell(self, word: str, refuses: bool = False) -> Callable[[], None]:
        def told() -> None:
            self.told.append(word)
            if refuses and self.refuses:
                raise self.refuses

        return told


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Nothing of this machine is unmounted or started."""
    found = Kernel()
    monkeypatch.setattr(programs, "load", found.load)
    monkeypatch.setattr(programs, "unload", found.unload)
    monkeypatch.setattr(programs, "is_loaded", lambda: found.loaded is not None)
    monkeypatch.setattr(programs, "room", lambda: found.room)
    monkeypatch.setattr(programs, "execute", found.tell("kexec", refuses=True))
    monkeypatch.setattr(programs, "shut_down", found.tell("systemd"))
    monkeypatch.setattr(mount, "unmount_all", found.tell("umount"))
    monkeypatch.setattr(power, "write_back", found.tell("sync"))
    return found


@dataclass(frozen=True)
class Written:
    """A boot loader that starts an entry."""

    entry: BootEntry
    tree: Tree

    @contextlib.contextmanager
    def starting(self) -> Iterator[tuple[BootEntry, Tree]]:
        yield self.entry, self.tree


def run(entry: BootEntry, tree: Tree) -> Mapping[str, object]:
    return LoadKernel("do_bootloader", "a", Written(entry, tree)).run(lambda *_: None)


@pytest.mark.parametrize(
    "path", [x for x in sorted(SYSTEMS.glob("*.yaml")) if "boots" in x.read_text()], ids=lambda x: x.stem
)
def test_the_entry_that_each_system_boots(path: Path, tmp_path: Path, kernel: Kernel) -> None:
    """Kernel, initramfs and every word are those that GRUB hands over."""
    case = load_system(path)
    tree, _ = deployed_tree(case, tmp_path)
    ((place, text),) = case["menu"].items()
    tree.write(place, text)
    entry = grub_cfg.default(tree, place)
    done = run(entry, tree)
    if not entry.certain:  # there is a loop in it
        assert done["kexec"] == "not loaded"
        return
    assert done == {"kexec": "loaded"} and kernel.loaded, done
    *files, line = kernel.loaded
    # SUSE has links in /boot; several archives are put together elsewhere.
    named = [str(Path(tree.root, "boot", Path(x).name).resolve()) for x in (entry.kernel, *entry.initrds)]
    assert files == named or (len(named) > 2 and files[0] == named[0])
    assert line.split() == list(entry.arguments)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"certain": False}, "stands beside commands that might choose or start something else"),
        ({"hypervisor": "/xen.gz"}, "starts /xen.gz first, which is no kernel of Linux"),
        ({"kernel": ""}, "starts an EFI program, such as a unified kernel image, or another boot loader"),
        ({"kernel": "/boot/vmlinuz-7"}, "names /boot/vmlinuz-7, which is not there"),
        ({"initrds": ("newc:x:/boot/initrd.img-6.1",)}, "names newc:x:/boot/initrd.img-6.1, which is not there"),
        ({"arguments": ("ro", "a\0b")}, "a command line with a byte of zero in it"),
    ],
)
def test_what_the_boot_loader_alone_can_start(
    change: dict[str, Any], reason: str, tmp_path: Path, kernel: Kernel
) -> None:
    tree, _ = deployed_tree(DEBIAN, tmp_path)
    kernel.loaded = ("that of an earlier run", None, "")
    done = run(replace(GOOD, **change), tree)
    assert done["kexec"] == "not loaded" and kernel.loaded is None
    warned = str(done["warnings"])
    assert warned.startswith("its kernel is not loaded, so that the firmware restarts the node: ")
    assert warned.endswith(reason)


def test_what_the_running_kernel_refuses(tmp_path: Path, kernel: Kernel) -> None:
    tree, _ = deployed_tree(DEBIAN, tmp_path)
    kernel.refuses = LOCKED
    assert str(run(GOOD, tree)["warnings"]).endswith("kexec failed with exit code 255: kexec_file_load failed: why")
    kernel.refuses = OSError(28, "No space left on device")
    assert str(run(GOOD, tree)["warnings"]).endswith("restarts the node: No space left on device")


def test_memory_is_not_filled(tmp_path: Path, kernel: Kernel) -> None:
    tree, _ = deployed_tree(DEBIAN, tmp_path)
    with Path(tree.outside("/boot/initrd.img-6.1")).open("ab") as file:
        file.truncate(1 << 40)
    assert "which take 3 times as much memory; 1 GiB are left" in str(run(GOOD, tree)["warnings"])


def test_no_link_of_an_image_leads_outside(tmp_path: Path, kernel: Kernel) -> None:
    (tmp_path / "system").mkdir()
    tree, _ = deployed_tree(DEBIAN, tmp_path / "system")
    (tmp_path / "secret").write_text("x")
    tree.remove("/boot/initrd.img-6.1")
    for target in (str(tmp_path / "secret"), "../../secret"):
        Path(tree.outside("/boot/initrd.img-6.1")).symlink_to(target)
        assert "which is not there" in str(run(GOOD, tree)["warnings"])
        tree.remove("/boot/initrd.img-6.1")
    Path(tree.outside("/boot/initrd.img-6.1")).symlink_to("real")
    tree.write("/boot/real", "x")
    assert run(GOOD, tree) == {"kexec": "loaded"}
    assert kernel.loaded and kernel.loaded[1] == tree.outside("/boot/real")


def test_several_archives_become_one(tmp_path: Path, kernel: Kernel) -> None:
    tree, _ = deployed_tree(DEBIAN, tmp_path)
    tree.write("/boot/ucode.img", "12345")
    assert run(replace(GOOD, initrds=("/boot/ucode.img", *GOOD.initrds)), tree) == {"kexec": "loaded"}
    assert kernel.initrd == b"12345\0\0\0x\0\0\0"
    assert kernel.loaded and kernel.loaded[1] and not Path(kernel.loaded[1]).exists()


@pytest.mark.parametrize(
    ("archives", "whole"),
    [([], b""), ([b"abcd"], b"abcd"), ([b"a", b"", b"bcdef"], b"a\0\0\0bcdef\0\0\0")],
)
def test_where_archives_begin(archives: Sequence[bytes], whole: bytes) -> None:
    file = io.BytesIO()
    loaded.join([io.BytesIO(x) for x in archives], file)
    assert file.getvalue() == whole


def test_a_word_with_a_blank_stays_one() -> None:
    assert [*map(loaded._quoted, ("ro", "x.dyndbg=file a +p", 'y="a b"'))] == [
        *("ro", '"x.dyndbg=file a +p"', 'y="a b"'),
    ]


def test_what_grub_of_an_image_or_of_the_ramdisk_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, planned = deployed_tree(DEBIAN, tmp_path)
    monkeypatch.setattr(single, "mounted_tree", lambda *_, **__: contextlib.nullcontext(tree))
    step = InstallGrub("do_bootloader", "a", planned, (UEFI,), "")
    for folder, name in (("/boot/grub", "ours"), ("/boot/grub2", "theirs")):
        tree.write(f"{folder}/grub.cfg", f"menuentry {name} {{ linux /boot/vmlinuz-6.1 root=UUID={ROOT}; }}\n")
    for programs_run, brings, title in ((True, False, "ours"), (True, True, "theirs"), (False, True, "ours")):
        if brings:
            tree.write("/usr/sbin/grub2-mkconfig", "x")
            tree.write(f"/usr/lib/grub/{PC_UEFI.grub_target}/normal.mod", "x")
        with replace(step, programs=programs_run).starting() as (entry, found):
            assert (entry.title, entry.kernel, found) == (title, "/boot/vmlinuz-6.1", tree)


def test_what_systemd_boot_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> None:
    node = Node(ARCH, tmp_path, monkeypatch)
    node.install("console=ttyS0")
    step = InstallGrub("do_bootloader", "a", node.planned, (UEFI,), "")
    assert LoadKernel("do_bootloader", "a", step).run(lambda *_: None) == {"kexec": "loaded"}
    folder = f"{node.esp.root}/arch/6.11.7-arch1-1"
    assert kernel.loaded == (f"{folder}/linux", f"{folder}/initrd.img", f"root=UUID={ROOT} ro rw quiet console=ttyS0")


def test_a_unified_kernel_image_is_left_to_the_firmware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel
) -> None:
    node = Node({**ARCH, "kernels": {}, "others": []}, tmp_path, monkeypatch)
    node.unify("/usr/lib/modules/6.11.7-arch1-1/linux.efi")
    node.install()
    step = InstallGrub("do_bootloader", "a", node.planned, (UEFI,), "")
    done = LoadKernel("do_bootloader", "a", step).run(lambda *_: None)
    assert done["kexec"] == "not loaded" and "starts an EFI program" in str(done["warnings"])


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ("default arch-*.conf\ntimeout 3\n", "arch-6.12"),
        ("default arch-6.6.conf\n", "arch-6.6"),
        ("#default arch-6.6.conf\n", None),
        ("", None),
    ],
)
def test_the_default_of_systemd_boot(settings: str, found: str | None, tmp_path: Path) -> None:
    esp = Tree(str(tmp_path), name="the partition")
    esp.write("/loader/loader.conf", settings)
    for name in ("arch-6.6", "arch-6.12", "other-7"):
        esp.write(f"/loader/entries/{name}.conf", f"title {name}\nlinux /{name}\n")
    if found:
        assert systemd_boot.default(esp).kernel == f"/{found}"
    else:
        with pytest.raises(ActionFailed, match="the partition has no entry that is the default"):
            systemd_boot.default(esp)


def test_what_a_menu_of_several_images_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = plan_of(load(HERE / "cases/plan/multiboot-copies.yaml")).steps[-1]
    assert isinstance(step, InstallMultiboot)
    names = [x.name for x in step.images]
    trees = {f"{several.ROOT}/images/{n}": Tree(str(tmp_path / x)) for n, x in enumerate(names)}
    menu = trees[f"{several.ROOT}/multiboot/0"] = Tree(str(tmp_path / "menu"))
    (tmp_path / "menu").mkdir()
    entries = [Entry(x, f"/vmlinuz-{x}", f"/initrd-{x}", f"uuid-{x}", ("ro", x)) for x in names]
    number = names.index(step.default)
    menu.write(f"{FOLDER}/grub.cfg", configuration(entries, once(["one", "two"]), default=number))
    menu.write(f"{FOLDER}/grubenv", environment())
    monkeypatch.setattr(several, "mounted_tree", lambda *_, root, **__: contextlib.nullcontext(trees[root]))
    with step.starting() as (entry, tree):
        assert entry == BootEntry(
            *(step.default, f"{FOLDER}/grub.cfg", f"/vmlinuz-{step.default}", (f"/initrd-{step.default}",)),
            *(("ro", step.default), f"uuid-{step.default}", step.default),
        )
        assert tree is trees[f"{several.ROOT}/images/{number}"]


def test_a_hypervisor_is_told_from_a_kernel(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/boot/grub/grub.cfg", "menuentry X { multiboot2 (hd0)/xen.gz a\n module2 /vmlinuz b ro\n}\n")
    entry = grub_cfg.default(tree, "/boot/grub/grub.cfg")
    assert (entry.hypervisor, entry.kernel) == ("/xen.gz", "/vmlinuz")


def test_without_the_program_the_firmware_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, _ = deployed_tree(DEBIAN, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    step = LoadKernel("do_bootloader", "a", Written(GOOD, tree))
    assert step.preflight() == ["kexec is not installed: the firmware restarts the node"]
    assert str(step.run(lambda *_: None)["warnings"]).endswith("kexec is not installed")


def test_a_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kernel: Kernel) -> None:
    monkeypatch.setattr(kexec, "_SYSTEMD", tmp_path / "systemd")
    assert (kexec.start(), kernel.told) == ("no kernel is loaded", [])
    kernel.loaded = ("/vmlinuz", None, "")
    kernel.refuses = LOCKED
    assert kexec.start() == "kexec failed with exit code 255: kexec_file_load failed: why"
    assert kernel.told == ["sync", "umount", "kexec"]
    kernel.told.clear()
    (tmp_path / "systemd").mkdir()
    assert (kexec.start(), kernel.told) == (None, ["sync", "systemd"])

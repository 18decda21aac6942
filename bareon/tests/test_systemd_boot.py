# SPDX-License-Identifier: Apache-2.0
"""Images that bring systemd-boot: what comes to lie on the EFI system partitions, and what boots."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bareon.boot import nvram, single, systemd_boot
from bareon.boot.disks import BootDisk
from bareon.boot.platform import PC_BIOS, PC_UEFI
from bareon.boot.single import InstallGrub
from bareon.errors import ActionFailed, UnsuitableNode
from bareon.model.layout import Layout
from bareon.step import Outcome
from bareon.storage.filesystem import Filesystem, Mount, Mounted, PlannedFilesystem
from bareon.system.tree import Tree
from bareon.tests import efiprogram
from bareon.tests.earlyimage import EarlyImage
from bareon.tests.test_boot_systems import OLD, ROOT, deployed_tree
from bareon.tools import mount, pe, secure_boot, udev
from bareon.tools.secure_boot import Keys
from bareon.tools.signature_list import Signatures

LOADER = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
ESP = PlannedFilesystem("/dev/vda1", 1, "vfat", "ABCD-0001", Filesystem("vfat", ()))
ARCH: dict[str, Any] = {
    "kernels": {"vmlinuz-linux": "6.11.7-arch1-1", "vmlinuz-linux-lts": "6.6.60-1-lts"},
    "others": ["initramfs-linux.img", "initramfs-linux-lts.img"],
    "files": {
        LOADER: "MZ loader",
        "/etc/os-release": "ID=arch\n",
        "/etc/kernel/cmdline": f"root=UUID={OLD} rw quiet\n",
        "/boot/loader/loader.conf": "default arch.conf\ntimeout 7\n#editor yes\nconsole-mode max\n",
    },
}
FEDORA: dict[str, Any] = {
    "kernels": {},
    "files": {
        LOADER: "MZ loader",
        "/etc/os-release": "ID=fedora\n",
        "/usr/lib/modules/6.11.4-301.fc41.x86_64/modules.dep": "",
        "/usr/lib/modules/6.11.4-301.fc41.x86_64/vmlinuz": "not in /boot",
    },
}


class Node:
    """A node on which an image is made bootable: its system, and its EFI system partition."""

    def __init__(self, case: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (place / "system").mkdir()
        (place / "esp").mkdir()
        self.system, self.planned = deployed_tree(case, place / "system")
        self.esp = Tree(str(place / "esp"))
        self.loaders: list[str] = []
        monkeypatch.setattr(single, "mounted_tree", self._tree)
        monkeypatch.setattr(systemd_boot, "PLACE", self.esp.root)
        monkeypatch.setattr(mount, "mounted", lambda *_, **__: contextlib.nullcontext())
        monkeypatch.setattr(nvram, "remember", self._remember)
        monkeypatch.setattr(udev, "settle", lambda: None)

    @contextlib.contextmanager
    def _tree(self, *_: object, **__: object) -> Iterator[Tree]:
        yield self.system

    def _remember(self, _: Sequence[BootDisk], loaders: Sequence[str], __: str) -> Outcome:
        self.loaders = list(loaders)
        return {"nvram": "1 entry"}

    def unify(self, path: str, cmdline: bytes = b"", sections: Mapping[str, bytes] = {}) -> bytes:
        """Put a unified kernel image into the system, and return it."""
        content = efiprogram.program({".cmdline": cmdline, ".linux": b"MZ", ".initrd": b"cpio", **sections})
        folder, _, name = path.rpartition("/")
        Path(self.system.folder(folder), name).write_bytes(content)
        return content

    def install(self, asked: str = "", *, bios: bool = False, secure_boot: bool = False) -> Outcome:
        """What the step tells."""
        disk = BootDisk("/dev/vda", "bareon x", PC_UEFI, ESP, 1, "9f6f4a37")
        if bios:
            disk = BootDisk("/dev/vda", "bareon x", PC_BIOS)
        step = InstallGrub("do_bootloader", "a", self.planned, (disk,), asked, secure_boot=secure_boot)
        return step.run(lambda *_: None)

    @property
    def files(self) -> list[str]:
        """The files on the EFI system partition."""
        root = Path(self.esp.root)
        return sorted(str(x.relative_to(root)) for x in root.rglob("*") if x.is_file())


def test_kernels_of_boot_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(ARCH, tmp_path, monkeypatch)
    assert node.install("console=ttyS0") == {"systemd_boot": "image", "nvram": "1 entry"}
    assert node.loaders == ["\\EFI\\systemd\\systemd-bootx64.efi"]
    assert node.files == [
        "EFI/BOOT/BOOTX64.EFI",
        "EFI/systemd/systemd-bootx64.efi",
        "arch/6.11.7-arch1-1/initrd.img",
        "arch/6.11.7-arch1-1/linux",
        "arch/6.6.60-1-lts/initrd.img",
        "arch/6.6.60-1-lts/linux",
        "loader/entries.srel",
        "loader/entries/arch-6.11.7-arch1-1.conf",
        "loader/entries/arch-6.6.60-1-lts.conf",
        "loader/loader.conf",
    ]
    assert node.esp.read("/loader/loader.conf") == (
        "# Written by bareon.\ndefault arch-*.conf\ntimeout 7\nconsole-mode max\n"
    )
    assert node.esp.read("/loader/entries/arch-6.11.7-arch1-1.conf") == (
        "# Written by bareon.\n"
        "title a, 6.11.7-arch1-1\n"
        "version 6.11.7-arch1-1\n"
        "linux /arch/6.11.7-arch1-1/linux\n"
        "initrd /arch/6.11.7-arch1-1/initrd.img\n"
        f"options root=UUID={ROOT} ro rw quiet console=ttyS0\n"
    )
    kernel = node.system.content("/boot/vmlinuz-linux")
    assert kernel and node.esp.content("/arch/6.11.7-arch1-1/linux") == kernel
    # What kernel-install makes entries of, later on, and how it calls them.
    assert node.system.read("/etc/kernel/entry-token") == "arch\n"
    assert node.system.read("/etc/kernel/cmdline") == f"root=UUID={ROOT} rw quiet console=ttyS0\n"


def test_again_leaves_nothing_of_the_document_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(ARCH, tmp_path, monkeypatch)
    node.install("console=ttyS0")
    node.esp.write("/loader/entries/windows.conf", "title other\nefi /EFI/other.efi\n")
    node.esp.write("/loader/entries/lies.conf", "# Written by bareon.\nefi /EFI/systemd/../../x\nlinux /EFI/other\n")
    for name in ("vmlinuz-linux", "initramfs-linux.img"):
        node.system.remove(f"/boot/{name}")
    node.install()
    assert [x for x in node.files if "arch" in x or "entries/" in x] == [
        "arch/6.6.60-1-lts/initrd.img",
        "arch/6.6.60-1-lts/linux",
        "loader/entries/arch-6.6.60-1-lts.conf",
        "loader/entries/windows.conf",
    ]
    assert not node.esp.has("/arch/6.11.7-arch1-1")
    assert "console" not in str(node.esp.read("/loader/entries/arch-6.6.60-1-lts.conf"))


def test_an_entry_that_nobody_checked_is_not_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(ARCH, tmp_path, monkeypatch)
    node.esp.write("/loader/entries/arch-7.0.conf", f"sort-key arch\nlinux /old\noptions root=UUID={OLD}\n")
    node.install()
    assert "default arch-6.11.7-arch1-1.conf\n" in str(node.esp.read("/loader/loader.conf"))


def test_a_unified_kernel_image_gets_the_root_of_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(FEDORA, tmp_path, monkeypatch)
    for name in ("arch-linux", "arch-linux-fallback"):
        content = node.unify(f"/boot/EFI/Linux/{name}.efi", f"root=UUID={OLD} rw splash\n\0".encode())
    assert node.install("quiet") == {"systemd_boot": "image", "nvram": "1 entry"}
    (entry,) = node.esp.names("/loader/entries")
    assert node.esp.read(f"/loader/entries/{entry}") == (
        "# Written by bareon.\n"
        "title a, arch-linux\n"
        "version arch-linux\n"
        "efi /fedora/arch-linux.efi\n"
        f"options root=UUID={ROOT} ro rw splash quiet\n"
    )
    assert node.esp.content("/fedora/arch-linux.efi") == content
    assert "default fedora-arch-linux.conf\n" in str(node.esp.read("/loader/loader.conf"))


def test_one_of_a_package_lies_beside_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(FEDORA, tmp_path, monkeypatch)
    node.unify("/usr/lib/modules/6.11.4-301.fc41.x86_64/vmlinuz-virt.efi")
    node.install()
    text = str(node.esp.read("/loader/entries/fedora-6.11.4-301.fc41.x86_64.conf"))
    assert f"efi /fedora/6.11.4-301.fc41.x86_64.efi\noptions root=UUID={ROOT} ro\n" in text


def test_one_on_the_partition_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(FEDORA, tmp_path, monkeypatch)
    own = Mounted(ESP, Mount("/boot/efi"))
    node.system = Tree(node.system.root, (*node.system.mounts, own))
    content = node.unify("/boot/efi/EFI/Linux/fedora.efi")
    for _ in range(2):
        node.install()
        assert not node.files
        text = str(node.system.read("/boot/efi/loader/entries/fedora-fedora.conf"))
        assert f"efi /EFI/Linux/fedora.efi\noptions root=UUID={ROOT} ro\n" in text
        assert node.system.content("/boot/efi/EFI/Linux/fedora.efi") == content
        assert node.system.names("/boot/efi") == ["EFI", "loader"]


@pytest.mark.parametrize(
    ("cmdline", "reason"),
    [
        (f"root=UUID={OLD}", f"says root=UUID={OLD}; the root file system is UUID={ROOT}"),
        ("quiet", "names no root; the root file system is"),
    ],
)
def test_secure_boot_has_the_stub_go_by_what_is_built_in(
    cmdline: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(FEDORA, tmp_path, monkeypatch)
    known: set[bytes] = set()

    def keys() -> Keys:
        return Keys("enabled", Signatures(hashes=frozenset(("sha256", x) for x in known)))

    monkeypatch.setattr(secure_boot, "read", keys)

    def unify(line: str) -> None:
        known.add(pe.program(node.unify("/efi/EFI/Linux/fedora.efi", line.encode())).digest("sha256"))

    unify(cmdline)
    with pytest.raises(ActionFailed, match=reason):
        node.install(secure_boot=True)
    assert not node.files
    unify(f"root=UUID={ROOT}")
    node.install(secure_boot=True)
    # Without a line of its own it goes by that of the entry.
    unify("")
    node.install(secure_boot=True)
    known.clear()
    with pytest.raises(ActionFailed, match=r"/efi/EFI/Linux/fedora\.efi is not signed, and the firmware goes by"):
        node.install(secure_boot=True)


def test_what_has_no_room_is_left_out_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(ARCH, tmp_path, monkeypatch)
    sizes = [node.system.status(f"/boot/{x}") for x in ("vmlinuz-linux", "initramfs-linux.img")]
    first = sum(x.st_size for x in sizes if x)
    left = (1 << 20) + 2 * len("MZ loader") + first
    monkeypatch.setattr(mount, "free", lambda _: left)
    assert node.install()["left_out"] == "6.6.60-1-lts: the EFI system partition has no room for them"
    assert node.esp.names("/loader/entries") == ["arch-6.11.7-arch1-1.conf"]
    monkeypatch.setattr(mount, "free", lambda _: left - 1)
    with pytest.raises(ActionFailed, match=r"the EFI system partition /dev/vda1 has .* left for /boot/vmlinuz-linux"):
        node.install()


#: In MiB.
KERNELS = {"/boot/vmlinuz-6.1": 10, "/boot/initrd.img-6.1": 40, "/boot/vmlinuz-6.2": 12, "/boot/initrd.img-6.2": 50}
#: Neither of them is a kernel that would be copied.
OTHERS = {"/boot/vmlinuz-5.9": 1, "/boot/vmlinuz-6.3-rc1": 1, "/boot/initrd.img-6.3-rc1": 1, "/boot/config-6.1": 1}


@pytest.mark.parametrize(
    ("files", "size", "said"),
    [
        ({}, 0, []),
        ({LOADER: 1}, 0, []),
        (KERNELS, 0, []),
        ({LOADER: 1, **KERNELS, **OTHERS}, 115, []),
        (
            {LOADER: 1, **KERNELS, **OTHERS},
            114,
            [
                "the 2 kernels of image 'a' with their initramfs have 112 MiB; the EFI system partition /dev/vda1 has"
                " room for 111 MiB, so that older ones are left out"
            ],
        ),
        (
            {LOADER: 1, **KERNELS, **OTHERS},
            52,
            "image 'a' boots by systemd-boot, and /boot/vmlinuz-6.1 with its initramfs, the smallest of all, has 50"
            " MiB; the EFI system partition /dev/vda1 has room for 49 MiB: give it a volume of its own at /boot/efi"
            " that is larger",
        ),
        # GRUB reads them from where they are.
        ({LOADER: 1, **KERNELS, "/usr/sbin/grub-mkconfig": 1}, 52, []),
        (
            {f"{LOADER}.signed": 1, "/efi/EFI/Linux/a.efi": 60},
            62,
            "/efi/EFI/Linux/a.efi with its initramfs has 60 MiB",
        ),
        # That on the partition itself is there already.
        ({LOADER: 1, "/boot/efi/EFI/Linux/a.efi": 60}, 62, []),
    ],
)
def test_room_is_looked_at_before_the_first_write(
    files: dict[str, int], size: int, said: list[str] | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single.sandbox, "check", lambda: None)
    disk = BootDisk("/dev/vda", "bareon x", PC_UEFI, replace(ESP, size=size << 20), 1, "9f6f4a37")
    early = EarlyImage({path: bytes(size << 20) for path, size in files.items()})
    step = InstallGrub("do_bootloader", "a", Layout("clean", "uefi", ()), (disk,), "", early=early)
    if isinstance(said, list):
        assert step.preflight() == said
        return
    with pytest.raises(UnsuitableNode) as caught:
        step.preflight()
    assert said in str(caught.value)


def test_a_kernel_with_its_initramfs_comes_before_a_unified_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(ARCH, tmp_path, monkeypatch)
    node.unify("/boot/EFI/Linux/arch-linux.efi")
    node.install()
    assert not [x for x in node.files if x.startswith("arch/") and x.endswith(".efi")]
    for name in ARCH["others"]:
        node.system.remove(f"/boot/{name}")
    node.install()
    assert node.esp.names("/loader/entries") == ["arch-arch-linux.conf"]


def test_grub_of_the_image_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(ARCH, tmp_path, monkeypatch)
    monkeypatch.setattr(InstallGrub, "_from_image", lambda *_: {})
    node.system.write("/usr/bin/grub-mkconfig", "")
    node.system.write("/usr/lib/grub/x86_64-efi/normal.mod", "")
    assert node.install() == {"grub": "image"}
    assert not node.files


def test_a_bios_starts_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(FEDORA, tmp_path, monkeypatch)
    node.unify("/boot/EFI/Linux/a.efi")
    with pytest.raises(
        ActionFailed, match=r"a\.efi, which systemd-boot alone starts, on UEFI, .* GRUB needs a kernel"
    ):
        node.install(bios=True)
    node.system.remove(LOADER)
    with pytest.raises(ActionFailed, match="systemd-boot alone starts"):
        node.install()


def test_parameters_that_are_lost_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"/etc/default/grub": 'GRUB_CMDLINE_LINUX="quiet x=$(date)"\n', "/etc/kernel/cmdline": ""}
    node = Node({**ARCH, "files": ARCH["files"] | settings}, tmp_path, monkeypatch)
    assert "only a shell could read" in str(node.install()["warnings"])


def test_names_that_an_entry_cannot_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(ARCH, tmp_path, monkeypatch)
    node.system.write("/etc/kernel/entry-token", "../x\n")
    assert systemd_boot.token(node.system) == "arch"
    node.system.write("/etc/os-release", "ID=EFI\n")
    assert systemd_boot.token(node.system) == "bareon"
    start = systemd_boot.Start("6.1+3", "/boot/vmlinuz", title="a\nefi /x", arguments=("a=b c", "d"))
    assert systemd_boot.entry_name("arch", start) == "arch-6.1_3.conf"
    assert 'title aefi /x\nversion 6.1+3\nlinux /arch/6.1+3/linux\noptions "a=b c" d\n' in start.text("arch")
    signed = replace(PC_UEFI, systemd_boot="")
    assert systemd_boot.program(node.system, signed) is None
    node.system.write(f"{LOADER}.signed", "MZ signed")
    assert systemd_boot.program(node.system, PC_UEFI) == f"{LOADER}.signed"

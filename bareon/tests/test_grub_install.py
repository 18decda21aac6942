# SPDX-License-Identifier: Apache-2.0
"""GRUB of an image, installed without running anything of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.actions.base import Job
from bareon.actions.bootloader import Bootloader
from bareon.boot import install
from bareon.boot.disks import BootDisk
from bareon.boot.esp import vendor
from bareon.boot.install import Source, _staged
from bareon.boot.platform import PC_BIOS, PC_UEFI
from bareon.boot.signed import Signed, configuration, place, signed
from bareon.boot.single import InstallGrub, _own_grub
from bareon.errors import ActionFailed, UnsuitableNode
from bareon.model.deployment import Deployment
from bareon.storage.filesystem import Filesystem, PlannedFilesystem
from bareon.system import sandbox as system_sandbox
from bareon.system.tree import LARGEST, Tree
from bareon.tests.cases import HERE, load, node, plan_of
from bareon.tests.test_boot_systems import ROOT, deployed_tree
from bareon.tools import grub, mount, sandbox

GRUB = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An image with a signed GRUB of Debian, and shim as Ubuntu has it, behind a link of update-alternatives."""
    tree = Tree(str(tmp_path / "root"))
    Path(tree.root).mkdir()
    tree.write(GRUB, "MZ\0/EFI/debian\0signed")
    tree.write("/usr/lib/shim/shimx64.efi.signed.latest", "shim")
    tree.write("/usr/lib/shim/mmx64.efi.signed", "mokmanager, signed")
    tree.write("/usr/lib/shim/mmx64.efi", "mokmanager")
    tree.write("/usr/lib/shim/BOOTX64.CSV", "csv")
    shim = Path(tree.root, "usr/lib/shim")
    (shim / "shimx64.efi.signed").symlink_to("/etc/alternatives/shim")
    alternatives = Path(tree.root, "etc/alternatives")
    alternatives.mkdir(parents=True)
    (alternatives / "shim").symlink_to("/usr/lib/shim/shimx64.efi.signed.latest")
    return tree


def test_signed_programs_are_copied_to_the_folder_that_they_know(tree: Tree, tmp_path: Path) -> None:
    found = signed(tree, PC_UEFI)
    assert found
    assert found.folder == "debian"
    (tmp_path / "esp").mkdir()
    place(found, str(tmp_path / "esp"), "configuration")
    there = {path.name: path.read_text() for path in (tmp_path / "esp/EFI/debian").iterdir()}
    assert there == {
        "grubx64.efi": "MZ\0/EFI/debian\0signed",
        "shimx64.efi": "shim",
        "mmx64.efi": "mokmanager, signed",
        "BOOTX64.CSV": "csv",
        "grub.cfg": "configuration",
    }
    assert signed(tree, PC_BIOS) is None


def test_a_signed_grub_without_shim_is_alone(tree: Tree) -> None:
    Path(tree.root, "etc/alternatives/shim").unlink()
    found = signed(tree, PC_UEFI)
    assert found
    assert list(found.files) == ["grubx64.efi"]


@pytest.mark.parametrize("text", ["MZ", "\0/EFI/BOOT\0", "\0/EFI/../../x\0", "\0/EFI/\0"])
def test_a_signed_grub_with_no_folder_of_its_own_is_left_alone(
    tree: Tree, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    tree.write(GRUB, text)
    assert signed(tree, PC_UEFI) is None
    assert f"{GRUB} of the image names no folder of its own" in caplog.text


@pytest.mark.parametrize("folder", ["fedora", "redhat", "rocky"])
def test_an_image_whose_vendor_has_them_on_the_esp(tmp_path: Path, folder: str) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/etc/os-release", "ID=whatever\n")
    place_there = f"/boot/efi/EFI/{folder}"
    for name, text in (("grubx64.efi", f"MZ\0/EFI/{folder}\0"), ("shimx64.efi", "shim"), ("mmx64.efi", "mm")):
        tree.write(f"{place_there}/{name}", text)
    # Of an installation by grub-install, with no folder in it.
    tree.write("/boot/efi/EFI/ubuntu/grubx64.efi", "MZ\0(,gpt2)/boot/grub\0")
    found = signed(tree, PC_UEFI)
    assert found == Signed(
        folder, {"grubx64.efi": f"MZ\0/EFI/{folder}\0".encode(), "shimx64.efi": b"shim", "mmx64.efi": b"mm"}
    )


def test_signed_programs_of_fedora_44(tmp_path: Path) -> None:
    """Each version of a package has a folder of its own there, and nothing is on the EFI system partition."""
    tree = Tree(str(tmp_path))
    for version in ("1:2.12-9.fc44", "1:2.12-60.fc44"):
        folder = f"/usr/lib/efi/grub2/{version}/EFI/fedora"
        tree.write(f"{folder}/grubx64.efi", f"MZ\0/EFI/fedora\0{version}")
        tree.write(f"{folder}/gcdx64.efi", "MZ\0/EFI/BOOT\0")
    for version in ("15.8-3", "16.1-5"):
        folder = f"/usr/lib/efi/shim/{version}/EFI"
        tree.write(f"{folder}/BOOT/BOOTX64.EFI", f"shim {version}")
        tree.write(f"{folder}/BOOT/fbx64.efi", f"fallback {version}")
        for name in ("shimx64.efi", "shim.efi", "mmx64.efi", "BOOTX64.CSV"):
            tree.write(f"{folder}/fedora/{name}", f"{name} {version}")
    assert signed(tree, PC_UEFI) == Signed(
        "fedora",
        {
            "grubx64.efi": b"MZ\0/EFI/fedora\x001:2.12-60.fc44",
            "shimx64.efi": b"shimx64.efi 16.1-5",
            "mmx64.efi": b"mmx64.efi 16.1-5",
            "fbx64.efi": b"fallback 16.1-5",
            "BOOTX64.CSV": b"BOOTX64.CSV 16.1-5",
        },
    )


def test_signed_programs_of_suse(tmp_path: Path) -> None:
    """Its GRUB goes by the folder it lies in, and its shim looks for grub.efi."""
    tree = Tree(str(tmp_path))
    tree.write("/etc/os-release", 'ID="opensuse-leap"\n')
    tree.write("/etc/default/grub", 'GRUB_DISTRIBUTOR="opensuse"\n')
    for name in ("shim", "grub", "MokManager", "fallback"):
        tree.write(f"/usr/share/efi/x86_64/{name}.efi", name)
    assert signed(tree, PC_UEFI) == Signed(
        "opensuse",
        {"grubx64.efi": b"grub", "shimx64.efi": b"shim", "grub.efi": b"grub", "MokManager.efi": b"MokManager"},
    )


def test_nothing_is_copied_from_outside_of_the_tree(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\0/EFI/debian\0secret")
    Path(tree.root + GRUB).unlink()
    Path(tree.root + GRUB).symlink_to(tmp_path / "secret")
    assert signed(tree, PC_UEFI) is None


def test_an_endless_program_is_no_program(tree: Tree) -> None:
    with Path(tree.root + GRUB).open("ab") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(ActionFailed, match="at most 16 MiB are read"):
        signed(tree, PC_UEFI)


def test_configuration_beside_a_signed_grub() -> None:
    text = "search.fs_uuid u-1 root\nset prefix=($root)'/grub'\nconfigfile ($root)'/grub/grub.cfg'\n"
    assert configuration("u-1", "/grub", prefix=True) == text
    # Modules of another build are there, which a signed GRUB would load.
    assert "prefix" not in configuration("u-1", "/grub", prefix=False)


@pytest.mark.parametrize(
    ("defaults", "os_release", "folder"),
    [
        ("GRUB_DISTRIBUTOR=Debian\n", "ID=other\n", "debian"),
        ('GRUB_DISTRIBUTOR="My Cloud"\n', "ID=debian\n", "my"),
        ("GRUB_DISTRIBUTOR=`lsb_release -i -s || echo Debian`\n", "ID=ubuntu\n", "ubuntu"),
        ("GRUB_DISTRIBUTOR=../x\n", 'ID="BOOT"\n', "grub"),
        ("", "", "grub"),
    ],
)
def test_folder_of_a_grub_without_a_signature(tmp_path: Path, defaults: str, os_release: str, folder: str) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/etc/default/grub", defaults)
    tree.write("/etc/os-release", os_release)
    assert vendor(tree) == folder


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """What is bound where, in place of doing it: links."""
    found: dict[str, str] = {}

    @contextlib.contextmanager
    def mounted(source: str, target: str, *, kind: str | None = None, options: str | None = None) -> Iterator[str]:
        assert (kind, options) == ("bind", None)
        found[target.removeprefix(str(tmp_path))] = source
        Path(target).rmdir()
        Path(target).symlink_to(source)
        yield target

    monkeypatch.setattr(mount, "mounted", mounted)
    monkeypatch.setattr(install, "PLACE", str(tmp_path / "stage"))
    return found


def test_grub_is_put_together_from_the_tree(tree: Tree, tmp_path: Path, bound: dict[str, str]) -> None:
    tree.write("/usr/lib/grub/i386-pc/normal.mod", "module")
    # Of the package of GRUB for EFI of Fedora and its kin.
    grub2 = Path(tree.folder("/boot/grub2"))
    (grub2 / "grubenv").symlink_to("../efi/EFI/redhat/grubenv")
    with _staged(Source(tree, "/boot/grub2", "/usr/lib/grub/i386-pc"), "i386-pc") as (boot, modules):
        assert (boot, modules) == (f"{tmp_path}/stage/boot", f"{tmp_path}/stage/modules")
    assert bound == {
        "/stage/boot/grub": f"{tree.root}/boot/grub2",
        "/stage/modules": f"{tree.root}/usr/lib/grub/i386-pc",
    }
    assert list(grub2.iterdir()) == []


@pytest.mark.parametrize(
    ("there", "modules", "prefix"), [(False, False, True), (True, False, False), (False, True, True)]
)
def test_a_signed_grub_is_not_put_together_of_foreign_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, there: bool, modules: bool, prefix: bool
) -> None:
    """Those of its own build are installed, those of another that are there are kept out of its sight."""
    (tmp_path / "root").mkdir()
    tree, _ = deployed_tree({"kernels": {}, "files": {}}, tmp_path / "root")
    if there:
        tree.write("/boot/grub2/x86_64-efi/normal.mod", "of another build")
    if modules:
        tree.write("/usr/lib/grub/x86_64-efi/normal.mod", "of its own")
    calls: list[str] = []

    @contextlib.contextmanager
    def mounted(source: str, target: str, *, kind: str, **_: object) -> Iterator[str]:
        if kind == "bind":
            Path(target).rmdir()
            Path(target).symlink_to(source)
        yield target
        if kind == "bind":
            Path(target).unlink()

    monkeypatch.setattr(mount, "mounted", mounted)
    monkeypatch.setattr(mount, "write_back", lambda _: None)
    monkeypatch.setattr(install, "PLACE", str(tmp_path / "stage"))
    monkeypatch.setattr(grub, "install_uefi", lambda *_, modules, **__: calls.append(modules))
    monkeypatch.setattr(grub, "relative", lambda _: "/boot/grub2")
    esp = PlannedFilesystem("/dev/vda1", 1, "vfat", "ABCD-0001", Filesystem("vfat", ()))
    found = Signed("fedora", {"grubx64.efi": b"grub", "shimx64.efi": b"shim"})
    source = Source(tree, "/boot/grub2", "/usr/lib/grub/x86_64-efi" if modules else "", "fedora", found)
    loaders = install.install_loaders([BootDisk("/dev/vda", "bareon x", PC_UEFI, esp)], source)
    assert loaders == ["\\EFI\\fedora\\shimx64.efi"]
    assert calls == ([f"{tmp_path}/stage/modules"] if modules else [])
    text = str(tree.read("/boot/efi/EFI/fedora/grub.cfg"))
    assert f"search.fs_uuid {ROOT} root\n" in text
    assert ("set prefix=($root)'/boot/grub2'\n" in text) == prefix
    assert tree.read("/boot/efi/EFI/BOOT/BOOTX64.EFI") == "shim"


def test_the_ramdisk_s_modules(tree: Tree, bound: dict[str, str]) -> None:
    with _staged(Source(tree, "/boot/grub"), "i386-pc") as (_, modules):
        assert modules == "/usr/lib/grub/i386-pc"
    assert list(bound) == ["/stage/boot/grub"]


@pytest.mark.parametrize(
    "link", ["usr/lib/grub/i386-pc", "usr/lib/grub/i386-pc/evil.mod", "boot/grub", "boot/grub/i386-pc", "boot/grub/x"]
)
def test_links_where_grub_is_are_refused(tree: Tree, tmp_path: Path, bound: dict[str, str], link: str) -> None:
    tree.folder("/usr/lib/grub")
    if link != "usr/lib/grub/i386-pc":
        tree.write("/usr/lib/grub/i386-pc/normal.mod", "module")
    if link != "boot/grub":
        tree.folder("/boot/grub")
    tree.folder("/boot")
    Path(tree.root, link).symlink_to(tmp_path)
    with (
        pytest.raises(ActionFailed, match="a link"),
        _staged(Source(tree, "/boot/grub", "/usr/lib/grub/i386-pc"), "i386-pc"),
    ):
        pass
    assert "/stage/modules" not in bound


def test_endless_modules_are_refused(tree: Tree, bound: dict[str, str]) -> None:
    for name in ("kernel.img", "a.mod"):
        tree.write(f"/usr/lib/grub/i386-pc/{name}", "")
        with Path(tree.root, "usr/lib/grub/i386-pc", name).open("wb") as file:
            file.truncate(install._LARGEST // 2 + 1)
    with (
        pytest.raises(ActionFailed, match="more than 64 MiB"),
        _staged(Source(tree, "/boot/grub", "/usr/lib/grub/i386-pc"), "i386-pc"),
    ):
        pass


def test_the_image_needs_no_grub_install(tree: Tree) -> None:
    tree.write("/usr/lib/grub/x86_64-efi/normal.mod", "")
    assert _own_grub(tree.is_file, "x86_64-efi") is None
    tree.write("/usr/sbin/grub2-mkconfig", "")
    folder = "/usr/lib/grub/x86_64-efi"
    assert _own_grub(tree.is_file, "x86_64-efi") == ("grub2-mkconfig", "/boot/grub2", folder)
    assert _own_grub(tree.is_file, "i386-pc") is None
    # Of SUSE.
    tree.write("/usr/share/grub2/i386-pc/normal.mod", "")
    assert _own_grub(tree.is_file, "i386-pc") == ("grub2-mkconfig", "/boot/grub2", "/usr/share/grub2/i386-pc")


def _step(name: str) -> InstallGrub:
    step = plan_of(load(HERE / "cases/plan" / f"{name}.yaml")).steps[-1]
    assert isinstance(step, InstallGrub)
    return replace(step, early=None)  # there is no server


def test_without_programs_the_ramdisk_s_grub_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grub, "has_modules", lambda target: target == "x86_64-efi")
    checked = []
    monkeypatch.setattr(system_sandbox, "check", lambda: checked.append(1))
    step = _step("image-programs-none")
    with pytest.raises(UnsuitableNode, match="no GRUB for i386-pc, which --image_programs none needs"):
        step.preflight()
    _step("uefi-boot-loader").preflight()
    assert checked == [1]
    replace(_step("uefi-boot-loader"), programs=False).preflight()
    assert checked == [1]


def test_the_sandbox_is_required_where_a_program_of_an_image_can_run() -> None:
    def required(name: str, choice: str) -> bool:
        case = load(HERE / "cases/plan" / f"{name}.yaml")
        layout = plan_of(case).layout
        action = Bootloader()
        action.configure({"image_programs": choice})
        job = Job(Deployment("clean", ()), node(case["node"]), layout, (), None, None)  # type: ignore[arg-type]
        return set(sandbox.PROGRAMS) <= set(action.requires(job))

    assert required("uefi-boot-loader", "sandbox")
    assert not required("uefi-boot-loader", "none")
    assert not required("multiboot", "sandbox")  # its menu is bareon's own

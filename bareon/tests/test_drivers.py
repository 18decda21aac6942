# SPDX-License-Identifier: Apache-2.0
"""Drivers of disks, and kernels that have them or not."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from bareon import probe
from bareon.boot import drivers
from bareon.boot.drivers import VerifyDrivers
from bareon.drivers.deploy.early import EarlyFiles
from bareon.errors import ActionFailed, UnsuitableNode
from bareon.storage.disk import Driver
from bareon.system.module import lacking, named
from bareon.system.program import absent, paths
from bareon.system.tree import Tree
from bareon.tests import cases, efiprogram
from bareon.tests.earlyimage import EarlyImage
from bareon.tests.test_carried import archive
from bareon.tools import driver

AHCI = Driver("ahci", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01")
SD = Driver("sd_mod", "scsi:t-0x00")
BLK = Driver("virtio_blk", "virtio:d00000002v00001AF4")
ALL = [AHCI, SD, BLK]

#: As depmod(8) writes them, and the kernel's build.
DEP = b"kernel/drivers/scsi/sd_mod.ko.xz: kernel/lib/crc-t10dif.ko.xz\nkernel/drivers/block/virtio_blk.ko.zst:\n"
ALIAS = (
    b"# Aliases extracted from modules themselves.\nalias scsi:t-0x00* sd_mod\nalias virtio:d00000002v* virtio_blk\n"
)
BUILTIN = b"kernel/drivers/ata/ahci.ko\n"
BUILTIN_ALIAS = b"ahci.license=GPL\0ahci.alias=pci:v*d*sv*sd*bc01sc06i01*\0"


@pytest.mark.parametrize(
    ("index", "gone"),
    [
        ({"modules.dep": DEP}, [AHCI]),
        ({"modules.dep": DEP, "modules.alias": ALIAS}, [AHCI]),
        ({"modules.dep": DEP, "modules.builtin": BUILTIN}, []),
        # Another driver may be there for the same device.
        ({"modules.dep": DEP, "modules.alias": b"alias pci:v00008086d00002922sv*sd*bc*sc*i* ata_piix\n"}, []),
        ({"modules.dep": DEP, "modules.alias": b"alias pci:v0000[18]086d*bc0106* x\n"}, [AHCI]),
        ({"modules.dep": DEP, "modules.builtin.modinfo": BUILTIN_ALIAS}, []),
        ({"modules.dep": b""}, ALL),
        ({"modules.builtin": b"kernel/drivers/block/virtio-blk.ko\n"}, [AHCI, SD]),
        # Without a list of names nothing is known of the rest.
        ({}, []),
        ({"modules.alias": ALIAS}, []),
        ({"modules.dep": b"\xff\xfe: \n:\n\n", "modules.alias": b"alias\nalias x\n\xff y z\n"}, ALL),
    ],
)
def test_what_a_kernel_lacks(index: Mapping[str, bytes], gone: Sequence[Driver]) -> None:
    assert lacking(ALL, index) == gone


def test_names_are_those_that_the_kernel_has() -> None:
    assert named({"modules.dep": DEP, "modules.builtin": b"kernel/drivers/md/dm-mod.ko\n"}) == {
        *("sd_mod", "virtio_blk", "dm_mod")
    }


def test_drivers_are_read_from_the_disk_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux 6.1 has a disk at an AHCI controller: folders of the port and the host have no driver."""
    monkeypatch.setattr(driver, "SYS", tmp_path / "sys")
    monkeypatch.setattr(driver, "MODULES", tmp_path / "modules")
    pci = tmp_path / "sys/devices/pci0000:00/0000:00:1f.2"
    scsi = pci / "ata1/host0/target0:0:0/0:0:0:0"
    (scsi / "block/sda").mkdir(parents=True)
    # A module may have a name with a hyphen, which the kernel shows as it was built.
    for folder, name, module, alias in ((pci, "ahci", "ahci", AHCI.modalias), (scsi, "sd", "sd-mod", SD.modalias)):
        (tmp_path / f"sys/module/{module}").mkdir(parents=True)
        bus = tmp_path / f"sys/bus/drivers/{name}"
        bus.mkdir(parents=True)
        (bus / "module").symlink_to(tmp_path / f"sys/module/{module}")
        (folder / "driver").symlink_to(bus)
        (folder / "modalias").write_text(f"{alias}\n")
    (pci.parent / "modalias").write_text("acpi:PNP0A08:\n")  # which nobody has taken
    (tmp_path / "sys/class/block").mkdir(parents=True)
    (tmp_path / "sys/class/block/sda").symlink_to(scsi / "block/sda")
    assert [Driver(*x) for x in driver.bound("/dev/sda")] == [SD, AHCI]
    assert driver.bound("/dev/sdb") == []
    assert driver.index(["modules.dep"]) == {}


class _Image(EarlyImage):
    """An image on a server, as the preflight asks it; of a kernel without an index another file is left."""

    def __init__(self, kernels: Mapping[str, bytes | None]) -> None:
        super().__init__(
            {
                f"/usr/lib/modules/{x}/{'modules.softdep' if dep is None else 'modules.dep'}": dep or b""
                for x, dep in kernels.items()
            }
        )


def _step(kernels: Mapping[str, bytes | None], *, allowed: bool = False) -> VerifyDrivers:
    """The step of a plan: root lies on a logical volume on a mirror of two disks, and /srv on a third one."""
    plan = cases.plan_of(cases.load(cases.HERE / "cases/plan/drivers-of-root.yaml"))
    (found,) = (x for x in plan.steps if isinstance(x, VerifyDrivers))
    assert found.needed == (("/dev/sda", SD), ("/dev/sda", AHCI), ("/dev/vda", BLK))
    return dataclasses.replace(found, early=_Image(kernels), allowed=allowed)


OLD = DEP + b"kernel/drivers/ata/ahci.ko:\n"


class _Counting(_Image):
    """The same, with a note of each question."""

    def __init__(self, kernels: Mapping[str, bytes | None]) -> None:
        super().__init__(kernels)
        self.asked: list[str] = []

    def __call__(self, paths: Sequence[str], /) -> Mapping[str, bytes]:
        self.asked.append(f"{len(paths)} files")
        return super().__call__(paths)

    def folders(self, *paths: str) -> list[str]:
        self.asked.append(" ".join(paths))
        return super().folders(*paths)


def test_a_server_is_asked_twice() -> None:
    image = _Counting({"6.1.0-9-amd64": OLD})
    image.files = {**image.files, "/lib/modules/6.1.0-9-amd64/modules.dep": b"x:\n"}
    step = _step({})
    wanted = len(paths(step.layout.early(step.image).programs))
    assert wanted
    with pytest.raises(UnsuitableNode, match=r"kernel 6\.1\.0-9-amd64 has no sd_mod"):
        dataclasses.replace(step, early=image).preflight()  # where a release is in both folders, /lib has the say
    assert image.asked == ["/usr/lib/modules /lib/modules", f"{4 + wanted} files"]


@pytest.mark.parametrize(
    ("kernels", "said"),
    [
        ({"6.1.0-9-amd64": OLD}, None),
        ({}, None),
        ({"6.1.0-9-cloud": DEP}, "kernel 6.1.0-9-cloud has no ahci for /dev/sda (pci:v00008086d"),
        ({"6.1.0-9-cloud": DEP, "6.1.0-10-cloud": DEP}, "kernel 6.1.0-10-cloud has no ahci"),
        # What is left of a kernel that was removed has no say.
        ({"6.1.0-9-cloud": DEP, "6.1.0-10-amd64": None}, "kernel 6.1.0-9-cloud has no ahci"),
        # Which of them boots is seen when the image has been copied.
        ({"6.1.0-9-amd64": OLD, "6.1.0-10-cloud": DEP}, None),
        # Of the many that a system may have kept the newest count.
        ({f"6.1.0-{x}": OLD if x == 1 else DEP for x in range(1, 5)}, "kernel 6.1.0-4 has no ahci"),
        ({"6.1.0-9-cloud": b"x:\n"}, "has no sd_mod for /dev/sda (scsi:t-0x00), ahci for /dev/sda (pci:"),
    ],
)
@pytest.mark.pain("drivers-of-another-host")
def test_it_is_said_before_the_first_write(kernels: Mapping[str, bytes | None], said: str | None) -> None:
    assert list(_step({}).preflight()) == []
    if said is None:
        assert list(_step(kernels).preflight()) == []
        return
    with pytest.raises(UnsuitableNode) as caught:
        _step(kernels).preflight()
    assert said in str(caught.value)
    assert str(caught.value).endswith("bring an image with another kernel, or go on with --allow_unbootable")
    (warning,) = _step(kernels, allowed=True).preflight()
    assert said in warning


@pytest.mark.parametrize(
    ("programs", "gone"),
    [
        (["/usr/bin/sh", "/usr/sbin/lvm", "/usr/sbin/mdadm"], None),
        (["/bin/sh", "/sbin/lvm", "/usr/bin/mdadm"], None),
        (["/usr/bin/sh", "/usr/sbin/lvm"], "program mdadm;"),
        (["/usr/bin/sh", "/opt/sbin/lvm"], "programs lvm, mdadm;"),
        # Without a shell at such a place it has its programs elsewhere.
        (["/usr/sbin/lvm"], None),
        ([], None),
    ],
)
def test_programs_that_the_image_does_not_have(programs: Sequence[str], gone: str | None) -> None:
    def step(*, allowed: bool = False) -> VerifyDrivers:
        image = _Image({"6.1.0-9-amd64": OLD})
        image.files |= dict.fromkeys(programs, b"ELF")
        return dataclasses.replace(_step({}, allowed=allowed), early=image)

    if gone is None:
        assert list(step().preflight()) == []
        return
    with pytest.raises(UnsuitableNode) as caught:
        step().preflight()
    found = f"image 'a' would not find its root file system: it does not have the {gone}"
    assert str(caught.value) == f"{found} bring an image with what it takes, or go on with --allow_unbootable"
    assert step(allowed=True).preflight() == [found.rstrip(";")]


@pytest.mark.parametrize(
    ("names", "there", "gone"),
    [
        (("cryptsetup", "systemd-cryptsetup"), "/usr/lib/systemd/systemd-cryptsetup", []),
        (("cryptsetup", "systemd-cryptsetup"), "/sbin/cryptsetup", []),
        (("cryptsetup", "systemd-cryptsetup"), "/usr/sbin/cryptsetup-reencrypt", ["cryptsetup"]),
    ],
)
def test_one_of_the_names_of_a_program_is_enough(names: tuple[str, ...], there: str, gone: Sequence[str]) -> None:
    assert {"/bin/sh", "/usr/bin/sh"} <= set(paths([names]))
    assert absent([names], {"/bin/sh", there}) == gone


KERNEL = "6.1.0-9-amd64"
CARRIED = (
    "kernel/fs/ext4/ext4",
    "kernel/drivers/md/dm-mod",
    "kernel/drivers/md/raid1",
    "ahci",
    "sd_mod",
    "virtio_blk",
)
PROGRAMS = ("usr/sbin/lvm", "usr/sbin/mdadm")


def _installed(
    place: Path, monkeypatch: pytest.MonkeyPatch, dep: bytes | None, carried: Sequence[str] | None
) -> VerifyDrivers:
    """The step, and a system in ``place`` with a kernel of that index, and an initramfs with these members."""
    step = _step({})
    (place / f"lib/modules/{KERNEL}/kernel").mkdir(parents=True)
    (place / "boot").mkdir()
    (place / f"boot/vmlinuz-{KERNEL}").write_bytes(b"kernel")
    if dep is not None:
        (place / f"lib/modules/{KERNEL}/modules.dep").write_bytes(dep)
    if carried is not None:
        (place / f"boot/initrd.img-{KERNEL}").write_bytes(archive(*carried))

    @contextlib.contextmanager
    def mounted_tree(*_: object, **__: object) -> Iterator[Tree]:
        yield Tree(str(place))

    monkeypatch.setattr(drivers, "mounted_tree", mounted_tree)
    return step


def _modules(*names: str) -> list[str]:
    return [f"usr/lib/modules/{KERNEL}/{name}.ko" for name in names]


WHOLE = OLD + b"kernel/fs/ext4/ext4.ko:\nkernel/drivers/md/dm-mod.ko:\nkernel/drivers/md/raid1.ko:\n"


@pytest.mark.parametrize(
    ("dep", "carried", "said"),
    [
        (WHOLE, [*_modules(*CARRIED), *PROGRAMS], None),
        (DEP, None, f"would not find its disks: kernel {KERNEL} has no ahci for /dev/sda (pci:v00008086d"),
        (
            WHOLE,
            [*_modules(*CARRIED[1:]), *PROGRAMS],
            f"/boot/initrd.img-{KERNEL} lacks the module ext4; bring an image",
        ),
        (WHOLE, _modules(*CARRIED), "lacks the program lvm, the program mdadm; bring an image that has it, or go on"),
        (
            WHOLE,
            [*_modules("ahci", "sd_mod"), *PROGRAMS],
            "lacks the module virtio_blk, the module ext4, the module dm_mod",
        ),
        # Of a kernel without an initramfs it is said by somebody else.
        (WHOLE, None, None),
    ],
)
def test_what_boots_is_looked_into_once_it_is_there(
    dep: bytes | None,
    carried: Sequence[str] | None,
    said: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = _installed(tmp_path, monkeypatch, dep, carried)
    if said is None:
        assert step.run(lambda *_: None) == {}
        return
    with pytest.raises(ActionFailed) as caught:
        step.run(lambda *_: None)
    assert said in str(caught.value)
    outcome = dataclasses.replace(step, allowed=True).run(lambda *_: None)
    assert str(outcome["warnings"]).startswith(str(caught.value).rpartition("; ")[0])


def test_a_kernel_without_an_index_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        f"image 'a': whether kernel {KERNEL} has the drivers of /dev/sda, /dev/vda is not known: there is no"
        " modules.dep and no modules.builtin in its folder of modules, which would tell"
    )
    # Beforehand, unless there is another kernel that tells.
    assert list(_step({KERNEL: None}).preflight()) == [said]
    assert list(_step({KERNEL: None, "6.1.0-10-amd64": OLD}).preflight()) == []
    step = _installed(tmp_path, monkeypatch, None, PROGRAMS)
    carries = (
        f"/boot/initrd.img-{KERNEL}: whether it carries sd_mod, ahci, virtio_blk, ext4, dm_mod, raid1 is not known:"
        f" kernel {KERNEL} has no modules.dep, which would tell what is a module"
    )
    assert step.run(lambda *_: None) == {"warnings": f"{said}; {carries}"}
    # Programs are no matter of an index.
    (tmp_path / f"boot/initrd.img-{KERNEL}").write_bytes(archive("usr/sbin/lvm"))
    with pytest.raises(ActionFailed, match="lacks the program mdadm; bring"):
        step.run(lambda *_: None)


def test_facts_without_drivers_are_told_in_the_plan() -> None:
    case = cases.load(cases.HERE / "cases/plan/drivers-of-root.yaml")
    assert cases.plan_of(case).warnings == ()
    plan = cases.plan_of({**case, "node": "driven-by-nobody-knows"})
    assert plan.warnings == (
        "image 'a': whether its kernel and initramfs have the drivers of /dev/sda is not asked: the facts of the node"
        " do not tell by which drivers the running system reaches it",
    )
    (step,) = (x for x in plan.steps if isinstance(x, VerifyDrivers))
    assert step.needed == (("/dev/vda", BLK),)


@pytest.mark.parametrize(
    ("bound", "modular", "drivers"),
    [
        ([("sd_mod", "scsi:t-0x00"), ("own", "pci:x")], {"sd_mod"}, (SD,)),
        ([("own", "pci:x")], {"sd_mod"}, ()),
        # Nothing to tell by.
        ([], {"sd_mod"}, None),
        ([("own", "pci:x")], set(), None),
    ],
)
def test_what_a_probe_knows_of_drivers(
    bound: Sequence[tuple[str, str]],
    modular: set[str],
    drivers: Sequence[Driver] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(driver, "bound", lambda _: bound)
    assert probe._drivers(["/dev/sda"], frozenset(modular)) == drivers


def test_what_nobody_can_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = _installed(tmp_path, monkeypatch, WHOLE, [])
    path = f"/boot/initrd.img-{KERNEL}"
    (tmp_path / path.lstrip("/")).write_bytes(b"\x89LZO\0....")
    names = "sd_mod, ahci, virtio_blk, ext4, dm_mod, raid1, lvm, mdadm"
    told = f"{path}: whether it carries {names} is not known: its form is lzo"
    assert step.run(lambda *_: None) == {"warnings": told}


UNIFIED = "boot/EFI/Linux/debian.efi"


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({".uname": KERNEL.encode(), ".initrd": archive(*_modules(*CARRIED), *PROGRAMS)}, None),
        # As systemd's tools leave it out, by the modules that the system has.
        ({".initrd": archive(*_modules(*CARRIED), *PROGRAMS)}, None),
        ({".initrd": gzip.compress(archive(*_modules(*CARRIED[1:]), *PROGRAMS))}, "lacks the module ext4; bring"),
        ({".uname": b"6.1.0-9-cloud\n", ".initrd": archive()}, "kernel 6.1.0-9-cloud has no ahci"),
    ],
)
def test_an_initramfs_in_a_unified_kernel_image(
    sections: Mapping[str, bytes], said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = _installed(tmp_path, monkeypatch, WHOLE, None)
    (tmp_path / f"boot/vmlinuz-{KERNEL}").unlink()
    (tmp_path / UNIFIED).parent.mkdir(parents=True)
    (tmp_path / UNIFIED).write_bytes(efiprogram.program({".linux": b"MZ", **sections, ".sbat": b"behind it"}))
    if b"cloud" in sections.get(".uname", b""):
        (tmp_path / "lib/modules/6.1.0-9-cloud").mkdir()
        (tmp_path / "lib/modules/6.1.0-9-cloud/modules.dep").write_bytes(DEP)
    if said is None:
        assert step.run(lambda *_: None) == {}
        return
    with pytest.raises(ActionFailed) as caught:
        step.run(lambda *_: None)
    assert said in str(caught.value)
    assert f"/{UNIFIED} lacks" in str(caught.value) or "no ahci" in said


def test_a_kernel_beside_it_boots_on_a_bios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = _installed(tmp_path, monkeypatch, WHOLE, None)
    (tmp_path / UNIFIED).parent.mkdir(parents=True)
    (tmp_path / UNIFIED).write_bytes(efiprogram.program({".linux": b"MZ", ".initrd": archive("init")}))
    assert step.run(lambda *_: None) == {}
    uefi = dataclasses.replace(step, layout=dataclasses.replace(step.layout, firmware="uefi"))
    with pytest.raises(ActionFailed, match=f"/{UNIFIED} lacks the module sd_mod"):
        uefi.run(lambda *_: None)


@pytest.mark.parametrize(("point", "counts"), [("/usr", True), ("/srv", False), ("/var", False)])
def test_the_disks_of_root_and_usr_count(point: str, counts: bool) -> None:
    case = cases.load(cases.HERE / "cases/plan/drivers-of-root.yaml")
    case["input"]["partitions"][2]["volumes"][0]["mount"] = point
    (step,) = (x for x in cases.plan_of(case).steps if isinstance(x, VerifyDrivers))
    assert ("/dev/nvme0n1" in {device for device, _ in step.needed}) == counts


class _Fetch:
    """A tree of files, as the driver for rsync brings single ones."""

    filters: Sequence[str] = ()

    def __init__(self, links: Mapping[str, str]) -> None:
        self.links = links

    def some(self, filters: Sequence[str], paths: Sequence[str], folder: str) -> None:
        for path in paths:
            place = Path(folder, path.lstrip("/"))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            if path in self.links:
                place.symlink_to(self.links[path])
            else:
                place.write_text(path)


@pytest.mark.parametrize("count", [1, 16, 40])
def test_any_number_of_files_is_asked_for_and_few_links_followed(count: int) -> None:
    paths = [f"/a/{x}" for x in range(count)]
    links = {"/a/0": "b", "/a/b": "c"} | {f"/d/{x}": str(x + 1) for x in range(100)}
    found = EarlyFiles(_Fetch(links))([*paths, "/d/0"])  # type: ignore[arg-type]
    assert found == {x: (b"/a/c" if x == "/a/0" else x.encode()) for x in paths}

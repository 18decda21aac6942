# SPDX-License-Identifier: Apache-2.0
"""A hybrid ISO: the ramdisk for a CD drive, the virtual media of a BMC, and a USB stick, by BIOS and by UEFI.

With Secure Boot on, firmware starts shim, shim starts GRUB, and GRUB the kernel, each signed by who signs for Debian.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from pathlib import Path

from building.date import environment
from building.process import run
from ramdisk import archive, loaders, parameters
from ramdisk.build import Ramdisk

#: Seconds for writing one, many times what was measured.
LIMIT = 300.0
VOLUME = "BAREON"
#: The kernel's parameter by which bareon knows the medium: the GUID of its EFI system partition.
MEDIUM = "bareon.medium"
#: What a FAT needs beside the files, and its cluster, in bytes.
_SPARE, _CLUSTER, _MIB = 512 << 10, 4096, 1 << 20
_ESP_TYPE = "28732ac11ff8d211ba4b00a0c93ec93b"
_DATA_TYPE = "a2a0d0ebe5b9334487c068b6b72699c7"

_MENU = """set timeout=3
set default=0
menuentry 'bareon {version}' {{
    linux /boot/vmlinuz {words}
    initrd /boot/initramfs
}}
"""
#: Firmware starts GRUB from the EFI system partition, and the rest lies beside it, on what is a CD as well.
_FINDER = """search --no-floppy --file --set=root /.disk/id/{number}
set prefix=($root)/boot/grub
configfile $prefix/grub.cfg
"""


def write(base: Path, ramdisk: Ramdisk, line: str, built: int, target: Path) -> None:
    """Write the ISO; the same parts give the same bytes.

    :param base: the product of :func:`ramdisk.base.build_base`
    :param line: the kernel's command line
    :param built: the date, in seconds since 1970
    """
    number = _number(ramdisk, line, built)
    with tempfile.TemporaryDirectory(prefix=".iso-", dir=target.parent) as place:
        tree, esp = Path(place) / "tree", Path(place) / "esp.img"
        words = parameters.for_grub(f"{line} {MEDIUM}={_partition(number)}")
        menu = _MENU.format(version=ramdisk.version, words=words)
        _fill(tree, base / "loaders", number, menu)
        for path in (ramdisk.kernel, ramdisk.initramfs):
            shutil.copyfile(path, tree / "boot" / path.name)
        archive.clamp(tree, built)
        _pack_esp(tree / "EFI", esp, number, built)
        _burn(tree, esp, base / "loaders" / loaders.HYBRID, number, built, target)


def _number(ramdisk: Ramdisk, line: str, built: int) -> uuid.UUID:
    """The medium's number, which GRUB finds it by and which its disk label has; another one for all that differs."""
    total = hashlib.sha256(f"{ramdisk.version} {line} {built}".encode())
    with ramdisk.initramfs.open("rb") as file:
        total.update(hashlib.file_digest(file, "sha256").digest())
    number = bytearray(uuid.UUID(bytes=total.digest()[:16], version=4).bytes)
    # xorriso makes the partitions' of the disk's, by changing this byte.
    number[9] &= 0xFC
    return uuid.UUID(bytes=bytes(number))


def _partition(number: uuid.UUID) -> uuid.UUID:
    """The GUID that xorriso gives to the second partition."""
    content = bytearray(number.bytes)
    content[9] += 2
    return uuid.UUID(bytes=bytes(content))


def _fill(tree: Path, parts: Path, number: uuid.UUID, menu: str) -> None:
    """Lay out what GRUB and firmware look for.

    The files of the EFI system partition are on the medium once more: some programs that write USB sticks copy files.
    """
    grub = tree / "boot/grub"
    grub.mkdir(parents=True)
    if (parts / loaders.ELTORITO).is_file():
        (grub / "i386-pc").mkdir()
        shutil.copyfile(parts / loaders.ELTORITO, grub / "i386-pc" / loaders.ELTORITO)
    (grub / "grub.cfg").write_text(menu)
    boot, debian = tree / "EFI/BOOT", tree / "EFI/debian"
    for folder in (boot, debian, tree / ".disk/id"):
        folder.mkdir(parents=True)
    for path in sorted((parts / loaders.EFI).iterdir()):
        shutil.copyfile(path, boot / path.name)
    # By its place GRUB knows the one beside it; and the other is where Debian's looks on a disk.
    for folder in (boot, debian):
        (folder / "grub.cfg").write_text(_FINDER.format(number=number))
    (tree / ".disk/info").write_text(f"{VOLUME} {number}\n")
    (tree / ".disk/id" / str(number)).write_text("")


def _pack_esp(efi: Path, target: Path, number: uuid.UUID, built: int) -> None:
    """Make a FAT of the folder ``EFI``, and of a ``grub.cfg`` where GRUB for media looks first.

    Without it, it would take the first medium of anybody that has a file ``.disk/info``.
    """
    finder = efi / "debian/grub.cfg"
    files = {path.relative_to(efi.parent): path for path in efi.rglob("*") if path.is_file()}
    files[Path("boot/grub/grub.cfg")] = finder
    with target.open("wb") as file:
        size = sum(path.stat().st_size + _CLUSTER for path in files.values())
        file.truncate((size + _SPARE) // _MIB * _MIB + _MIB)
    label = ["-i", number.hex[:8], "-n", VOLUME]
    run(["mkfs.vfat", "--invariant", *label, target], timeout=LIMIT, env=environment(built))
    # One by one: folders would be copied in the order in which this machine's file system lists them.
    folders = {folder for name in files for folder in name.parents if folder.name}
    run(["mmd", "-i", target, *(f"::{x}" for x in sorted(folders))], timeout=LIMIT, env=environment(built))
    for name, path in sorted(files.items()):
        run(["mcopy", "-m", "-i", target, path, f"::{name}"], timeout=LIMIT, env=environment(built))


def _burn(tree: Path, esp: Path, hybrid: Path, number: uuid.UUID, built: int, target: Path) -> None:
    """Write the ISO: for a CD drive, and with a partition table for all else; for a BIOS too where there is one."""
    mbr: list[str | Path] = []
    bios = []
    if hybrid.is_file():
        mbr = ["--grub2-mbr", hybrid, "--mbr-force-bootable"]
        bios = [
            *("-eltorito-boot", f"boot/grub/i386-pc/{loaders.ELTORITO}", "-no-emul-boot", "-boot-load-size", "4"),
            *("-boot-info-table", "--grub2-boot-info", "-eltorito-alt-boot"),
        ]
    run(
        [
            *("xorriso", "-as", "mkisofs", "-rational-rock", "-volid", VOLUME, "-output", target),
            *("--gpt_disk_guid", str(number), *mbr, "-partition_offset", "16"),
            *("-append_partition", "2", _ESP_TYPE, esp, "-appended_part_as_gpt"),
            *("-iso_mbr_part_type", _DATA_TYPE, "-eltorito-catalog", "boot/grub/boot.cat"),
            *bios,
            *("-e", "--interval:appended_partition_2:all::", "-no-emul-boot", tree),
        ],
        timeout=LIMIT,
        env=environment(built),
    )

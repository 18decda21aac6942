# SPDX-License-Identifier: Apache-2.0
"""Images of whole disks as vendors publish them: a table, root, ESP and BIOS boot partition, and their own fstab."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from building.process import run

MIB = 1 << 20
#: Seconds for each program.
LIMIT = 600.0
ROOT_ID = "5a3c1e0d-1111-4222-8333-444455556666"
#: Not that of the ext4 root: mkfs.btrfs refuses an identity that a device has, a test's loop device as well.
BTRFS_ID = "5a3c1e0d-3333-4222-8333-444455556666"
BOOT_ID = "5a3c1e0d-2222-4222-8333-444455556666"
ESP_ID = "5A3C-1E0D"
ROOT_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
BOOT_TYPE = "BC13C2FF-59E6-4262-A352-B275FD6F7172"
ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
BIOS_TYPE = "21686148-6449-6E6F-744E-656564454649"
ESP_LINE = f"UUID={ESP_ID} /boot/efi vfat umask=0077 0 1\n"
EXT4 = f"UUID={ROOT_ID} / ext4 discard,errors=remount-ro 0 1\nUUID={BOOT_ID} /boot ext4 defaults 0 2\n{ESP_LINE}"
BTRFS = (
    f"UUID={BTRFS_ID} / btrfs subvol=@ 0 0\nUUID={BTRFS_ID} /home btrfs defaults,subvol=@home 0 0\n"
    f"UUID={BTRFS_ID} /var/log btrfs subvol=/@log 0 0\n{ESP_LINE}"
)
BTRFS_SIZE = 2048 * MIB
_FILL_BTRFS = """\
mkdir "$2" && mount -o loop "$1" "$2" && cd "$2"
for name in @ @home @log; do btrfs subvolume create $name > /dev/null; done
cp --archive "$3/." @/ && cp --archive @/var/log/. @log/ && rm -rf @/var/log/* && echo published > @home/mark
echo published > @log/mark
printf %s "$4" > @/etc/fstab
cd / && umount "$2"
"""


def ext4_disk(scratch: Path, tree: Path, target: Path) -> None:
    """Make a disk with a root of ext4, /boot apart."""
    root, boot = scratch / "disk-root", scratch / "disk-boot"
    run(["cp", "--archive", "--link", tree, root], timeout=LIMIT)
    (root / "boot").rename(boot)
    (root / "boot").mkdir()
    fstab = root / "etc/fstab"
    fstab.unlink(missing_ok=True)  # another name of the tree's
    fstab.write_text(EXT4)
    parts = []
    for name, folder, uuid in (("root", root, ROOT_ID), ("boot", boot, BOOT_ID)):
        used = int(run(["du", "--summarize", "--block-size=1M", folder], timeout=LIMIT).stdout.split()[0])
        image = scratch / f"{name}.part"
        _sparse(image, (used * 6 // 5 + 64) * MIB)
        options = ("-q", "-t", "ext4", "-L", f"cloud{name}", "-U", uuid)
        run(["mke2fs", *options, "-d", folder, image], timeout=LIMIT)
        shutil.rmtree(folder)
        parts.append(image)
    _disk(scratch, target, (1, ROOT_TYPE, parts[0]), (16, BOOT_TYPE, parts[1]))


def btrfs_disk(scratch: Path, tree: Path, target: Path) -> None:
    """Make a disk with a root of Btrfs in subvolumes."""
    image = scratch / "btrfs.part"
    _sparse(image, BTRFS_SIZE)
    run(["mkfs.btrfs", "--quiet", "--uuid", BTRFS_ID, image], timeout=LIMIT)
    place = scratch / "mounted"
    # In a namespace of its own, with which the mount ends.
    run(["unshare", "--mount", "sh", "-ec", _FILL_BTRFS, "fill", image, place, tree, BTRFS], timeout=LIMIT)
    place.rmdir()
    _disk(scratch, target, (3, ROOT_TYPE, image))


def _disk(scratch: Path, target: Path, *parts: tuple[int, str, Path]) -> None:
    """Write a table and the partitions, as vendors number them, into a compressed qcow2."""
    esp = scratch / "esp.part"
    _sparse(esp, 64 * MIB)
    run(["mkfs.vfat", "-i", ESP_ID.replace("-", ""), esp], timeout=LIMIT)
    listed = [(14, BIOS_TYPE, None, 3 * MIB), (15, ESP_TYPE, esp, 64 * MIB)]
    listed += [(number, kind, part, part.stat().st_size) for number, kind, part in parts]
    disk, lines, start = scratch / "whole.disk", ["label: gpt"], MIB
    _sparse(disk, sum(size for _, _, _, size in listed) + 2 * MIB)
    for number, kind, part, size in listed:
        lines.append(f"{number}: start={start // 512}, size={size // 512}, type={kind}")
        if part is not None:
            place = [
                f"if={part}",
                f"of={disk}",
                "bs=1M",
                f"seek={start // MIB}",
                "conv=notrunc,sparse",
                "status=none",
            ]
            run(["dd", *place], timeout=LIMIT)
            part.unlink()
        start += size
    run(["sfdisk", "--quiet", disk], timeout=LIMIT, stdin="\n".join(lines) + "\n")
    options = ["-W", "-m", "8", "-c", "-f", "raw", "-O", "qcow2"]
    run(["qemu-img", "convert", *options, disk, target], timeout=LIMIT)
    disk.unlink()


def _sparse(path: Path, size: int) -> None:
    with path.open("xb") as file:
        os.truncate(file.fileno(), size)

# SPDX-License-Identifier: Apache-2.0
"""Whether an entry of a boot loader starts what was deployed: kernel, initramfs and root file system are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bareon.boot.entries import uki
from bareon.boot.entries.entry import BootEntry
from bareon.errors import ActionFailed
from bareon.model.layout import Layout
from bareon.storage.filesystem import Mounted
from bareon.storage.kind import Signature
from bareon.system.bindings.binding import shown
from bareon.system.bindings.boot_entries import ENDING
from bareon.system.bindings.home import identifiers, normal
from bareon.system.tree import Tree, holder

_INITS = ("/sbin/init", "/usr/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/bin/init", "/init")
#: By these a kernel finds its root without an initramfs, init/do_mounts.c of Linux.
_OF_KERNEL = ("PARTUUID=", "PARTLABEL=", "/dev/sd", "/dev/vd", "/dev/nvme", "/dev/hd", "/dev/xvd", "/dev/mmcblk")

_UNIFIED = (
    "systemd-boot alone starts, on UEFI, from /usr/lib/systemd/boot/efi of the image; GRUB needs a kernel and its"
    " initramfs in /boot"
)

#: Where entries are that GRUB and systemd-boot read from the EFI system partition, with the kernels that they start.
_ENTRIES = ("/boot/efi/loader/entries", "/efi/loader/entries")
_ON_ESP = (
    "whose kernels lie on the EFI system partition, as sdbootutil of SUSE has them there; bareon starts kernels of"
    " /boot: bring an image that is made for GRUB without entries on that partition (grub2, not grub2-bls)"
)
_BESIDE = (
    "which lies beside its modules alone; have the image's kernel-install put it into /boot, with an initramfs, when"
    " the image is made"
)


def check(entry: BootEntry, tree: Tree, layout: Layout, image: str) -> list[str]:
    """Compare what an entry says with what was deployed.

    :returns: warnings.
    :raises ActionFailed: naming the entry, what it says, and what is there.
    """
    what = f"image {image!r}: the entry that boots, {shown(entry.title)!r} of {entry.source},"
    for reason in _reasons(entry, tree, layout):
        if not entry.certain:
            return [f"{what} {reason}, as far as commands tell that are known; see that the node boots"]
        raise ActionFailed(f"{what} {reason}")
    return [] if entry.initrds else [f"{entry.kernel} has no initramfs"]


def _reasons(entry: BootEntry, tree: Tree, layout: Layout) -> Iterator[str]:
    """Why it would not come up."""
    if tree.is_file(entry.source):
        mount = holder(entry.source, tree.mounts)
        if not tree.loads(f"/{entry.source.removeprefix(mount.point).lstrip('/')}", mount):
            yield "is behind a link out of its file system, where no boot loader follows"
    if not entry.kernel:
        yield "starts no kernel"
    for path in (entry.kernel, *entry.initrds):
        if not located(path, entry.filesystem, tree):
            where = f" of file system {shown(entry.filesystem)}" if entry.filesystem else ""
            yield f"names {shown(path)}{where}, which is not there"
    root = tree.mounts[0]
    named = entry.value("root")
    names = _names(root, layout)
    if named is None:
        yield f"names no root; the root file system is UUID={root.uuid}"
    elif normal(named) not in names:
        yield f"says root={shown(named)}; the root file system is UUID={root.uuid}"
    elif not entry.initrds and not _kernel_finds(named, root, layout):
        yield f"has no initramfs, and the kernel alone does not find root={shown(named)}"
    kind = entry.value("rootfstype")
    if kind and root.type not in kind.split(","):
        yield f"says rootfstype={shown(kind)}; the root file system is {root.type}"
    flags = entry.value("rootflags") or ""
    if "subvol" in flags and root.type != "btrfs":
        yield f"says rootflags={shown(flags)}; the root file system is {root.type}, which has no subvolumes"
    named_subvolumes = [x.removeprefix("subvol=").strip("/") for x in flags.split(",") if x.startswith("subvol=")]
    if root.mount.subvolume and named_subvolumes[-1:] != [root.mount.subvolume]:
        says = f"says rootflags={shown(flags)}" if flags else "has no rootflags"
        yield f"{says}; the root is subvolume {root.mount.subvolume} of its file system"


def located(path: str, filesystem: str, tree: Tree) -> tuple[Mounted, str] | None:
    """The mount, and the path in it, of a file that a boot loader knows by its path on a file system.

    :param filesystem: its UUID; where none is named it is the one of ``/boot``.
    """
    there = [x for x in tree.mounts if x.uuid.lower() == filesystem.lower()]
    there = there if filesystem else [holder("/boot", tree.mounts)]
    # GRUB counts from the top of a btrfs.
    if any(x.above for x in there):
        places = [(x, path.removeprefix(x.above)) for x in there if path.startswith(f"{x.above}/")]
    else:
        # Of one that an image brought nobody knows which subvolume of it is mounted.
        parts = path.strip("/").split("/")
        places = [
            (mount, f"/{'/'.join(parts[start:])}")
            for mount in there[:1]
            for start in (range(len(parts)) if mount.type == "btrfs" else range(1))
        ]
    return next(((mount, inside) for mount, inside in places if tree.loads(inside, mount)), None)


def _names(root: Mounted, layout: Layout) -> set[str]:
    """The names of the root file system, in the form of :func:`normal`."""
    found = set(identifiers(root.device, Signature(root.type, root.uuid, root.filesystem.label)))
    for disk in layout.disks:
        own = [x for x in disk.partitions if x.device == root.device]
        found |= {f"PARTUUID={x.guid.lower()}" for x in own if x.guid} | {
            f"PARTLABEL={x.name}" for x in own if x.name
        }
    return found


def _kernel_finds(named: str, root: Mounted, layout: Layout) -> bool:
    """True if a kernel finds its root without an initramfs: it knows partitions, and neither LVM nor UUIDs."""
    partitions = (x.device for disk in layout.disks for x in disk.partitions)
    return root.device in partitions and named.startswith(_OF_KERNEL)


def root_words(root: Mounted, layout: Layout, *, initramfs: bool) -> str:
    """The word that names the root file system to a kernel: by UUID, or by PARTUUID, which needs no initramfs."""
    guids = [x.guid.lower() for disk in layout.disks for x in disk.partitions if x.device == root.device]
    return f"root=UUID={root.uuid}" if initramfs or not guids else f"root=PARTUUID={guids[0]}"


def without_system(tree: Tree) -> str | None:
    """What is wrong with a root file system that has no system at its top; ``None`` where it has one."""
    if any(map(tree.has, _INITS)) or tree.names("/usr/bin") or tree.names("/bin"):
        return None
    inner = [x for x in tree.names("/") if tree.names(f"/{x}/usr") or tree.names(f"/{x}/etc")]
    kind = "subvolume" if tree.mounts and tree.mounts[0].type == "btrfs" else "folder"
    there = f"; there is one in {kind} {', '.join(map(shown, inner))}" if inner else ""
    return f"there is no system at the top of its root file system{there}"


def _elsewhere(tree: Tree) -> str:
    """What an image without a kernel in ``/boot`` has elsewhere, in words; empty where it has none at all."""
    if unified := [x.source for x in uki.read(tree)]:
        return f"it has {', '.join(map(shown, unified))}, which {_UNIFIED}"
    entries = [f"{x}/{name}" for x in _ENTRIES for name in tree.names(x) if name.endswith(ENDING)]
    if entries:
        return f"it has {', '.join(map(shown, entries))}, {_ON_ESP}"
    beside = [f"{uki.MODULES}/{x}/vmlinuz" for x in tree.names(uki.MODULES)]
    there = ", ".join(shown(x) for x in beside if tree.is_file(x))
    return f"it has {there}, {_BESIDE}" if there else ""


def check_system(tree: Tree, image: str, found: Sequence[object]) -> None:
    """See that there is something to start, and a system for it.

    :param found: kernels, or what else the boot loader starts.
    :raises ActionFailed: saying what there is instead.
    """
    lacking = without_system(tree)
    if not found:
        told = [f"image {image!r} has no kernel in /boot", lacking, _elsewhere(tree)]
        raise ActionFailed("; ".join(filter(None, told)))
    if lacking:
        raise ActionFailed(f"image {image!r} would not come up: {lacking}")

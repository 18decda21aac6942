# SPDX-License-Identifier: Apache-2.0
"""A script in a deployed system that copies its boot loader to the EFI system partitions of the other disks.

An update of GRUB or shim writes to the one at ``/boot/efi`` alone, and so does kernel-install(8), which puts kernels
for systemd-boot there. systemd watches the folders of the loader and of the entries (systemd.path(5)), whatever
program has written to them, and so this is the same for all distributions with systemd.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import resources

from bareon.boot.disks import BootDisk
from bareon.step import Outcome
from bareon.storage.filesystem import ESP_MOUNT
from bareon.system.tree import Tree

LOG = logging.getLogger(__name__)

_PROGRAM = "/usr/local/sbin/bareon-esp"  # in a folder that is a link in some systems
_UNITS = "/etc/systemd/system"
#: Started with the mount, and by nothing that would wait for a disk that is gone.
_WANTED = f"{_UNITS}/boot-efi.mount.wants/bareon-esp.path"
_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")

_PATH = f"""\
[Unit]
Description=Wait for changes of the boot loader on {ESP_MOUNT}
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target

[Path]
@WATCHED@
Unit=bareon-esp.service
"""
_SERVICE = """\
[Unit]
Description=Copy the boot loader to the EFI system partitions of the other disks

[Service]
Type=oneshot
ExecStart=@PLACE@
"""


def renew(tree: Tree, disks: Sequence[BootDisk], folder: str, token: str = "", *, wanted: bool) -> Outcome:
    """Have the script and its units in a system where they are wanted, and no earlier ones where they are not.

    :param folder: the loader's, below ``EFI``.
    :param token: the name by which entries of systemd-boot are called; empty for GRUB.
    :returns: what became of it, where it was wanted.
    """
    program = tree.real(_PROGRAM)
    places = (program, f"{_UNITS}/bareon-esp.path", f"{_UNITS}/bareon-esp.service", _WANTED)
    esps = [disk for disk in disks if disk.esp]
    systemd = any(tree.is_file(path) for path in _SYSTEMD)
    if not wanted or len(esps) < 2 or not systemd:
        for path in (x for x in places if x.rpartition("/")[2] in tree.names(x.rpartition("/")[0])):
            tree.remove(path)
        if wanted and len(esps) > 1:
            LOG.warning("esp_copies: the image has no systemd, which would start the copying after an update")
            return {"esp_copies": "none, the image has no systemd"}
        return {}
    tree.write(program, script(esps, folder, token), 0o755)
    watched = [f"EFI/{folder}", *(["EFI/Linux", "loader/entries"] if token else [])]
    tree.write(places[1], _PATH.replace("@WATCHED@", "\n".join(f"PathChanged={ESP_MOUNT}/{x}" for x in watched)))
    tree.write(places[2], _SERVICE.replace("@PLACE@", program))
    tree.link(_WANTED, "../bareon-esp.path")
    return {"esp_copies": f"{len(esps)} EFI system partitions"}


def script(disks: Sequence[BootDisk], folder: str, token: str = "") -> str:
    """The script for the EFI system partitions of those disks."""
    platform = disks[0].platform
    words = {
        "FOLDER": folder,
        "PROGRAMS": platform.systemd_boot if token else f"{platform.shim} {platform.grub}",
        "REMOVABLE": platform.removable,
        "LEFT_OUT": " ".join(platform.left_out),
        "TOKEN": token,
        "PARTITIONS": " ".join(disk.guid.lower() for disk in disks),
    }
    text = resources.files("bareon.boot").joinpath("bareon-esp.sh").read_text()
    for name, value in words.items():
        text = text.replace(f"'@{name}@'", f"'{value}'")
    return text

# SPDX-License-Identifier: Apache-2.0
"""``bareon-boot``: a shell script, the same in the ramdisk, on the multiboot partition and in the deployed images.

In an image there are hooks beside it, by which packages of kernels have the menu follow them.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from bareon.system.family import initramfs_names, kernel_starts
from bareon.system.initramfs import MODULES
from bareon.system.kernel import ODD
from bareon.system.tree import Tree

PLACE = "/usr/local/sbin/bareon-boot"

_UNIT = "bareon-boot-await.service"
_UNITS = "/etc/systemd/system"
#: By the target that comes first: a system that gets no further than to emergency mode is sent back as well.
_WANTED = f"{_UNITS}/sysinit.target.wants/{_UNIT}"
_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
#: Without a menu (exit code 4), as on a copy of the system, there is nothing to go back to. It waits for nothing that
#: may fail; the mount points are those that the script itself may lie below.
_SERVICE = f"""\
[Unit]
Description=Go back to the image before, unless the one that was started once is confirmed
ConditionPathExists={PLACE}
DefaultDependencies=no
IgnoreOnIsolate=yes
After=usr.mount usr-local.mount
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=exec
ExecStart={PLACE} await
SuccessExitStatus=4
"""

_OPENRC = "/sbin/openrc-run"
_INIT = "/etc/init.d/bareon-boot-await"
_RUNLEVEL = "/etc/runlevels/default/bareon-boot-await"
_INIT_SCRIPT = f"""\
#!{_OPENRC}
description="Goes back to the image before, unless the one that was started once is confirmed"
command={PLACE}
command_args=await
command_background=yes
pidfile=/run/bareon-boot-await.pid

depend() {{
    after *
}}
"""

_MARK = "# Written by bareon: the menu of the images of this node follows the kernels of this system."
_SCRIPT_MARK = "# Lists the images of this node, chooses the one that boots, "
#: What is not there to be changed (exit code 4), such as on a copy of the system, must not keep a package from being
#: installed. Standard output may be debconf's.
_HOOK = f"""\
#!/bin/sh
{_MARK}
[ -x {PLACE} ] || exit 0
code=0
{PLACE} refresh >&2 || code=$?
[ "$code" = 4 ] || exit "$code"
"""


@dataclass(frozen=True)
class Hook:
    """A file that is run after kernels or their initramfs have changed, where the image has one of ``callers``."""

    path: str
    callers: tuple[str, ...]


HOOKS = (
    Hook("/etc/kernel/install.d/99-bareon-boot.install", ("/usr/bin/kernel-install", "/bin/kernel-install")),
    # dpkg's packages of kernels, and new-kernel-pkg of grubby, which has none for kernels that were removed.
    Hook(
        "/etc/kernel/postinst.d/zz-bareon-boot", ("/usr/bin/dpkg", "/usr/sbin/new-kernel-pkg", "/sbin/new-kernel-pkg")
    ),
    Hook("/etc/kernel/postrm.d/zz-bareon-boot", ("/usr/bin/dpkg",)),
    # An initramfs may be made later than its kernel is installed.
    Hook("/etc/initramfs/post-update.d/bareon-boot", ("/usr/sbin/update-initramfs",)),
)


def script(uuids: Sequence[str] = ()) -> str:
    """The script, for the multiboot partitions of those UUIDs; without any it looks for the partition's label."""
    text = resources.files("bareon.boot").joinpath("bareon-boot.sh").read_text()
    known = {
        "'@KERNELS@'": shlex.quote(" ".join(kernel_starts())),
        "'@INITRAMFS@'": shlex.quote(" ".join(initramfs_names("@"))),
        "'@MODULES@'": shlex.quote(" ".join(sorted(MODULES))),
        "@ODD@": "\n".join(ODD),
        **({"'@UUIDS@'": shlex.quote(" ".join(uuids))} if uuids else {}),
    }
    for name, value in known.items():
        text = text.replace(name, value)
    return text


def install(tree: Tree, uuids: Sequence[str]) -> None:
    """Write the script into an image, and the hooks and the service that the image has callers of."""
    tree.write(tree.real(PLACE), script(uuids), 0o755)  # /usr/local/sbin may be a link to bin
    for hook in HOOKS:
        if any(map(tree.is_file, hook.callers)):
            tree.write(hook.path, _HOOK, 0o755)
    if any(map(tree.is_file, _SYSTEMD)):
        tree.write(f"{_UNITS}/{_UNIT}", _SERVICE)
        tree.link(_WANTED, f"../{_UNIT}")
    elif tree.is_file(_OPENRC):
        tree.write(_INIT, _INIT_SCRIPT, 0o755)
        tree.link(_RUNLEVEL, _INIT)


def remove(tree: Tree) -> None:
    """Take all of it out of a system that is no longer one of several: it is for another's menu, if any."""
    for hook in HOOKS:
        if _MARK in (tree.read(hook.path) or ""):
            tree.remove(hook.path)
    for file, link in ((f"{_UNITS}/{_UNIT}", _WANTED), (_INIT, _RUNLEVEL)):
        if tree.is_file(file):
            tree.remove(link)
            tree.remove(file)
    if _SCRIPT_MARK in (tree.read(PLACE) or ""):
        tree.remove(tree.real(PLACE))

# SPDX-License-Identifier: Apache-2.0
"""Starting the deployed system without the firmware, once all is done: kexec."""

from __future__ import annotations

from pathlib import Path

from bareon.errors import ActionFailed, CommandError
from bareon.tools import kexec, mount, power

LOADED, REFUSED = "loaded", "not loaded"
"""What a report says of its kernel, as ``kexec`` of a step; the reason for the second is under ``warnings``."""
_SYSTEMD = Path("/run/systemd/system")  # as sd_booted(3) has it


def words(error: ActionFailed | OSError) -> str:
    """An error for people; without the command, in which the kernel's whole command line would be."""
    if isinstance(error, CommandError):
        return ": ".join([f"{error.argv[0]} {error.reason}", *error.stderr.split("\n")]).strip(": ")
    return str(error.strerror if isinstance(error, OSError) else error)


def start() -> str | None:
    """Start the kernel that is loaded, without another word to anybody.

    :returns: why the firmware must do it; ``None`` where init is shutting down for it. Else this does not return.
    """
    if not kexec.is_loaded():
        return "no kernel is loaded"
    power.write_back()
    try:
        if _SYSTEMD.is_dir():
            kexec.shut_down()
            return None
        mount.unmount_all()
        kexec.execute()
    except CommandError as error:
        return words(error)
    return "kexec has started nothing"

# SPDX-License-Identifier: Apache-2.0
"""Where parameters and trusted certificates come from: command line, virtual medium, files of the ramdisk."""

from __future__ import annotations

import stat
import time
from pathlib import Path

from bareon import cmdline
from bareon.callback.medium import Medium, media
from bareon.callback.parameter import Parameters, is_of_ironic, parse, words
from bareon.errors import Defect, InvalidInput, UnsuitableNode

_LARGEST = 1 << 20  # bytes of a file with certificates
_POLL = 1.0  # seconds


def booted_by_ironic(root: Path) -> bool:
    """Whether Ironic has booted this machine, be its parameters right or wrong."""
    return is_of_ironic(_command_line(root))


def gathered(root: Path, patience: float) -> tuple[Parameters, str | None]:
    """The parameters, and the certificates to trust (PEM), ``None`` for those of the system.

    A machine that was booted by virtual media says so on its command line. What is on a medium wins, as with Ironic's
    own agent.

    :param root: the folder that has ``proc``, ``sys`` and ``dev``.
    :param patience: seconds to wait for a medium, which a BMC may offer late.
    :raises InvalidInput: with every defect.
    """
    values = words(_command_line(root), "the kernel's command line")
    found = _waited_for(root, patience) if values.get("boot_method") == "vmedia" else []
    for medium in found:
        if medium.parameters is not None:
            values |= words(medium.parameters, f"the virtual medium {medium.device}")
    parameters = parse(values)
    if parameters.ca_file:
        return parameters, _certificates(parameters.ca_file)
    authorities = [medium.authority for medium in found if medium.authority is not None]
    return parameters, "\n".join(authorities) if authorities else None


def _command_line(root: Path) -> str:
    return cmdline.read(root)


def _waited_for(root: Path, patience: float) -> list[Medium]:
    end = time.monotonic() + patience
    while not (found := media(root)) and time.monotonic() < end:
        time.sleep(_POLL)
    return found


def _certificates(path: Path) -> str:
    try:
        # Not even opened: a FIFO would wait for a writer without end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidInput([Defect("ipa-ca-file", f"{path} is no file")])
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise UnsuitableNode(f"ipa-ca-file: {path} cannot be read: {error.strerror}") from None
    if len(text) > _LARGEST:
        raise InvalidInput([Defect("ipa-ca-file", f"{path} is larger than 1 MiB")])
    return text.decode("latin-1")

# SPDX-License-Identifier: Apache-2.0
"""The input: from an option, a file, or standard input."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO

from bareon import plugin
from bareon.drivers.data.base import DataDriver
from bareon.errors import ActionFailed, CommandError, Defect, InvalidInput, UnsuitableNode, UsageError
from bareon.model.deployment import Deployment
from bareon.sizes import MIB, human
from bareon.text import visible

LOG = logging.getLogger(__name__)

#: Bytes of an input: a configdrive in it may take some. A device that never ends is no input.
LARGEST = 256 * MIB


def read(file: str, given: str | None = None, option: str = "FILE") -> bytes:
    """The input's text.

    :param file: a path, or ``-`` for standard input.
    :param given: the input itself, which wins over the file.
    :param option: what names the file on the command line.
    :raises UsageError: when there is no such file.
    :raises InvalidInput: when it cannot be read.
    """
    if given is not None:
        return given.encode("utf-8", "surrogateescape")
    path = Path(file)
    try:
        if file == "-":
            if sys.stdin is None:
                raise UsageError("no input: standard input is closed")
            return _whole(sys.stdin.buffer, "standard input")
        with path.open("rb") as opened:
            return _whole(opened, file)
    except FileNotFoundError:
        raise UsageError(f"no input: {path} is not there; name it by {option}") from None
    except OSError as error:
        raise InvalidInput([Defect("$", f"{path} cannot be read: {error.strerror}")]) from None


def at_hand(missing: str, option: str) -> bytes:
    """The document that was left beside the menu of the images of which one runs here.

    :param missing: the file that is not there in its place.
    :param option: what names a file on the command line.
    :raises UsageError: when there is none, or not the same beside two menus.
    """
    from bareon.boot import at_hand

    try:
        found = at_hand.of_running_system()
    except (ActionFailed, CommandError) as error:
        reason = f"one beside a menu of images cannot be looked for ({error})"
        raise UsageError(f"no input: {missing} is not there, and {reason}; name it by {option}") from None
    warn(found.warnings)
    if found.document is None:
        reason = "no menu with this system in it has a document beside it"
        raise UsageError(f"no input: {missing} is not there, and {reason}; name it by {option}")
    said = f"the input is the document beside the menu, {at_hand.PLACE} on {', '.join(found.devices)}"
    LOG.info("%s", said)
    sys.stderr.write(f"{visible(said)}\n")
    return found.document


def _whole(opened: IO[bytes], name: str) -> bytes:
    text = opened.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise InvalidInput([Defect("$", f"{name} is larger than {human(LARGEST)}")])
    return text


def understand(driver_name: str, text: bytes, template_path: str | None = None) -> tuple[Deployment, tuple[str, ...]]:
    """The deployment that the input describes, and what its author should know of.

    :param template_path: a folder of templates that come before the driver's own.
    :raises UsageError: when there is no such driver.
    :raises InvalidInput: with every defect.
    """
    driver = plugin.load("bareon.drivers.data", driver_name, DataDriver)  # type: ignore[type-abstract]
    driver.template_path = template_path
    with plugin.blamed(UnsuitableNode):
        deployment = plugin.returned(driver.parse(text), Deployment, f"{driver_name}: parse")
        return deployment, tuple(driver.warnings)


def check_images(deployment: Deployment, driver_name: str) -> None:
    """See that a deploy driver can bring the images, as far as the input alone tells.

    :raises UsageError: when there is no such driver.
    :raises InvalidInput: with every defect.
    """
    from bareon.drivers.deploy.base import DeployDriver

    driver = plugin.load("bareon.drivers.deploy", driver_name, DeployDriver)  # type: ignore[type-abstract]
    with plugin.blamed(UnsuitableNode):
        found = plugin.returned(driver.check(deployment), Iterable, f"{driver_name}: check")
        if defects := list(found):
            raise InvalidInput(sorted(defects, key=lambda x: x.path))


def warn(warnings: Iterable[str]) -> None:
    """Say warnings on standard error, and in the log."""
    for warning in warnings:
        LOG.warning("%s", warning)
        sys.stderr.write(f"warning: {visible(warning)}\n")


def with_configdrive(deployment: Deployment, file: str) -> tuple[Deployment, bytes]:
    """The deployment with the configdrive of a file, if that exists, and what the file holds.

    :raises InvalidInput: when the file is no configdrive, or the input has one too.
    """
    from bareon.drivers.data import configdrive

    where = f"--config_drive_path {file}"
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(configdrive.LARGEST_FILE + 1)
    except FileNotFoundError:
        return deployment, b""
    except OSError as error:
        raise InvalidInput([Defect(where, f"cannot be read: {error.strerror}")]) from None
    if deployment.configdrive:
        message = f"the input has a configdrive, and {file} is another one: remove either"
        raise InvalidInput([Defect(deployment.configdrive.path, message)])
    return replace(deployment, configdrive=configdrive.from_file(content, where)), content

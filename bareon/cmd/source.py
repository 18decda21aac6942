# SPDX-License-Identifier: Apache-2.0
"""Where the input comes from: an option, a file, or standard input."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bareon.cmd import plugin
from bareon.drivers.data.base import DataDriver
from bareon.errors import Defect, InvalidInput, UsageError

if TYPE_CHECKING:
    from bareon.model.deployment import Deployment

LOG = logging.getLogger(__name__)


def read_input(driver_name: str, file: str, given: str | None = None) -> tuple[Deployment, bytes]:
    """The deployment that the input describes, and the input's text; warnings go to standard error.

    :param file: a path, or ``-`` for standard input.
    :param given: the input itself, which wins over the file.
    :raises UsageError: when there is no such file or driver.
    :raises InvalidInput: with every defect.
    """
    driver = plugin.load("bareon.drivers.data", driver_name, DataDriver)  # type: ignore[type-abstract]
    text = _text(file, given)
    deployment = driver.parse(text)
    for warning in driver.warnings:
        LOG.warning("%s", warning)
        sys.stderr.write(f"warning: {warning}\n")
    return deployment, text


def _text(file: str, given: str | None) -> bytes:
    if given is not None:
        return given.encode("utf-8", "surrogateescape")
    if file == "-":
        return sys.stdin.buffer.read()
    path = Path(file)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no input: {path} is not there; name it by --input_data_file") from None
    except OSError as error:
        raise InvalidInput([Defect("$", f"{path} cannot be read: {error.strerror}")]) from None

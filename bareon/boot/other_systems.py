# SPDX-License-Identifier: Apache-2.0
"""What os-prober sees on a node with several images: which of them, and which systems besides."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from bareon.errors import CommandError
from bareon.step import Outcome
from bareon.tools import osprober

LOG = logging.getLogger(__name__)


def probed(roots: Mapping[str, str]) -> Outcome:
    """Which of the images os-prober sees, and which others.

    Not their names: it reads them in files of the image, through links that lead to those of the ramdisk.

    :param roots: the device of the root file system of each image.
    """
    try:
        seen = {os.path.realpath(device): name for device, name in osprober.systems().items()}
    except CommandError as error:
        LOG.warning("os-prober failed, the menu is made of what was deployed: %s", error)
        return {"os_prober": "failed"}
    devices = {os.path.realpath(device): image for image, device in roots.items()}
    if missed := [image for device, image in devices.items() if device not in seen]:
        LOG.warning("os-prober does not see %s; their entries are made of what was deployed", ", ".join(missed))
    outcome: Outcome = {"os_prober": f"{len(devices) - len(missed)} of {len(devices)}"}
    if others := [f"{name} on {device}" for device, name in seen.items() if device not in devices]:
        LOG.warning("systems that are none of the images, not in the boot menu: %s", ", ".join(others))
        outcome["other_systems"] = ", ".join(others)
    return outcome

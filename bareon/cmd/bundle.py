# SPDX-License-Identifier: Apache-2.0
"""The bundle of a failed run: one archive with everything that explains it, and no secret."""

from __future__ import annotations

import io
import logging
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

from bareon.plan.report import replacing
from bareon.text import redacted
from bareon.tools import evidence

LOG = logging.getLogger(__name__)


def write(path: str, files: Mapping[str, str]) -> bool:
    """Write the archive: ``files`` by their names in it, and the state of the node.

    :returns: whether it is there. A failure is logged, and nothing else: another error is on its way.
    """
    try:
        pieces = {name: evidence.read(file) for name, file in files.items()}  # before anything more is logged
        pieces |= evidence.gathered()
        with replacing(Path(path)) as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in pieces.items():
                data = redacted(text).encode(errors="backslashreplace")
                member = tarfile.TarInfo(f"bareon-bundle/{name}")
                member.size, member.mtime, member.mode = len(data), int(time.time()), 0o600
                archive.addfile(member, io.BytesIO(data))
    except Exception:
        LOG.warning("no bundle: %s cannot be made", path, exc_info=True)
        return False
    return True

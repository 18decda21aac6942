# SPDX-License-Identifier: Apache-2.0
"""Looks at a page as a person would: Chromium, without a window, makes a picture of it."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

from building.process import run

#: Seconds for one picture; a page without scripts is drawn at once, but Chromium is slow to start.
LIMIT = 120.0
WIDTH, HEIGHT = 1100, 1800
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def photograph(page: Path | str, picture: Path, *, dark: bool = False) -> tuple[int, int]:
    """Draw ``page``, a file or a URL, into the PNG file ``picture``; return its width and height.

    :raises ProgramError: when Chromium does not work
    """
    picture.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        run(
            [
                *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *(f"--user-data-dir={profile}", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"),
                *(["--force-dark-mode"] if dark else []),
                *(f"--screenshot={picture}", page.as_uri() if isinstance(page, Path) else page),
            ],
            timeout=LIMIT,
        )
    head = picture.read_bytes()[:24]
    assert head.startswith(_SIGNATURE), f"{picture} is no PNG"
    width, height = struct.unpack(">II", head[16:24])
    return width, height

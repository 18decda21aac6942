# SPDX-License-Identifier: Apache-2.0
"""Text of unknown origin for a terminal or a page: names on disks, in images and in inputs."""

from __future__ import annotations


def visible(text: str, kept: str = "") -> str:
    """``text`` with what is not seen made visible: control characters, and what turns the reading direction.

    :param kept: characters to leave as they are, such as a newline.
    """
    return "".join(char if char.isprintable() or char in kept else ascii(char)[1:-1] for char in text)

# SPDX-License-Identifier: Apache-2.0
"""Words in braces in case files: ``{rsync}``, ``{sha256:small.img}``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

#: For each word what makes its value, from what follows the colon (empty if there is none). Only the words that a
#: text uses are asked for their values, for that may start a server.
Words = Mapping[str, Callable[[str], str]]
_WORD = re.compile(r"\{(?P<word>[a-z][a-z0-9_-]*)(:(?P<of>[\w.-]+))?\}")


def fill(text: str, words: Words) -> str:
    """Put values in the place of words; braces around anything else are left to YAML and to shells.

    :raises ValueError: when a word cannot have a value for what follows its colon
    """

    def value(found: re.Match[str]) -> str:
        make = words.get(found["word"])
        return make(found["of"] or "") if make else found[0]

    return _WORD.sub(value, text)

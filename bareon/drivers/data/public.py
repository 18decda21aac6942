# SPDX-License-Identifier: Apache-2.0
"""A document of the ironic dialect without its secrets, as the systems of several images have it at hand."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bareon.model.location import Location
from bareon.text import redacted

_URLS = ("image_pull_url", "image_checksums_url", "image_signature_url")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


def without_secrets(value: Mapping[str, Any]) -> dict[str, Any]:
    """The document for a later run: with the policy ``verify``, without configdrive, accounts and queries of URLs.

    What is erased is left out as well: it was, and goes with no other policy than ``clean``.
    """
    found = copy.deepcopy({key: x for key, x in value.items() if key != "configdrive"})
    found["partitions_policy"] = "verify"
    for entry in found["partitions"]:
        entry.pop("erase", None)
    for image in found.get("images", ()):
        image |= {key: _public(image[key]) for key in _URLS if key in image}
    return found


def _public(url: str | list[str]) -> str | list[str]:
    if isinstance(url, list):
        return [Location(x).without_secrets().reveal() for x in url]
    return Location(url).without_secrets().reveal()


def secrets(value: Any, path: str = "$", key: str = "") -> Iterator[str]:
    """The JSON paths of what is, or looks like, a secret in such a document, and cannot be left out of it.

    A URL that is not an image's is taken for one as a whole, as that of a key.
    """
    if isinstance(value, dict):
        for name, item in value.items():
            yield from secrets(item, f"{path}.{name}", name)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from secrets(item, f"{path}[{number}]", key)
    elif isinstance(value, str) and (redacted(value) != value or (key not in _URLS and _URL.match(value))):
        yield path

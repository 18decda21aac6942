# SPDX-License-Identifier: Apache-2.0
"""The published forms of what bareon writes: JSON schemas in ``schemas/``."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

from bareon.errors import Defect, InvalidInput


def published(name: str) -> dict[str, Any]:
    """The schema of ``report`` or ``event``."""
    text = importlib.resources.files("bareon.report").joinpath("schemas", f"{name}.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def check(value: object, name: str) -> None:
    """Compare ``value`` with a published schema.

    :raises InvalidInput: with every defect.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    # Of something that may also be null, only what is inside it says what is wrong.
    errors = [best_match([error]) for error in Draft202012Validator(published(name)).iter_errors(value)]
    if defects := [Defect(error.json_path, error.message[:200]) for error in errors if error]:
        raise InvalidInput(defects)

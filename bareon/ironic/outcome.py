# SPDX-License-Identifier: Apache-2.0
"""What became of a run, in the words and values that a node of Ironic shows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from bareon.errors import BareonError, Defect, InvalidInput
from bareon.report import schema
from bareon.text import redacted, visible

MEANINGS = {
    1: "a bug in bareon",
    2: "the options are wrong",
    3: "the input is invalid; the disks are untouched",
    4: "this node cannot satisfy the input; the disks are untouched",
    5: "the disks are not what the input describes; they are untouched",
    6: "a step failed while it ran",
    7: "an image could not be fetched, or did not arrive whole",
    8: "another run holds the lock of this node; the disks are untouched",
    130: "interrupted",
    143: "ended by SIGTERM",
}
"""Exit codes, in the words of the reference."""

LONGEST = 1000  # characters of a line in ``last_error``
_LOOKED_AT = 2000  # characters of one in which secrets are looked for; that takes their square
_LONGEST_OF_ALL = 5000  # characters; MySQL has no room for more than 64 KiB, and the node would not be saved
_MOST_STEPS = 1 << 31
_LONGEST_RUN = 1e9  # seconds, as in the published form

_SAID = re.compile(r"bareon-[a-z-]+: (.*)")
_HINT = re.compile(r"the (bundle|log) is /")


def failure(code: int | None, errors: str) -> str:
    """One line on a failed run: its exit code, what that means, and the first line that bareon said.

    :param errors: its standard error.
    """
    lines = [line.strip() for line in errors.splitlines() if line.strip() and not line.startswith("warning: ")]
    said = [match[1] for line in lines if (match := _SAID.fullmatch(line)) and not _HINT.match(match[1])]
    if not said and not any(map(_SAID.fullmatch, lines)):
        said = lines[-1:]  # it is not bareon's program that failed
    meaning = MEANINGS.get(code or 0, "no exit code of bareon")
    told = _told(said[0]) if said else ""
    return f"bareon: exit {code}, {meaning}" + (f": {told}" if told else "")


def _told(text: str) -> str:
    """What is shown of a line of a ramdisk."""
    if len(text) > _LOOKED_AT:
        text = text[:_LOOKED_AT].rpartition(" ")[0]  # the last word may be half of a secret
    return visible(redacted(text))[:LONGEST]


def line(error: BareonError) -> str:
    """An error as one line of ``last_error``, whatever a ramdisk or a document has put into it."""
    return visible("; ".join(error.lines())[:_LONGEST_OF_ALL])


def progress(event: Mapping[str, Any] | None) -> dict[str, Any]:
    """An event of the run as ``bareon_progress``: the step, of how many, bytes, of how many, percent.

    :raises InvalidInput: when the ramdisk's bareon writes other events.
    """
    if event is None:
        return {"step": 0, "of": None, "description": "preparing"}
    schema.check(event, "event")
    found: dict[str, Any] = {
        "step": min(event["number"], _MOST_STEPS),
        "of": min(event["count"], _MOST_STEPS),
        "action": visible(event["action"][:100]),
        "description": visible(event["description"][:200]),
    }
    if "done" in event:
        found["bytes"] = event["done"]
        found["total"] = event.get("total")
        if event.get("total"):
            found["percent"] = min(100, event["done"] * 100 // event["total"])
    return found


def report(text: str) -> dict[str, Any]:
    """Of a report what a node shows: its ``outcome``, and ``seconds``.

    Not all of it is compared with the published form, which takes minutes for one that was made to be large.

    :raises InvalidInput: when it is none.
    """
    found = _object(text, "the report")
    result, seconds = found.get("outcome"), found.get("seconds")
    if result not in ("running", "done", "failed"):
        raise InvalidInput([Defect("$.outcome", "the report does not say how the run ended")])
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= _LONGEST_RUN:
        raise InvalidInput([Defect("$.seconds", "the report does not say how long the run took")])
    return {"outcome": result, "seconds": seconds}


def boot_info(text: str) -> dict[str, Any]:
    """The list of bootable images.

    :raises InvalidInput: when it is none.
    """
    found = _object(text, "boot-info.json")
    elements = found.get("elements")
    objects = elements if isinstance(elements, list) else [None]
    rest = {key: value for key, value in found.items() if key != "elements"}
    if not all(isinstance(x, dict) and _is_flat(x) for x in (rest, *objects)):
        raise InvalidInput([Defect("$", "boot-info.json is no list of bootable images")])
    return found


def _is_flat(values: Mapping[str, Any]) -> bool:
    """Whether all values are texts, whole numbers or null: nothing that Ironic could not save and show."""
    return all(value is None or isinstance(value, (str, int)) for value in values.values())


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput([Defect("$", f"{what} is no JSON")]) from None
    if not isinstance(found, dict):
        raise InvalidInput([Defect("$", f"{what} is no object")])
    return found


def mismatch(agent: str, own: str) -> str | None:
    """Why a ramdisk cannot be worked with; ``None`` when it can.

    :param agent: ``agent_version`` of its heartbeat, such as ``bareon-1.2.3``.
    :param own: the version of the conductor's bareon.
    """
    if not agent.startswith("bareon-"):
        return f"the ramdisk is none of bareon ({visible(agent)[:60]}): set deploy_ramdisk to one that has it"
    version = agent.removeprefix("bareon-")
    if version.partition(".")[0] != own.partition(".")[0]:
        return f"the ramdisk has bareon {visible(version)[:60]}, and the conductor {own}: use the same major version"
    return None

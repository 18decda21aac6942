# SPDX-License-Identifier: Apache-2.0
"""An image of a registry, or of the first of several that has it."""

from __future__ import annotations

import logging
from dataclasses import replace

from bareon.errors import ImageFailed
from bareon.model.location import Location
from bareon.model.reference import Reference, reference
from bareon.model.settings import TransferSettings
from bareon.transfer.ahead import Opened
from bareon.transfer.deadline import Deadline
from bareon.transfer.failure import named
from bareon.transfer.mirrors import Mirrors
from bareon.transfer.oci import Found, found_in
from bareon.transfer.registry import Registry

LOG = logging.getLogger(__name__)


def find(location: Location, settings: TransferSettings) -> Found:
    """The image that a location refers to, of those that are there the one for this machine.

    :raises ImageFailed: when there is none, or it is none that can be brought.
    :raises UnsuitableNode: when an account is needed and there is none, or an option is wrong.
    """
    failed: list[str] = []
    for place in (replace(location, mirrors=()), *location.mirrors):
        deadline = Deadline(settings.total_timeout)
        try:
            with named(place):
                wanted = _reference(place)
                return found_in(Registry(wanted, settings, deadline), wanted.digest, settings.cosign_key)
        except ImageFailed as error:
            failed.append(str(error))
            LOG.warning("%s", error)
    raise ImageFailed("; ".join(failed))


def _reference(location: Location) -> Reference:
    found = reference(location)
    if found is None:
        raise ImageFailed("is no reference of an image in a registry")
    return found


def opening(location: Location, settings: TransferSettings, deadline: Deadline) -> Opened:
    """What opens the blobs of layers, at the first of the mirrors that gives one."""
    places = (replace(location, mirrors=()), *location.mirrors)
    known = {
        place: Registry(_reference(place), settings if place is places[-1] else settings.hasty(), deadline)
        for place in places
    }
    if len(places) == 1:
        return lambda layer, part: known[places[0]].blob(layer.blob, part)
    return lambda layer, part: Mirrors(places, lambda one, last: known[one].blob(layer.blob, part), checked=True)

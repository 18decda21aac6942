# SPDX-License-Identifier: Apache-2.0
"""Which kind an image is taken for: by its URL, its content, and where nobody could look, its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bareon.drivers.deploy.kinds import KINDS, Auto
from bareon.model.deployment import Deployment
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings


def seen(image: Image) -> Image:
    """The image after the driver has looked at it."""
    deployment = Auto().look(Deployment("clean", (), images=(image,)), TransferSettings(connect_timeout=0.2))
    return deployment.images[0]


def test_each_kind_has_a_name_of_its_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("rsync://server/module", "rsync"),
        ("server::module/a.img", "rsync"),
        ("http://server/debian.img.zst", "block"),
        ("swift://images/debian", "block"),
    ],
)
def test_by_its_url(url: str, kind: str) -> None:
    assert Auto().kind_of(Image("a", Location(url))).name == kind


def test_what_cannot_be_reached_stays_as_it_is(tmp_path: Path) -> None:
    for url in ((tmp_path / "absent").as_uri(), "http://127.0.0.1:1/image", "file:///proc/self/mem"):
        image = Image("a", Location(url))
        assert seen(image) == image

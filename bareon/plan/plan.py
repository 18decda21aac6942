# SPDX-License-Identifier: Apache-2.0
"""A plan: the layout that was decided, and the steps that bring it about."""

from __future__ import annotations

from dataclasses import dataclass

from bareon.model.image import Origin
from bareon.model.layout import Layout
from bareon.step import Step


@dataclass(frozen=True)
class Plan:
    """Everything that was decided. An empty ``steps`` means there is nothing to do; ``warnings`` are for people, and
    so are ``origins``: what each image is taken for, and held to.
    """

    layout: Layout
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()
    origins: tuple[Origin, ...] = ()

# SPDX-License-Identifier: Apache-2.0
"""dracut(8). What it is run with has it take all that is in the system, whatever its settings say of the host."""

from __future__ import annotations

from bareon.system.makers.maker import Maker

MAKER = Maker("dracut")

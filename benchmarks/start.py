# SPDX-License-Identifier: Apache-2.0
"""How long the programs take to start, against a bare Python that imports what they cannot do without."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.timing import BIN, best, show

EXAMPLE = Path(__file__).parents[1] / "doc/source/examples/two-disks.json"


def main() -> int:
    """Print the ratios; exit code 1 when one is over its limit."""
    program, libraries, validator, schema = best(
        [str(BIN / "bareon-provision"), "--version"],
        [sys.executable, "-c", "import oslo_config.cfg, oslo_log.log, stevedore"],
        [str(BIN / "bareon-data-validator"), str(EXAMPLE)],
        # Each input is checked by the one, and the dialect that checks it loaded by the other.
        [sys.executable, "-c", "import jsonschema, stevedore.driver"],
    )
    good = show("bareon-provision --version", program, "importing oslo.config, oslo.log, stevedore", libraries, 1.5)
    return (
        0 if show("bareon-data-validator", validator, "importing jsonschema, stevedore", schema, 2.0) and good else 1
    )


if __name__ == "__main__":
    sys.exit(main())

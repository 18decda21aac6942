# SPDX-License-Identifier: Apache-2.0
"""What a deployment costs beside one by hand, shown and not judged; and that the benchmark itself works."""

from __future__ import annotations

import pytest

from benchmarks import deployment
from tests_functional.bench.session import Record, Session


@pytest.mark.thorough("a benchmark; the cases of swift deploy such an image")
def test_a_block_image(session: Session, record_property: Record, capsys: pytest.CaptureFixture[str]) -> None:
    deployment.run(session, ["image"], 1)  # on a busy machine a single round says little
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    for line in said:
        record_property("deployment, against a script", line)
    assert len([line for line in said if "ratio" in line]) == 1, said
    assert len([line for line in said if "ms more" in line]) == 2, said

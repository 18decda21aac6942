# SPDX-License-Identifier: Apache-2.0
"""Keeping what a run leaves: its report and, of a failed one, the bundle, where the conductor keeps logs."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ironic.conf import CONF

from bareon.atomic import replacing
from bareon.errors import BareonError
from bareon.ironic import outcome
from bareon.ironic.ramdisk import LARGEST_REPORT, Look, Run

LOG = logging.getLogger(__name__)

NOTE = "bareon_report"


@dataclass
class Left:
    """What a run has left: its standard error, and whether it had success as far as can be known."""

    errors: str = ""
    is_success: bool = False


def keep(node: Any, run: Run, found: Look) -> Left:
    """Fetch the report and the bundle of a run that has ended, and note in the node where they lie.

    A failure to do so is logged, and nothing else: how the run ended is known without them. Only a report that is
    missing, or says otherwise, makes no success of an exit code 0: it is not bareon then that has ended so.
    """
    note: dict[str, Any] = {"exit_code": found.code}
    left = Left(is_success=found.code == 0)
    try:
        left.errors = run.file("errors") or ""
        text = run.file("report.json", LARGEST_REPORT)
        left.is_success &= text is not None
        if text is not None:
            note["report"] = _write(node, "report.json", text.encode())
            told = outcome.report(text)
            note["seconds"] = told["seconds"]
            left.is_success &= told["outcome"] == "done"
        if found.code != 0 and (bundle := run.bundle()) is not None:
            note["bundle"] = _write(node, "bundle.tar.gz", bundle)
    except BareonError as error:
        LOG.warning("node %s: not all of what the run left could be kept: %s", node.uuid, outcome.line(error))
    except (OSError, ValueError) as error:
        LOG.warning("node %s: not all of what the run left could be kept: %s", node.uuid, error)
    note["outcome"] = "done" if left.is_success else "failed"
    node.set_driver_internal_info(NOTE, note)
    node.save()
    return left


def _write(node: Any, name: str, content: bytes) -> str:
    folder = Path(CONF.bareon.report_folder or CONF.agent.deploy_logs_local_path)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{node.uuid}_{time.strftime('%Y-%m-%dT%H-%M-%SZ', time.gmtime())}_bareon-{name}"
    with replacing(path) as file:
        file.write(content)
    return str(path)

# SPDX-License-Identifier: Apache-2.0
"""Keeping what a run leaves: its report and, of a failed one, the bundle, where the conductor keeps logs."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from ironic.conf import CONF

from bareon.atomic import replacing
from bareon.errors import ActionFailed, InvalidInput
from bareon.ironic import outcome
from bareon.ironic.ramdisk import Look, Run

LOG = logging.getLogger(__name__)

NOTE = "bareon_report"


def keep(node: Any, run: Run, found: Look) -> str:
    """Fetch the report and the bundle of a run that has ended, and note in the node where they lie.

    A failure to do so is logged, and nothing else: how the run ended is known without them.

    :returns: the run's standard error.
    """
    note: dict[str, Any] = {"outcome": "done" if found.code == 0 else "failed", "exit_code": found.code}
    errors = ""
    try:
        errors = run.file("errors") or ""
        if (text := run.file("report.json")) is not None:
            note["report"] = _write(node, "report.json", text.encode())
            note["seconds"] = outcome.report(text)["seconds"]
        if found.code != 0 and (bundle := run.bundle()) is not None:
            note["bundle"] = _write(node, "bundle.tar.gz", bundle)
    except (ActionFailed, InvalidInput, OSError, ValueError) as error:
        LOG.warning("node %s: not all of what the run left could be kept: %s", node.uuid, error)
    node.set_driver_internal_info(NOTE, note)
    node.save()
    return errors


def _write(node: Any, name: str, content: bytes) -> str:
    folder = Path(CONF.bareon.report_folder or CONF.agent.deploy_logs_local_path)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{node.uuid}_{time.strftime('%Y-%m-%dT%H-%M-%SZ', time.gmtime())}_bareon-{name}"
    with replacing(path) as file:
        file.write(content)
    return str(path)

# SPDX-License-Identifier: Apache-2.0
"""Renews everything in the documentation that is output of bareon; ``test_documentation.py`` compares it.

``python doc/regenerate.py`` rewrites the transcripts, the plans, the quotations in ``README.rst``, the sample
configuration, the page of pains, and the published schemas that are put together from the kinds of storage. Look at
the difference before you commit it: it is what users will see of your change.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import json
import os
import re
import shlex
import signal
import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import completion
import pains
from oslo_config import cfg, generator

from bareon import plugin
from bareon.actions.base import Action
from bareon.decide import decide
from bareon.drivers.data import schema
from bareon.drivers.data.base import DataDriver
from bareon.drivers.deploy.base import DeployDriver
from bareon.facts import from_json
from bareon.plan.document import document
from bareon.report.schema import published

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "doc/source/examples"
README = ROOT / "README.rst"
SAMPLE = ROOT / "etc/bareon/bareon.conf.sample"
PAINS = ROOT / "doc/source/pains.rst"
COMPLETION = ROOT / "etc/bareon/bareon.bash-completion"
DIALECT = ROOT / "bareon/drivers/data/schemas/ironic.json"
REPORT = ROOT / "bareon/report/schemas/report.json"
GENERATOR = ROOT / "etc/bareon/config-generator.conf"
# A plan has identifiers derived from a random seed; the printed one has this seed.
SEED = uuid.UUID("00000000-0000-4000-8000-000000000000")


def texts() -> dict[Path, Callable[[], str]]:
    """Each generated file with what makes the text it must have."""
    found: dict[Path, Callable[[], str]] = {
        path: functools.partial(_transcript_of, path) for path in sorted((EXAMPLES / "transcripts").glob("*.txt"))
    }
    found |= {path: functools.partial(plan, path) for path in sorted((EXAMPLES / "plans").glob("*.json"))}
    found |= {DIALECT: functools.partial(_json, schema.schema, "ironic.json", 2)}
    found |= {REPORT: functools.partial(_json, published, "report", 1)}
    return found | {README: _readme, SAMPLE: sample, PAINS: pains.page, COMPLETION: completion.script}


def _json(make: Callable[[str], Any], name: str, indent: int) -> str:
    return json.dumps(make(name), indent=indent, ensure_ascii=False) + "\n"


def _transcript_of(path: Path) -> str:
    return transcript(path.read_text())


def _readme() -> str:
    return readme(README.read_text())


def transcript(old: str) -> str:
    """The commands of a transcript with what they print now, standard output first, then standard error."""
    text, code = "", 0
    for line in old.splitlines():
        if not line.startswith("$ "):
            continue
        if line == "$ echo $?":
            text += f"{line}\n{code}\n"
            continue
        code, printed = run(shlex.split(line[2:]))
        text += f"{line}\n{printed}"
    return text


def run(argv: list[str]) -> tuple[int, str]:
    """Exit code and output of one of bareon's programs, run in the folder of the examples."""
    programs = importlib.metadata.entry_points(group="console_scripts", name=argv[0])
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    before = Path.cwd()
    os.chdir(EXAMPLES)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = next(iter(programs)).load()(argv[1:])
    finally:
        os.chdir(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code, out.getvalue() + err.getvalue()


def plan(path: Path) -> str:
    """The plan as JSON of the example of the same name, for the node that its transcript names."""
    words = shlex.split((EXAMPLES / "transcripts" / f"{path.stem}.txt").read_text().splitlines()[0])
    node = from_json(json.loads((EXAMPLES / words[words.index("--node_facts") + 1]).read_bytes()))
    deployment = plugin.load("bareon.drivers.data", "ironic", DataDriver).parse((EXAMPLES / path.name).read_bytes())
    transport = plugin.load("bareon.drivers.deploy", "auto", DeployDriver)
    actions = [plugin.load("bareon.actions", name, Action) for name in transport.flow]
    decision = decide(deployment, node, actions, transport, SEED)
    return json.dumps(document(decision.plan), indent=1) + "\n"


QUOTATION = re.compile(r"^(\.\. quotation of (\S+)\n\n\.\. code-block:: \w+\n\n)(?:(?: +.*)?\n)+?(?=\S)", re.M)


def readme(old: str) -> str:
    """``README.rst`` with its quotations of example files and transcripts renewed."""

    def quote(match: re.Match[str]) -> str:
        text = (EXAMPLES / match[2]).read_text()
        if match[2].startswith("transcripts/"):
            text = transcript(text)
        return f"{match[1]}{textwrap.indent(text, '    ')}\n"

    return QUOTATION.sub(quote, old)


def sample() -> str:
    """The sample configuration."""
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf([], default_config_files=[str(GENERATOR)], project="oslo-config-generator", version="")
    text = io.StringIO()
    generator.generate(conf, text)
    return text.getvalue()


if __name__ == "__main__":
    for file, make in texts().items():
        content = make()
        if not file.exists() or file.read_text() != content:
            file.write_text(content)
            print(f"renewed {file.relative_to(ROOT)}")

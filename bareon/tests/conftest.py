# SPDX-License-Identifier: Apache-2.0
"""Every event and every report of every test has its published form."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jsonschema
import pytest

from bareon import executor
from bareon.executor import Listener
from bareon.plan.plan import Plan
from bareon.report import progress, schema
from bareon.report.report import Report
from bareon.tests import drawn

#: pytest's ``record_property``: a line for the end of the run, wherever the test runs.
Record = Callable[[str, object], None]
#: Those lines, by the tests that told them.
_TOLD: list[str] = []
#: How many events and reports were compared with their schemas.
_COMPARED: Counter[str] = Counter()
#: How many the present test compared.
_COUNTS: Counter[str] = Counter()


def _closed(part: Any) -> Any:
    """A published schema that takes no key but those it names: here a new key must be added to it."""
    if isinstance(part, list):
        return [_closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    found = {key: _closed(value) for key, value in part.items()}
    if isinstance(part.get("properties"), dict) and part.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


@functools.cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    whole = schema.published(name)
    jsonschema.Draft202012Validator.check_schema(whole)
    whole = _closed(whole)
    if name == "report":  # the facts have more keys than a report's reader needs
        for definition in (x for key, x in whole["$defs"].items() if key == "node" or key.startswith("found_")):
            del definition["additionalProperties"]
    return jsonschema.Draft202012Validator(whole)


def _compare(value: object, name: str) -> None:
    errors = list(_validator(name).iter_errors(value))
    assert not errors, errors
    _COUNTS[name] += 1


class _Lines:
    """A stream for the JSON listener, which compares each line."""

    def write(self, text: str) -> None:
        for line in text.splitlines():
            _compare(json.loads(line), "event")

    def flush(self) -> None:
        """Nothing is kept."""


@pytest.fixture(autouse=True)
def published(monkeypatch: pytest.MonkeyPatch, record_property: Record) -> Iterator[None]:
    """Compare all events that the executor tells, and all reports that are saved."""
    execute, save = executor.execute, Report.save

    def watched(plan: Plan, listeners: Sequence[Listener]) -> None:
        execute(plan, [*listeners, progress.listener("json", _Lines())])  # type: ignore[arg-type]

    def compared(report: Report) -> None:
        save(report)
        _compare(json.loads(json.dumps(report.content)), "report")

    monkeypatch.setattr(executor, "execute", watched)
    monkeypatch.setattr(Report, "save", compared)
    _COUNTS.clear()
    yield
    for name, count in _COUNTS.items():
        record_property(name, count)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of ``make test-all``."""
    drawn.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Pass on how many cases are wanted, which the decorators of tests ask for when these are imported."""
    drawn.be_thorough(config.option.thorough)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Take in what a test recorded; it may have run in another process."""
    if report.when == "teardown":
        for name, value in report.user_properties:
            if isinstance(value, int):
                _COMPARED[name] += value
            else:
                _TOLD.append(f"{name}: {value}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what tests counted."""
    for line in sorted(_TOLD):
        terminalreporter.write_line(line)
    events, reports = _COMPARED["event"], _COMPARED["report"]
    terminalreporter.write_line(f"compared with their schemas: {events} events, {reports} reports")

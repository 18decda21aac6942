# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in an input: a plan or an error for people comes of it, never a traceback, and quickly."""

from __future__ import annotations

import copy
import functools
import json
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from bareon import plugin
from bareon.actions.base import Action
from bareon.decide import decide
from bareon.drivers.data import document as forms
from bareon.drivers.data.ironic import Ironic
from bareon.drivers.deploy.base import DeployDriver
from bareon.errors import DisksDiffer, InvalidInput, UnsuitableNode
from bareon.plan import document, text
from bareon.tests import cases, drawn
from bareon.tests.conftest import Record
from bareon.tests.damage import inputs, places

DOCUMENTS = drawn.cases(20_000)
LIMIT = 6.0  # seconds of the processor for each, most of which a machine that is shared may take
SEED = uuid.UUID(int=0)
NODES = ("two-disks", "four-disks", "stacked", "uefi", "odd")
ROWS: Counter[str] = Counter()

TEXTS = (
    *(
        "",
        "a",
        "root",
        "debian",
        "vda",
        "/dev/vda",
        "os",
        "x\n",
        "\x00",
        "\x1b[2J",
        "\u202e",
        "\U0001f600",
        "a" * 300,
    ),
    *("/", "/boot", "/var", "/var/lib", "/..", "/srv/../etc", "//", "/a\nb", "/a b", "none", "swap", "/boot/efi"),
    *("rsync://192.0.2.1/x/", "http://u:p@[::1/x", "swift://c/o", "file:///etc/shadow", "rsync://h:99999999/x"),
    *("-a", "-a --delete", "'", "-e sh", "quiet", "$(reboot)", "00000000-0000-0000-0000-000000000000", "0:0:0:0"),
)
SIZES = (
    *(
        "1 GiB",
        "100",
        "40%",
        "12.5%",
        "remaining",
        "1 MiB",
        "0",
        "-1 GiB",
        "1e3 MiB",
        "1 YiB",
        "99999999999 YB",
        "100%",
    ),
    *("0.0000001%", "8 MiB", "500 MiB", "٣ GiB", "1 gib", " 1 GiB", "1 GiB\n", "9" * 64, "9" * 5000),
)
ODD = (None, True, 0, -1, 1.5, 10**30, 1e300, [], {}, ["a", "a"], {"type": "pv"})


FORM = forms.schema("ironic.json")


def _resolved(part: Any) -> Any:
    return FORM["$defs"][part["$ref"].removeprefix("#/$defs/")] if "$ref" in part else part


def _values(part: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that fit a part of the schema, more or less."""
    part = _resolved(part)
    if depth > 6:
        return st.sampled_from(ODD)
    if "allOf" in part:
        branches = [(x["if"]["properties"]["type"]["enum"], _resolved(x["then"])) for x in part["allOf"]]
        return st.one_of([_values(_typed(form, kind), depth + 1) for kinds, form in branches for kind in kinds])
    if "enum" in part:
        return st.sampled_from(part["enum"])
    kind = part["type"][0] if isinstance(part.get("type"), list) else part.get("type")
    match kind:
        case "object":
            fields = {key: _values(form, depth + 1) for key, form in part.get("properties", {}).items()}
            wanted = {key: form for key, form in fields.items() if key in part.get("required", ())}
            others = {key: form for key, form in fields.items() if key not in wanted}
            return st.fixed_dictionaries(wanted, optional=others)
        case "array":
            return st.lists(_values(part["items"], depth + 1), min_size=part.get("minItems", 0), max_size=3)
        case "string":
            return st.sampled_from(SIZES if "size" in part.get("format", "") else TEXTS)
        case "boolean":
            return st.booleans()
    return st.sampled_from(ODD)


def _typed(form: Any, kind: str) -> Any:
    return {**form, "properties": {**form["properties"], "type": {"enum": [kind]}}}


@functools.cache
def _by_key() -> dict[str, st.SearchStrategy[Any]]:
    """For the key of any object of the schema, values for it."""
    found: dict[str, list[Any]] = {}
    left = [FORM]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            for key, form in part.get("properties", {}).items() if isinstance(part.get("properties"), dict) else ():
                found.setdefault(key, []).append(form)
            left += part.values()
    return {key: st.one_of([_values(form, 3) for form in found[key][:4]]) for key in found}


ANY = st.one_of(st.sampled_from(TEXTS), st.sampled_from(SIZES), st.sampled_from(ODD))


@st.composite
def damaged(draw: st.DrawFn, originals: Sequence[Any]) -> Any:
    """The input of a case file with up to two places changed."""
    value = copy.deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 2))):
        found = places(value)
        if not found:
            break
        container, key = found[draw(st.integers(0, len(found) - 1))]
        match draw(st.integers(0, 3)):
            case 0:
                del container[key]
            case 1:
                container[key] = copy.deepcopy(draw(_by_key().get(str(key), ANY)))
            case 2:
                other, there = found[draw(st.integers(0, len(found) - 1))]
                container[key] = copy.deepcopy(other[there])
            case _:
                container[key] = copy.deepcopy(draw(ANY))
    return value


@functools.cache
def _stage() -> tuple[DeployDriver, list[Action]]:
    transport = plugin.load("bareon.drivers.deploy", "rsync", DeployDriver)
    return transport, [plugin.load("bareon.actions", name, Action) for name in transport.flow]


_node = functools.cache(cases.node)


def judged(given: bytes, node: str, stages: int) -> str:
    """What comes of a document, in a word: a plan or the class of an error that names something."""
    driver, (transport, actions) = Ironic(), _stage()
    started = time.process_time()
    try:
        plan = decide(driver.parse(given), _node(node), actions[:stages], transport, SEED).plan
        json.dumps(document.document(plan))
        text.render(plan, _node(node))
        found = "plan"
    except (InvalidInput, UnsuitableNode, DisksDiffer) as error:
        assert error.lines() and all(error.lines())
        found = type(error).__name__
    assert time.process_time() - started < LIMIT
    return found


@settings(
    max_examples=DOCUMENTS,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    value=st.one_of(
        damaged(inputs("ironic")),
        damaged(inputs("ironic")),
        damaged(inputs("ironic")),
        _values(FORM),
    ),
    node=st.sampled_from(NODES),
    stages=st.integers(1, 4),
)
def fuzzed(value: Any, node: str, stages: int) -> None:
    ROWS[judged(json.dumps(value).encode(), node, stages)] += 1


@pytest.mark.pain("errors-for-nobody")
def test_fuzz(record_property: Record) -> None:
    started = time.monotonic()
    fuzzed()
    seconds = time.monotonic() - started
    record_property("fuzzed documents", f"{sum(ROWS.values())} in {seconds:.0f} s, {dict(ROWS)}")
    assert sum(ROWS.values()) >= DOCUMENTS
    assert min(ROWS["plan"], ROWS["InvalidInput"], ROWS["UnsuitableNode"]) > DOCUMENTS / 200


@pytest.mark.parametrize("dialect", ["ironic", "nailgun"])
def test_what_is_checked_is_the_published_schema(dialect: str) -> None:
    """Our own rules for a few keywords, which are there for speed, find what the library's find, in all cases."""
    name = f"{dialect}.json"
    rules = {"pattern": forms._pattern}
    library: Any = extend(Draft202012Validator, rules)(forms.schema(name), format_checker=forms._formats())
    defects = 0
    for value in inputs(dialect):
        ours, theirs = (
            Counter((error.json_path, error.validator, error.message) for error in validator.iter_errors(value))
            for validator in (forms._validator(name)[0], library)
        )
        assert ours == theirs
        defects += ours.total()
    assert defects > 20


def _volumes(volumes: Any, **more: Any) -> bytes:
    disk = {"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": volumes}
    return json.dumps({"partitions": [disk], "partitions_policy": "clean", **more}).encode()


VOLUME = {"type": "partition", "size": "1 MiB"}
MANY = 100_000
LARGE: dict[str, bytes] = {
    "brackets": b"[" * MANY,
    "closed brackets": b"[" * MANY + b"]" * MANY,
    "objects": b'{"a":' * MANY,
    "5000 digits": b'{"partitions": 1' + b"0" * 5000 + b"}",
    "a size of 5000 digits": _volumes([{**VOLUME, "size": "9" * 5000}]),
    "a million of options": _volumes([], image_deploy_flags={"rsync_flags": "-a " * 1_000_000}),
    "a long key": json.dumps({"k" * 5_000_000: 1}).encode(),
    "volumes": _volumes([VOLUME] * MANY),
    "mounts": _volumes([{**VOLUME, "mount": f"/m{i}"} for i in range(MANY)]),
    "misspelt": _volumes([{**VOLUME, "mout": "/"}] * MANY),
    "keys": json.dumps({f"k{i}": 1 for i in range(MANY)}).encode(),
    "arrays": _volumes([{**VOLUME, "type": "raid", "mount": f"/m{i}"} for i in range(MANY)]),
    "as many arrays as are read": _volumes([{**VOLUME, "type": "raid", "mount": f"/m{i}"} for i in range(4000)]),
    "as many mistakes as are read": _volumes([{**VOLUME, "mout": "/"}] * 4000),
    "as many disks as are read": json.dumps(
        {
            "partitions": [
                {"type": "disk", "id": {"type": "name", "value": f"v{i}"}, "volumes": []} for i in range(4000)
            ]
        }
    ).encode(),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_documents_are_judged_quickly(name: str) -> None:
    assert judged(LARGE[name], "two-disks", 1) in ("InvalidInput", "UnsuitableNode")


def test_what_is_no_utf8() -> None:
    for broken in (b"\xff", b'{"partitions": "\xc3"}', '{"a": 1}'.encode("utf-16"), b"\xef\xbb\xbf{}"):
        assert judged(broken, "two-disks", 1) == "InvalidInput"


def test_contents_of_the_configdrive_are_not_counted() -> None:
    volumes = [{"type": "partition", "size": "1 GiB", "mount": "/"}]
    content = {"list": [0] * 10_000, **{f"k{i}": i for i in range(70_000)}}
    assert judged(_volumes(volumes, configdrive={"meta_data": content}), "two-disks", 1) == "plan"

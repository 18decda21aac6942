# SPDX-License-Identifier: Apache-2.0
"""A JSON document, strictly read and compared with its schema; all defects, each with its JSON path."""

from __future__ import annotations

import difflib
import functools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bareon.drivers.data.fit import BY_TYPE, FORMATS, SECRET, plainly_fits
from bareon.drivers.data.schema import schema
from bareon.errors import Defect, InvalidInput
from bareon.text import shown

if TYPE_CHECKING:
    from jsonschema import FormatChecker, ValidationError

LARGEST = 64 << 20  # bytes
MOST_ITEMS = 4096  # in all lists together, and
MOST_KEYS = 65536  # in all objects together: nothing takes longer than people wait
_DIGITS = 100  # of a number
_SHOWN = 60  # characters of a value in a message


def load(text: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    :raises InvalidInput: for what is no JSON, keys that stand twice, and numbers that JSON or Python does not have.
    """
    defects: list[Defect] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            seen: set[str] = set()
            twice = {key for key, _ in items if key in seen or seen.add(key)}  # type: ignore[func-returns-value]
            defects.extend(Defect("$", f"the key {key!r} stands twice in one object") for key in sorted(twice))
        return found

    def constant(name: str) -> None:
        raise ValueError(f"{name} is no JSON value")

    def number(digits: str) -> int | float:
        if len(digits) > _DIGITS or math.isinf(float(digits)):
            defects.append(Defect("$", f"the number {_shown(digits)} is too large"))
            return 0
        return float(digits) if set(digits) & set(".eE") else int(digits)

    if len(text) > LARGEST:
        raise InvalidInput([Defect("$", f"larger than {LARGEST >> 20} MiB")])
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=pairs,
            parse_constant=constant,
            parse_int=number,
            parse_float=number,
        )
    except UnicodeDecodeError as error:
        raise InvalidInput([Defect("$", f"not UTF-8 at byte {error.start}")]) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidInput([Defect("$", f"not JSON: {error.msg} at {where}")]) from None
    except RecursionError:
        raise InvalidInput([Defect("$", "nested too deeply")]) from None
    except ValueError as error:
        raise InvalidInput([Defect("$", f"not JSON: {error}")]) from None
    if b"\\u" in text:  # UTF-8 itself cannot hold halves
        defects += [Defect(path, "not text: half of a surrogate pair") for path in _halves(value, "$")]
    if defects:
        raise InvalidInput(defects)
    return value


def _halves(value: Any, path: str) -> Iterator[str]:
    """The paths of strings that cannot be written as UTF-8: JSON can escape what is no character."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            yield path
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _halves(item, f"{path}[{number}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _halves(key, path)
            yield from _halves(item, f"{path}.{key}")


@functools.cache
def _inlined(name: str) -> Any:
    """The schema in a form that takes a third of the time: references replaced, branches by type made a table."""
    whole = schema(name)

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            part = {**whole["$defs"][part["$ref"].removeprefix("#/$defs/")], **part}
            del part["$ref"]
        found = {key: inline(item) for key, item in part.items() if key not in _NO_RULES}
        if "properties" in part:  # there the keys are those of the input
            found["properties"] = {key: inline(item) for key, item in part["properties"].items()}
        if "allOf" in found:
            found[BY_TYPE] = _branches(found.pop("allOf"))
        return found or True

    return inline(whole)


_NO_RULES = ("$defs", "$schema", "title", "description", "deprecated", "x-without-effect")


def _branches(branches: list[Any]) -> dict[str, Any]:
    """Branches of the form "if type is one of these, then" as a table, so that only one of them is tried."""
    return {kind: branch["then"] for branch in branches for kind in branch["if"]["properties"]["type"]["enum"]}


def _by_type(validator: Any, table: dict[str, Any], value: Any, _schema: Any) -> Iterator[ValidationError]:
    """The rule for :data:`BY_TYPE`."""
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind in table:
        yield from validator.descend(value, table[kind])


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
    """The rule for ``pattern``, for the whole text: ``$`` alone would let a newline at its end pass."""
    if isinstance(value, str) and not re.fullmatch(pattern, value):
        from jsonschema import ValidationError

        yield ValidationError(f"{value!r} does not match {pattern!r}")


@functools.cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    kind: Any = extend(Draft202012Validator, {BY_TYPE: _by_type, "pattern": _pattern})  # type: ignore[no-untyped-call]
    return kind(_inlined(name), format_checker=_formats())


def check(value: Any, schema_name: str) -> None:
    """Compare ``value`` with a schema of this package.

    :raises InvalidInput: with every defect.
    """
    if defects := list(_excess(value, schema(schema_name))):
        raise InvalidInput(defects)
    if plainly_fits(value, _inlined(schema_name)):
        return
    errors = _validator(schema_name).iter_errors(value)
    defects = list(dict.fromkeys(defect for error in errors for defect in _defects(error)))
    if defects:
        raise InvalidInput(sorted(defects, key=lambda defect: defect.path))


def _excess(value: Any, form: dict[str, Any]) -> Iterator[Defect]:
    """What is more than anybody needs. Contents that only pass through are not counted."""
    secret = {key for key, part in form.get("properties", {}).items() if part.get(SECRET)}
    left = [x for key, x in value.items() if key not in secret] if isinstance(value, dict) else [value]
    items, keys = 0, len(value) if isinstance(value, dict) else 0
    while left:
        match left.pop():
            case list() as found:
                items += len(found)
                left += found
            case dict() as found:
                keys += len(found)
                left += found.values()
    if items > MOST_ITEMS:
        yield Defect("$", f"has {items} items in its lists, more than the {MOST_ITEMS} that are read")
    if keys > MOST_KEYS:
        yield Defect("$", f"has {keys} keys in its objects, more than the {MOST_KEYS} that are read")


def _formats() -> FormatChecker:
    from jsonschema import FormatChecker

    checker = FormatChecker(formats=())
    for name, test in FORMATS.items():
        checker.checks(name, raises=ValueError)(lambda x, test=test: not isinstance(x, str) or test(x))
    return checker


def _defects(error: ValidationError) -> Iterator[Defect]:
    path = error.json_path
    value: Any = error.instance
    rule: Any = error.validator_value
    secret = isinstance(error.schema, Mapping) and error.schema.get(SECRET)
    match error.validator:
        case "additionalProperties":
            known = error.schema.get("properties", {}) if isinstance(error.schema, Mapping) else {}
            for key in sorted(set(value) - set(known)):
                yield Defect(path, f"unknown key {_shown(key)}{did_you_mean(key, known)}")
        case "required":
            for key in (key for key in rule if key not in value):
                yield Defect(path, f"the key {key!r} is missing")
        case "type":
            seen = "something else" if secret else f"{_shown(value)}{_size_hint(value, error)}"
            yield Defect(path, f"expected {_kind(rule)}, found {seen}")
        case "enum":
            listed = ", ".join(json.dumps(x) for x in rule)
            yield Defect(path, f"{_shown(value)} is none of {listed}{did_you_mean(value, rule)}")
        case "pattern":
            meaning = error.schema.get("x-pattern") if isinstance(error.schema, Mapping) else None
            seen = "this" if secret else _shown(value)
            yield Defect(path, f"{seen} is not {meaning or 'of the form ' + str(rule)}")
        case "format":
            yield Defect(path, str(error.cause))
        case "minItems":
            yield Defect(path, "must not be empty")
        case "minLength":
            yield Defect(path, "must not be empty")
        case "minimum" | "maximum":
            bound = "less" if error.validator == "minimum" else "more"
            yield Defect(path, f"{_shown(value)} is {bound} than {rule}")
        case "maxLength":
            yield Defect(path, f"longer than {rule} characters")
        case "uniqueItems":
            yield Defect(path, "an item stands twice")
        case _:
            yield Defect(path, error.message[:200])


def did_you_mean(word: object, known: Iterable[object]) -> str:
    """A hint for a misspelt word, or nothing."""
    names = [x for x in known if isinstance(x, str)]
    near = difflib.get_close_matches(word.lower(), names, 1, 0.6) if isinstance(word, str) else []
    return f", did you mean {near[0]!r}?" if near else ""


def _shown(value: object) -> str:
    if isinstance(value, str) and "://" in value:
        value = shown(value)  # it may hold a password or a signature
    text = json.dumps(value) if not isinstance(value, dict | list) else ("{…}" if isinstance(value, dict) else "[…]")
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _kind(rule: object) -> str:
    names = {
        "string": "a string",
        "object": "an object",
        "array": "a list",
        "boolean": "true or false",
        "integer": "a whole number",
        "null": "null",
    }
    kinds = rule if isinstance(rule, list) else [rule]
    return " or ".join(names.get(str(kind), str(kind)) for kind in kinds)


def _size_hint(value: object, error: ValidationError) -> str:
    if error.json_path.endswith(".size") and isinstance(value, int) and not isinstance(value, bool):
        return f': write "{value} MiB"'
    return ""

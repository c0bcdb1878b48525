"""Every field of the CRD's schema, and what can be written there instead of what should be."""

import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Path = tuple[str | int, ...]
Schema = dict[str, Any]
Spec = dict[str, Any]
Change = tuple[str, Any]
"""A mutation, with the value that it leaves behind."""

GONE: Final = object()
"""Instead of a value: the field is not there."""

_LONG: Final = "a" * 20_000
_UNICODE: Final = "é\u2028\U0001f600"
_ODD_KEYS: Final = ("", "a b", "é", "a/b/c", "a" * 400)
_STRINGS: Final = (
    "",
    "a",
    "A B",
    "7s",
    "b.example.com",
    "10.2.3.0/26",
    "-",
    "a\n",
    _UNICODE,
    _LONG,
)


@dataclass(frozen=True, slots=True)
class Mutation:
    """One spec that differs from a good one at one place."""

    base: str
    """The good spec that it comes from."""
    path: Path
    """Where, below the spec."""
    what: str
    spec: Spec

    def __str__(self) -> str:
        return f"{self.base}: {self.field} {self.what}"

    @property
    def field(self) -> str:
        """The field as its schema calls it: `.backends[].url`."""
        return pattern(self.path)


def pattern(path: Path) -> str:
    """A path whose indices are not told."""
    return "".join("[]" if isinstance(part, int) else f".{part}" for part in path)


def mutations(schema: Schema, bases: Mapping[str, Spec]) -> list[Mutation]:
    """Mutations of every field of `schema`, each at the first place where a base has it."""
    donors = _donors(schema, bases)
    seen: set[str] = set()
    result: list[Mutation] = []
    for base, spec in bases.items():
        for path, below, value in _places(schema, spec, ()):
            here = pattern(path) + ("" if value is not GONE else "+")
            if here in seen or (value is GONE and pattern(path) not in donors):
                continue
            seen.add(here)
            changes = (
                [("added", donors[pattern(path)])] if value is GONE else _changes(below, value)
            )
            result += [
                Mutation(base, path, what, changed(spec, path, after)) for what, after in changes
            ]
    return [item for item in result if item.spec != bases[item.base]]


def chosen(every: list[Mutation], count: int, each: int, seed: int = 0) -> list[Mutation]:
    """`count` of them (or more), `each` or all of each field; the same for the same seed."""
    mixed = random.Random(seed).sample(every, len(every))
    taken: Counter[str] = Counter()
    first: list[Mutation] = []
    rest: list[Mutation] = []
    for item in mixed:
        taken[item.field] += 1
        (first if taken[item.field] <= each else rest).append(item)
    keep = {id(entry) for entry in (*first, *rest[: max(0, count - len(first))])}
    return [element for element in every if id(element) in keep]


def changed(spec: Spec, path: Path, value: Any) -> Spec:
    """`spec` with another value at `path`, or with none."""
    result = copy.deepcopy(spec)
    place: Any = result
    for part in path[:-1]:
        place = place[part]
    if value is not GONE:
        place[path[-1]] = copy.deepcopy(value)
    elif isinstance(place, dict):
        place.pop(path[-1], None)
    else:
        del place[path[-1]]
    return result


def _places(schema: Schema, value: Any, path: Path) -> Iterator[tuple[Path, Schema, Any]]:
    """Path, schema and value of all that is there, and of the fields that could be."""
    if path:
        yield path, schema, value
    if isinstance(value, dict):
        for name, below in schema.get("properties", {}).items():
            if name in value:
                yield from _places(below, value[name], (*path, name))
            else:
                yield (*path, name), below, GONE
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _places(schema["items"], item, (*path, number))


def _donors(schema: Schema, bases: Mapping[str, Spec]) -> dict[str, Any]:
    """A good value of each field."""
    result: dict[str, Any] = {}
    for spec in bases.values():
        for path, _, value in _places(schema, spec, ()):
            if value is not GONE:
                result.setdefault(pattern(path), value)
    return result


def _changes(schema: Schema, value: Any) -> list[Change]:
    if "enum" in schema:
        special = [(f"is {other}", other) for other in schema["enum"]] + [("is odd", "Nonsense")]
    elif schema.get("x-kubernetes-int-or-string"):
        odd = (0, 1, 10**6, "1", "50%", "101%", "1Mi", "0.5", "x", "-1", 1.5, True)
        special = [(f"is {other!r}", other) for other in odd]
    else:
        special = _BY_TYPE[schema["type"]](schema, value)
    other_types: tuple[Any, ...] = ("x", 7, True, {}, [])
    wrong = [other for other in other_types if type(other) is not type(value)]
    return [
        ("removed", GONE),
        ("is null", None),
        *((f"is of the type {type(other).__name__}", other) for other in wrong),
        *special,
    ]


def _of_string(schema: Schema, value: str) -> list[Change]:
    result = [(f"is {text[:20]!r}", text) for text in _STRINGS]
    result += [("is longer", f"{value}x"), ("has blanks", f" {value} ")]
    most = schema.get("maxLength")
    if most is not None:
        result += [("is at its bound", "a" * most), ("is beyond its bound", "a" * (most + 1))]
    return result


def _of_integer(schema: Schema, value: int) -> list[Change]:
    least, most = schema.get("minimum"), schema.get("maximum")
    edges = [least, most, *([least - 1] if least is not None else [])]
    edges += [most + 1] if most is not None else []
    numbers = {
        value + 1,
        value - 1,
        0,
        -1,
        2**31,
        2**63,
        *(edge for edge in edges if edge is not None),
    }
    return [(f"is {number}", number) for number in sorted(numbers)] + [("is broken", value + 0.5)]


def _of_boolean(_: Schema, value: bool) -> list[Change]:
    return [("is the other", not value), ("is text", str(value).lower()), ("is 1", 1)]


def _of_array(schema: Schema, value: list[Any]) -> list[Change]:
    first, many = value[:1], schema.get("maxItems", 64) + 1
    return [
        ("is empty", []),
        ("has its first alone", first),
        ("is reversed", value[::-1]),
        ("has its first twice", [*value, *first]),
        ("holds null", [*value, None]),
        ("is nested", [value]),
        ("is beyond its bound", [_numbered(item, n) for item in first for n in range(many)]),
        ("is at its bound", [_numbered(entry, n) for entry in first for n in range(many - 1)]),
    ]


def _numbered(item: Any, number: int) -> Any:
    """An entry that differs from its like."""
    if isinstance(item, dict):
        return {**item, **({"name": f"n{number}"} if "name" in item else {})}
    return f"{item}{number}" if isinstance(item, str) else number


def _of_object(schema: Schema, value: dict[str, Any]) -> list[Change]:
    if "additionalProperties" not in schema:
        return [
            ("is empty", {}),
            ("has an unknown field", {**value, "nonsense": 1}),
            ("has its keys reversed", dict(reversed(value.items()))),
        ]
    item = next(iter(value.values()))
    below = schema["additionalProperties"]
    return [
        ("is empty", {}),
        *((f"has the key {key[:20]!r}", {**value, key: item}) for key in _ODD_KEYS),
        ("has one more", {**value, "more": item}),
        ("has many", {f"n{number}": item for number in range(65)}),
        *(
            (f"an entry {what}", {**value, "entry": after})
            for what, after in _changes(below, item)
            if after is not GONE
        ),
    ]


_BY_TYPE: Final[dict[str, Callable[[Schema, Any], list[Change]]]] = {
    "string": _of_string,
    "integer": _of_integer,
    "boolean": _of_boolean,
    "array": _of_array,
    "object": _of_object,
}

"""Every field set to every odd value: the API server and the parser give the same verdict."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from mcpproxy.api import constants, manifest
from mcpproxy.api.manifest_errors import ManifestError
from tests.apiserver.server import ApiServer
from tests.support.every_field import AUTOSCALED, EVERY_FIELD

pytestmark = pytest.mark.apiserver

# Not among them, since they are known to differ: null as a value of a map and 2.0 for an integer,
# which the API server takes, ports in a url, which no pattern can bound, and expressions of `when`,
# which only the parser compiles.
ODD: tuple[Any, ...] = (
    *(0, -1, 1.5, 10**10, True, [], {}, ["x"], {"name": "x"}, [{"name": "x"}]),
    *("", "x", "A B", "a.b", "..", "é", "*", "a\n", "a\u2028b", "a" * 70, "a" * 3000),
    *("5s", "0s", "-1s", "1h1h", "25h", "99999h", "1٣s", "0.0000000001s", "1e3", "1Mi", "-0", "1."),
    *("50%", "0%", "101%", "050%", "65536"),
    *("https://a", "HTTP://a", "http://a?x", "http://a/\u00a0", "Reused", "2025-11-25"),
)
CASES = 1200


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field and entry below `value`."""
    fields: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        fields = list(value.items())
    if isinstance(value, list):
        fields = list(enumerate(value))
    for key, below in fields:
        yield (*path, key)
        yield from paths(below, (*path, key))


def changed(whole: dict[str, Any], path: tuple[Any, ...], odd: Any) -> dict[str, Any]:
    """A proxy, one of its fields odd."""
    result = copy.deepcopy({**whole, "metadata": {"name": "tools", "namespace": "default"}})
    place: Any = result["spec"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = odd
    return result


def parser_takes(value: dict[str, Any]) -> bool:
    try:
        manifest.parse(value)
    except ManifestError:
        return False
    return True


def test_the_api_server_and_the_parser_agree_on_odd_values(apiserver: ApiServer) -> None:
    every = [
        (whole, path, odd)
        for whole in (EVERY_FIELD, AUTOSCALED)
        for path in paths(whole["spec"])
        if path[-1] != "when"
        for odd in ODD
    ]
    url = f"/apis/{constants.API_VERSION}/namespaces/default/{constants.PLURAL}"
    differ, taken = [], 0
    with apiserver.client() as client:
        for whole, path, odd in random.Random(0).sample(every, CASES):
            value = changed(whole, path, odd)
            answer = client.post(f"{url}?fieldValidation=Strict&dryRun=All", json=value)
            taken += answer.is_success
            if answer.is_success != parser_takes(value):
                differ.append(
                    (".".join(map(str, path)), odd, json.loads(answer.text).get("message"))
                )
    assert differ == []
    assert CASES * 0.05 < taken < CASES * 0.9

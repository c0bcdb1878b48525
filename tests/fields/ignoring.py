"""A plugin of pytest: the runtime does not heed one field, which the environment names.

`pytest -p tests.fields.ignoring` with IGNORED_FIELD=.backends[].prefix; what shows that the field
matters has to fail then.
"""

import copy
import itertools
import os
from collections.abc import Iterator
from typing import Any, Final

from mcpproxy.api import manifest
from mcpproxy.api.v1alpha1 import MCPProxy
from tests.fields.schema import is_required, parts
from tests.proxy.runtime import waiting

IGNORED: Final = os.environ["IGNORED_FIELD"]
PATIENCE: Final = 3.0
_NUMBERS: Final = itertools.count()
_INSTEAD: Final = {
    "url": "http://127.0.0.1:9/mcp",
    "endpoint": "http://127.0.0.1:9",
    "command": "false",
    "issuer": "http://127.0.0.1:9",
    "port": 9,
}
_NEEDED: Final = {".backends[].url", ".backends[].headers[].value", ".backends[].stdio.env[].value"}
"""Fields without which a rule between fields is broken."""
_REPLACED: Final = {".authorization.rules[].who.any": {"apiKeys": ["ignored"]}}
"""Fields without which their object is broken, and what the object has instead."""


def pytest_configure() -> None:
    """Every manifest is read without the field."""
    waiting.BOUND = PATIENCE
    as_written = manifest.parse

    def parse(manifest: Any) -> MCPProxy:
        result = copy.deepcopy(manifest)
        for holder, name in _places(result["spec"], parts(IGNORED)):
            if is_required(IGNORED) or IGNORED in _NEEDED:
                holder[name] = _INSTEAD.get(name, f"ignored{next(_NUMBERS)}")
            else:
                del holder[name]
                holder.update(_REPLACED.get(IGNORED, {}))
        return as_written(result)

    manifest.parse = parse


def _places(value: Any, path: list[str]) -> Iterator[tuple[dict[str, Any], str]]:
    first, *rest = path
    if first == "[]":
        for item in value:
            yield from _places(item, rest)
    elif first in value and not rest:
        yield value, first
    elif first in value:
        yield from _places(value[first], rest)

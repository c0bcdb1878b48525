"""JSON that is also valid YAML 1.1, because the API server and our own loader parse it as YAML."""

import json
import re
from typing import Any, Final

# YAML treats some characters as line breaks, rejects others, and has no surrogate pairs in escapes.
_ESCAPED: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def json_text(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """Return `value` as JSON. Characters are escaped only if YAML would read them differently."""
    text = json.dumps(value, indent=indent, sort_keys=sort_keys, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)

"""JSON as text that is YAML 1.1 as well, which the API server and our own loader read it as."""

import json
import re
from typing import Any, Final

# YAML takes some characters for line breaks or refuses them, and knows no escape in two halves.
_ESCAPED: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def json_text(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """`value` as JSON; characters are themselves wherever YAML reads them alike."""
    text = json.dumps(value, indent=indent, sort_keys=sort_keys, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)

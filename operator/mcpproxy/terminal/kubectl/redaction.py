"""Redaction of objects and logs for a support bundle. Pure.

Objects lose every value that can be a secret. Each value that was taken from an object, and each
known form of credentials, is also taken from all texts.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote

from mcpproxy.terminal.files.secret_values import is_secret_name, is_secret_value

REDACTED: Final = "[redacted]"
MAX_DEPTH: Final = 100
"""Levels of an object; deeper values are left out."""
MIN_LENGTH: Final = 4
"""Length of a value or line that is taken from all texts; shorter ones would occur by chance."""
_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_NAMED: Final = frozenset({"key", "keys", "secretName", "tokenExpirationSeconds", "name", "kind"})
"""Fields that name a place of a secret, and never contain one."""
_LISTS: Final = frozenset({"env", "headers", "httpHeaders"})
_TEXTS: Final = re.compile(
    r"(?P<scheme>\b(?:bearer|basic|token)\s+)[^\s\"',;\\]+"
    r"|(?P<jwt>\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){0,4})"
    r"|(?P<pem>-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$))"
    r"|(?P<user>://)[^/\s:@\"']*:[^/\s@\"']+@"
    r"|(?P<known>\b(?:gh[pousr]_|github_pat_|glpat-|sk-|sk_|xox[abeprs]-|ntn_|secret_|AKIA|ASIA|AIza"
    r"|hf_|npm_|pypi-|ctx7sk)[A-Za-z0-9_.=-]{4,})"
    r"|(?P<pair>\b[\w-]*(?:authorization|token|secret|passw(?:or)?d|api[-_]?key|access[-_]?key"
    r"|credential|cookie|signature)[\w-]*[\"']?\s*[=:]\s*[\"']?(?:(?:bearer|basic|token)\s+)?)[^\s\"',;&}\\]+",
    re.I | re.DOTALL,
)


class Redactor:
    """Redaction with the memory of all values that objects have lost."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def take_object(self, value: Any) -> Any:
        """Return an object of Kubernetes without secrets, and remember their values."""
        if isinstance(value, dict) and value.get("kind") == "Secret":
            self._remember(value.get("stringData"))
            metadata = value.get("metadata")
            name = metadata.get("name") if isinstance(metadata, dict) else None
            return {"kind": "Secret", "metadata": {"name": name}, "data": REDACTED}
        return self._taken(value, "", 0)

    def _taken(self, value: Any, field: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            return REDACTED
        if isinstance(value, dict):
            return {key: self._member(key, inner, field, depth + 1) for key, inner in value.items()}
        if isinstance(value, list):
            if field in ("args", "command"):
                return list(self._arguments(value, depth))
            return [self._taken(inner, field, depth + 1) for inner in value]
        if isinstance(value, str):
            return self._text(value)
        return value

    def _member(self, key: str, value: Any, field: str, depth: int) -> Any:
        if key == _APPLIED:
            return REDACTED
        is_secret = key == "value" and field in _LISTS
        if isinstance(value, str) and key not in _NAMED and (is_secret or _names_secret(key)):
            self._remember(value)
            return REDACTED
        return self._taken(value, key, depth)

    def _arguments(self, values: list[Any], depth: int) -> Iterator[Any]:
        """Yield arguments without the values of options that name secrets."""
        follows = False
        for value in values:
            if not isinstance(value, str):
                yield self._taken(value, "", depth + 1)
                continue
            option, equals, inner = value.partition("=")
            if equals and option.startswith("-") and is_secret_name(option):
                self._remember(inner)
                yield f"{option}={REDACTED}"
            elif follows or is_secret_value(value):
                self._remember(value)
                yield REDACTED
            else:
                yield self._text(value)
            follows = value.startswith("-") and not equals and is_secret_name(option)

    def _text(self, value: str) -> str:
        """Return a text without credentials; a text that is JSON itself is read as such."""
        if value.lstrip().startswith(("{", "[")):
            try:
                return json.dumps(self.take_object(json.loads(value)), indent=2)
            except (ValueError, RecursionError):
                pass
        return redact_patterns(value)

    def _remember(self, value: Any) -> None:
        if isinstance(value, str):
            self._values.add(value)
        elif isinstance(value, dict):
            for inner in value.values():
                self._remember(inner)

    def clean_text(self, text: str) -> str:
        """Return a text without the values that objects have lost, and without credentials."""
        forms = sorted({form for value in self._values for form in _forms(value)}, key=len)
        for form in reversed(forms):
            text = text.replace(form, REDACTED)
        return redact_patterns(text)


def _names_secret(key: str) -> bool:
    return is_secret_name(key) and not key.endswith(
        ("Ref", "Name", "Path", "Url", "From", "Seconds")
    )


def _forms(value: str) -> Iterable[str]:
    """Return the forms in which a value may occur in a text."""
    parts = {value, value.strip(), *value.splitlines()}
    scheme, _, rest = value.partition(" ")
    if scheme.lower() in ("bearer", "basic", "token"):
        parts.add(rest)
    forms: set[str] = set()
    for part in parts:
        forms |= {
            part,
            quote(part, safe=""),
            base64.b64encode(part.encode("utf-8", "replace")).decode(),
        }
        forms |= {json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1]}
        forms.add(json.dumps(json.dumps(part)[1:-1])[1:-1])
    return {form for form in forms if len(form) >= MIN_LENGTH}


def redact_patterns(text: str) -> str:
    """Return a text without the known forms of credentials."""
    return _TEXTS.sub(_replace, text)


def _replace(match: re.Match[str]) -> str:
    for group in ("scheme", "user", "pair"):
        if match[group] is not None:
            return f"{match[group]}{REDACTED}{'@' if group == 'user' else ''}"
    return REDACTED

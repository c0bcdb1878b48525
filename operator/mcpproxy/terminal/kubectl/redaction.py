"""Redaction of objects and logs for a support bundle. Pure.

Objects lose every value that can be a secret. Each value that was taken from an object, and each
known form of credentials, is also taken from all texts.
"""

import base64
import json
import shlex
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote

from mcpproxy.terminal.files.secret_values import is_secret, is_secret_name, is_secret_value
from mcpproxy.terminal.kubectl.credential_patterns import REDACTED, redact_patterns

MAX_DEPTH: Final = 100
"""Levels of an object; deeper values are left out."""
MIN_LENGTH: Final = 4
"""Length of a value or line that is taken from all texts; shorter ones would occur by chance."""
_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_NAMED: Final = frozenset({"key", "keys", "secretName", "tokenExpirationSeconds", "name", "kind"})
"""Fields that name a place of a secret, and never contain one."""
_LISTS: Final = frozenset({"env", "headers", "httpHeaders"})
_SWITCHES: Final = frozenset({"-y", "--yes", "-m", "-i", "--rm", "--from", "--with", "--package"})
"""Options of programs that start servers, whose next word is not a secret."""
_ANNOTATIONS: Final = ("kubernetes.io", "k8s.io", "mcpproxy.dev", "argoproj.io", "helm.sh")
"""Domains of annotations that keep their values. Those of others can contain anything."""


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
            if isinstance(value.get("command"), str) and isinstance(value.get("args"), list):
                value = {**value, "args": list(self._program_arguments(value["args"]))}
            return {key: self._member(key, inner, field, depth + 1) for key, inner in value.items()}
        if isinstance(value, list):
            if field in ("args", "command"):
                return list(self._arguments(value, depth))
            return [self._taken(inner, field, depth + 1) for inner in value]
        if isinstance(value, str):
            return self._text(value)
        return value

    def _member(self, key: str, value: Any, field: str, depth: int) -> Any:
        if key == _APPLIED or (field == "annotations" and not _is_known_annotation(key)):
            self._remember(value)
            return REDACTED
        is_secret = key == "value" and field in _LISTS
        if isinstance(value, str) and key not in _NAMED and (is_secret or _names_secret(key)):
            self._remember(value)
            return REDACTED
        return self._taken(value, key, depth)

    def _arguments(self, values: list[Any], depth: int) -> Iterator[Any]:
        """Yield arguments without the values of options that name secrets."""
        option = ""
        for value in values:
            if not isinstance(value, str):
                yield self._taken(value, "", depth + 1)
                continue
            name, equals, inner = value.partition("=")
            if equals and name.startswith("-") and is_secret(name, inner):
                self._remember(inner)
                yield f"{name}={REDACTED}"
            elif is_secret(option, value):
                self._remember(value)
                yield REDACTED
            else:
                yield self._text(value)
            option = value if value.startswith("-") and not equals else ""

    def _program_arguments(self, values: list[Any]) -> Iterator[Any]:
        """Yield the arguments of a program of others, without the values of its options.

        Its options are unknown, so the value of each can be a secret.
        """
        option = ""
        for value in values:
            if not isinstance(value, str):
                yield REDACTED
                continue
            name, equals, inner = value.partition("=")
            is_option = value.startswith("-")
            if is_option and equals:
                self._remember(inner)
                yield f"{name}={REDACTED}"
            elif is_option or option in _SWITCHES or value.isdecimal():
                yield value
            elif not option and not is_secret_value(value):
                yield redact_patterns(value)
            elif option == "-c":
                yield self._shell_line(value)
            else:
                self._remember(value)
                yield REDACTED
            option = value if is_option and not equals else ""

    def _shell_line(self, line: str) -> str:
        try:
            words = shlex.split(line)
        except ValueError:
            words = []
        if words[:1] != ["exec"]:
            self._remember(line)
            return REDACTED
        return shlex.join(self._program_arguments(words))

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


def _is_known_annotation(key: str) -> bool:
    domain = key.partition("/")[0]
    return any(domain == known or domain.endswith(f".{known}") for known in _ANNOTATIONS)


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

"""Conversion of clients' configuration files to an MCPProxy and the Secret that it references.

The values of secrets are left out: neither the manifest nor the Secret contains them.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mcpproxy.api import constants
from mcpproxy.api.manifest import parse
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.proxy.config.mcp_json import read_file
from mcpproxy.proxy.config.mcp_servers import ServerEntry, parse_servers, to_file_error
from mcpproxy.terminal.files.deferred_variables import (
    FOLDERS,
    MARK,
    deferred,
    has_mark,
    require_values,
    show_variables,
)
from mcpproxy.terminal.files.images import choose_variant, explain_image, program_in_image
from mcpproxy.terminal.files.secret_values import (
    is_secret,
    is_secret_value,
    secret_part_of_url,
)

NAME: Final = "mcpproxy"
_SHORT: Final = {"-p": "--password", "-u": "--user"}
_OPTION: Final = re.compile(r"(--?[A-Za-z][\w-]*)(?:=(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SecretEntry:
    """A value that its owner has to fill in."""

    key: str
    origin: str
    """Field of the file with the value, and its form without the value."""


@dataclass(slots=True)
class Conversion:
    """An MCPProxy, the entries of its Secret, and notes for the reader."""

    proxy: MCPProxy
    manifest: dict[str, Any]
    secret_name: str
    secrets: list[SecretEntry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def convert_file(
    path: Path,
    name: str = NAME,
    namespace: str | None = None,
    version: str = "VERSION",
    image: str | None = None,
) -> Conversion:
    """Return the conversion of a file. Raise ManifestError with the lines of wrong fields."""
    file = read_file(path)
    try:
        return convert_content(file.content, name, namespace, version, image)
    except ManifestError as error:
        raise file.locate(error).in_file(str(path)) from None


def convert_content(
    content: Any,
    name: str = NAME,
    namespace: str | None = None,
    version: str = "VERSION",
    image: str | None = None,
) -> Conversion:
    """Return the conversion of a file's content. Raise ManifestError.

    `version` is that of the image in the notes, and `image` the `spec.image` of the result.
    """
    variables = deferred(content)
    entries = parse_servers(content, variables=variables)
    secrets = _Secrets(f"{name}-credentials")
    backends = [_backend(entry, secrets) for entry in entries]
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    manifest = {
        "apiVersion": constants.API_VERSION,
        "kind": constants.KIND,
        "metadata": metadata,
        "spec": {**({"image": image} if image else {}), "backends": backends},
    }
    try:
        proxy = parse(manifest)
    except ManifestError as error:
        raise to_file_error(error, entries) from None
    programs = [entry.backend["stdio"] for entry in entries if "stdio" in entry.backend]
    variant = choose_variant(programs)
    notes = [line for entry in entries for line in _notes(entry.backend, version, image, variant)]
    notes += [
        f"${{{folder}}} is {FOLDERS[folder]} in the manifest; mount it in the pods, or remove it"
        for folder in sorted(variables.folders)
    ]
    return Conversion(proxy, manifest, secrets.name, secrets.entries, notes)


def _notes(backend: dict[str, Any], version: str, image: str | None, variant: str) -> Iterator[str]:
    if "stdio" not in backend:
        return
    name, stdio = backend["name"], backend["stdio"]
    command = program_in_image(stdio["command"])
    if command != stdio["command"]:
        yield f"{name}: command is {command} in place of {stdio['command']} of this machine."
        yield "  The image must contain the modules that the server imports."
    args = [show_variables(arg) for arg in stdio.get("args", ())]
    shown = [arg for arg in args if not is_secret_value(arg)]
    shown_stdio = {**stdio, "command": command, "args": shown}
    yield from explain_image(name, shown_stdio, version, image, variant)


class _Secrets:
    """Entries of one Secret."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: list[SecretEntry] = []

    def reference(self, backend: str, name: str, origin: str, text: str) -> dict[str, Any]:
        """Return `valueFrom` for a new entry. `text` is its value, with marks or as it is."""
        key = re.sub(r"[^-._a-zA-Z0-9]+", "-", f"{backend}.{name}").strip("-")
        taken = {entry.key for entry in self.entries}
        number, unique = 2, key
        while unique in taken:
            number, unique = number + 1, f"{key}-{number}"
        self.entries.append(SecretEntry(unique, f"{origin}{_form(text)}"))
        return {"secretKeyRef": {"name": self.name, "key": unique}}


def _form(text: str) -> str:
    """Return the form of a secret text: its variables or its scheme, never its value."""
    if has_mark(text) and not is_secret_value(MARK.sub("", text).strip() or "x"):
        return f": {show_variables(text)}"
    scheme = re.match(r"(Bearer|Basic|Token) ", text, re.I)
    if scheme:
        return f": {scheme[1]} and the credentials"
    return ""


def _backend(entry: ServerEntry, secrets: _Secrets) -> dict[str, Any]:
    backend = {key: value for key, value in entry.backend.items() if value not in ([], {})}
    where, name = entry.where, backend["name"]
    if "url" in backend:
        url = f"{where}.url"
        require_values(backend["url"], url, "write the URL without variables")
        part = secret_part_of_url(backend["url"])
        if part is not None:
            raise ManifestError(
                f"{part} looks like a secret, and a URL cannot come from a Secret; send it as a"
                " header if the server accepts one",
                url,
            )
        if "headers" in backend:
            values = backend["headers"]
            backend["headers"] = list(_values(values, name, f"{where}.headers", secrets))
    if "stdio" in backend:
        backend["stdio"] = _stdio(backend["stdio"], name, where, secrets)
    return backend


def _stdio(stdio: dict[str, Any], name: str, where: str, secrets: _Secrets) -> dict[str, Any]:
    require_values(stdio["command"], f"{where}.command", "write the program")
    require_values(stdio.get("cwd", ""), f"{where}.cwd", "write the folder")
    env = list(_values(stdio.get("env", ()), name, f"{where}.env", secrets))
    words = list(_words(stdio.get("args", ()), name, f"{where}.args", secrets, env))
    command = program_in_image(stdio["command"])
    changed = {**stdio, "command": command}
    if any(not is_plain for _, is_plain in words):
        # Arguments cannot come from a Secret, but a shell can put a variable in their place.
        program = shlex.quote(command)
        line = " ".join([f"exec {program}", *(word for word, _ in words)])
        changed |= {"command": "sh", "args": ["-c", line]}
    if env:
        changed["env"] = env
    return {key: value for key, value in changed.items() if value not in ([], {})}


def _values(
    values: Iterable[dict[str, str]], backend: str, where: str, secrets: _Secrets
) -> Iterator[dict[str, Any]]:
    """Yield headers or environment variables, with references in place of secrets."""
    for item in values:
        name, value = item["name"], item["value"]
        if value and (has_mark(value) or is_secret(name, value)):
            reference = secrets.reference(backend, name, f"{where}.{name}", value)
            yield {"name": name, "valueFrom": reference}
        else:
            yield {"name": name, "value": value}


def _words(
    args: Iterable[str], backend: str, where: str, secrets: _Secrets, env: list[dict[str, Any]]
) -> Iterator[tuple[str, bool]]:
    """Yield each argument as a word of a shell, and whether it is as in the file.

    Secrets become variables, which are added to `env`.
    """
    option = ""
    for number, arg in enumerate(args):
        match = _OPTION.fullmatch(arg)
        name, value = (match[1], match[2] or "") if match else (option, arg)
        # Programs use -p for a port or a password, and -u for a user and a password.
        if name in _SHORT and not value.isdecimal():
            name = _SHORT[name]
        option = arg if match and not value else ""
        if not value or not (has_mark(value) or is_secret(name, value)):
            yield shlex.quote(arg), True
            continue
        variable = _variable(name or f"ARG_{number}", env)
        reference = secrets.reference(backend, variable, f"{where}[{number}]", value)
        env.append({"name": variable, "valueFrom": reference})
        prefix = shlex.quote(f"{match[1]}=") if match else ""
        yield f'{prefix}"${variable}"', False


def _variable(option: str, env: list[dict[str, Any]]) -> str:
    """Return an unused name of an environment variable for the value of an option."""
    base = re.sub(r"[^A-Z0-9]+", "_", option.upper()).strip("_")
    base = base if base[:1].isalpha() else f"ARG_{base}"
    taken = {item["name"] for item in env}
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name

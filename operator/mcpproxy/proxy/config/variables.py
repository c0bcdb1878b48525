"""Variables in `mcpServers` files: environment variables, folders, and inputs of a user."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from mcpproxy.api.manifest_errors import ManifestError

_VARIABLE: Final = re.compile(r"\$\{([^{}]*)\}|\{(env:[^{}]*|file:[A-Za-z~./][^{}]*)\}")
"""`${...}`, and `{env:NAME}` and `{file:PATH}` as opencode writes them."""
_FILE: Final = "file:"
_NAME: Final = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
PREFIX: Final = "MCPPROXY_INPUT_"
"""Beginning of the names of environment variables that answer the prompts of a file."""


@dataclass(frozen=True, slots=True)
class InputPrompt:
    """Prompt of a file for a value that only its user knows."""

    id: str
    description: str
    is_secret: bool
    options: tuple[str, ...] = ()
    default: str | None = None

    @property
    def variable(self) -> str:
        """Environment variable that answers the prompt."""
        return PREFIX + re.sub(r"[^A-Z0-9]", "_", self.id.upper())


Ask = Callable[[InputPrompt], str]


class Variables(Protocol):
    """Values of the variables in a file."""

    def expand(self, text: str, field: str) -> str:
        """Return a text of a field with values in place of its variables. Raise ManifestError."""

    def environment_variable(self, name: str, field: str) -> str:
        """Return the value of an environment variable. Raise ManifestError."""


class LocalVariables:
    """Variables of this process, and the answers of its user."""

    def __init__(self, inputs: Mapping[str, Any], ask: Ask | None) -> None:
        """`inputs` are the prompts of the file by id; `ask` is None if no user can be asked."""
        self._inputs = inputs
        self._ask = ask
        self._answers: dict[str, str] = {}

    def expand(self, text: str, field: str) -> str:
        """Replace ${NAME}, ${env:NAME}, ${NAME:-default}, ${input:ID}, the folders of VS Code, and
        {env:NAME} of opencode.

        Raise ManifestError.
        """
        return replace_variables(text, lambda variable: self._value(variable, field))

    def environment_variable(self, name: str, field: str) -> str:
        """Return the value of an environment variable. Raise ManifestError."""
        value = os.environ.get(name)
        if value is None:
            raise ManifestError(f"the environment variable {name} is not set", field)
        return value

    def _value(self, variable: str, field: str) -> str:
        kind, _, name = variable.partition(":")
        if kind == "input":
            return self._input(name, field)
        places = {"workspaceFolder": Path.cwd, "cwd": Path.cwd, "userHome": Path.home}
        if variable in places:
            return str(places[variable]())
        name, default = parse_variable(variable, field)
        value = os.environ.get(name, default)
        return self.environment_variable(name, field) if value is None else value

    def _input(self, name: str, field: str) -> str:
        if name not in self._answers:
            self._answers[name] = self._answer(prompt_of(name, self._inputs), field)
        return self._answers[name]

    def _answer(self, prompt: InputPrompt, field: str) -> str:
        answer = os.environ.get(prompt.variable)
        if answer is not None:
            return answer
        if self._ask is not None:
            return self._ask(prompt)
        if prompt.default is not None:
            return prompt.default
        raise ManifestError(
            f"${{input:{prompt.id}}} asks a person for {prompt.description!r}, and standard input"
            f" is not a terminal; set the environment variable {prompt.variable}",
            field,
        )


def replace_variables(text: str, value_of: Callable[[str], str]) -> str:
    """Return a text with a value in place of each variable, whose name has no braces."""
    return _VARIABLE.sub(lambda match: value_of(match[1] if match[2] is None else match[2]), text)


def parse_variable(variable: str, field: str) -> tuple[str, str | None]:
    """Return the environment variable and the default of `NAME`, `env:NAME` or `NAME:-default`.

    Raise ManifestError.
    """
    if variable.startswith(_FILE):
        raise ManifestError(
            f"{{{variable}}} is the content of a file, which mcpproxy does not read; put the"
            " content in an environment variable and write {env:NAME}",
            field,
        )
    match = _NAME.fullmatch(variable)
    if match is None:
        raise ManifestError(
            f"unknown variable ${{{variable}}}; write ${{env:NAME}} for an environment variable",
            field,
        )
    return match[1], match[2]


def prompt_of(name: str, inputs: Mapping[str, Any]) -> InputPrompt:
    """Return the prompt of an id; a prompt without an entry in the file asks for a secret."""
    entry = inputs.get(name)
    if entry is None:
        return InputPrompt(name, name, is_secret=True)
    options = entry.get("options")
    texts = tuple(map(str, options)) if isinstance(options, list) else ()
    default = entry.get("default")
    return InputPrompt(
        name,
        str(entry.get("description") or name),
        entry.get("password") is True,
        texts,
        None if default is None else str(default),
    )

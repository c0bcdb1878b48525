"""The configuration of one proxy process: an MCPProxy that needs no pydantic.

Pydantic and the validators of all models take a quarter of the memory of an idle proxy, which reads
its configuration once.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mcpproxy.proxy.upstream.sign_in.settings import SignIn

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import MCPProxy

Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """Proxy to run, and its origin."""

    proxy: "MCPProxy"
    """A plain copy, whatever was passed."""
    hash: str
    directory: Path
    """Base of relative paths."""
    sign_ins: Mapping[str, SignIn] = field(default_factory=dict)
    """Backend → sign-in of the user, which only `mcpproxy run` performs."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "proxy", plain_copy(self.proxy))


class PlainModel:
    """The fields and the properties of a model, with the values that they had in it."""

    def __init__(self, json_names: Mapping[str, str], values: Mapping[str, Any]) -> None:
        """`json_names` has the name of each field in JSON."""
        self.__dict__.update(values)
        self._json_names = json_names

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlainModel) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PlainModel({self.to_manifest()!r})"

    def to_manifest(self) -> dict[str, Any]:
        """Return the JSON form, with camelCase keys and without unset fields."""
        fields = ((key, self.__dict__[name]) for name, key in self._json_names.items())
        return {key: _to_json_value(value) for key, value in fields if value is not None}

    def to_json(self) -> str:
        """Return the text of the JSON form, as the model would."""
        return json.dumps(self.to_manifest(), separators=(",", ":"), ensure_ascii=False)


def plain_copy(model: Model) -> Model:
    """Return a model's copy for readers, whose static type is that of the model.

    It has the attributes of the model, and `to_manifest` and `to_json`.
    """
    return cast("Model", _plain(model))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [*map(_plain, value)]
    if isinstance(value, Iterator):
        return tuple(map(_plain, value))
    definition = type(value)
    fields = getattr(definition, "model_fields", None)
    if fields is None:
        return value
    names = {name: field.alias or name for name, field in fields.items()}
    return PlainModel(
        names, {name: _plain(getattr(value, name)) for name in _attributes(definition)}
    )


def _attributes(definition: type) -> Iterator[str]:
    """Yield the names of the fields and of the properties that a model defines itself."""
    yield from definition.model_fields  # type: ignore[attr-defined]
    for base in definition.__mro__:
        if hasattr(base, "to_manifest"):
            # Values of properties may complete the definition.
            members = [*vars(base).items()]
            yield from (name for name, member in members if isinstance(member, property))


def _to_json_value(value: Any) -> Any:
    if isinstance(value, PlainModel):
        return value.to_manifest()
    if isinstance(value, dict):
        return {key: _to_json_value(inner) for key, inner in value.items()}
    return [*map(_to_json_value, value)] if isinstance(value, list) else value

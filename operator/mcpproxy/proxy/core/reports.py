"""Reports of instances at `/status`: the writer's form of `PodReport`, without pydantic.

Texts, lists and counts are cut to the limits that the operator applies to reports.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

import msgspec

from mcpproxy.api.untrusted_text import clamp_count, cut_list, cut_text
from mcpproxy.limits.limit import Limit
from mcpproxy.limits.pods import (
    REPORT_BACKENDS,
    REPORT_ISSUERS,
    REPORT_KINDS,
    REPORT_MESSAGE,
    REPORT_NAME,
    REPORT_NAMES,
    REPORT_WORD,
)

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.status import BackendState, ModeOrigin

Cuts = Mapping[str, Callable[[Any], Any]]


def _text(limit: Limit) -> Callable[[str], str]:
    return lambda text: cut_text(text, limit)


_WORD: Final = _text(REPORT_WORD)
_NAME: Final = _text(REPORT_NAME)
_MESSAGE: Final = _text(REPORT_MESSAGE)


def _names(names: list[str]) -> list[str]:
    return [*map(_NAME, cut_list(names, REPORT_NAMES))]


class Report(msgspec.Struct, rename="camel", omit_defaults=True):
    """A part of a report. In JSON, keys are camelCase, and unset fields are absent."""

    cuts: ClassVar[Cuts] = {}
    """Functions that cut the values of fields."""

    def __post_init__(self) -> None:
        for field, cut in self.cuts.items():
            value = getattr(self, field)
            if value is not None:
                setattr(self, field, cut(value))

    def to_manifest(self) -> dict[str, Any]:
        """Return the JSON form."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content

    def to_json(self) -> str:
        """Return the text of the JSON form."""
        return msgspec.json.encode(self).decode()


class CountsReport(Report):
    """Numbers of components of each kind."""

    cuts: ClassVar[Cuts] = dict.fromkeys(
        ("tools", "prompts", "resources", "resource_templates"), clamp_count
    )

    tools: int | None = None
    prompts: int | None = None
    resources: int | None = None
    resource_templates: int | None = None

    @classmethod
    def of(cls, numbers: Mapping[str, int]) -> Self:
        """Return the report of numbers by `ComponentKind.member`."""
        return msgspec.convert(numbers, cls)


class ServerReport(Report):
    """Name and version of the server of a backend."""

    cuts: ClassVar[Cuts] = {"name": _NAME, "version": _NAME}

    name: str
    version: str | None = None


class BackendReport(Report):
    """State of one backend."""

    cuts: ClassVar[Cuts] = {
        "name": _NAME,
        "reason": _WORD,
        "message": _MESSAGE,
        "protocol_version": _WORD,
        "session_mode": _WORD,
        "not_offered": lambda kinds: [*map(_WORD, cut_list(kinds, REPORT_KINDS))],
    }

    name: str
    state: "BackendState"
    reason: str | None = None
    message: str | None = None
    protocol_version: str | None = None
    transport: Literal["streamable-http", "sse", "stdio"] | None = None
    server: ServerReport | None = None
    session: Literal["Stateless", "Stateful"] | None = None
    session_mode: str | None = None
    session_mode_from: "ModeOrigin | None" = None
    components: CountsReport | None = None
    not_offered: list[str] | None = None


class ChangesReport(Report):
    """Components that differ from the approved catalog in one way."""

    cuts: ClassVar[Cuts] = {"count": clamp_count, "names": _names}

    count: int
    names: list[str]


class DriftReport(Report):
    """Differences between the components that are offered and the approved ones."""

    new: ChangesReport | None = None
    changed: ChangesReport | None = None
    gone: ChangesReport | None = None


class KeysReport(Report):
    """State of the keys of one issuer of tokens, or of the API keys."""

    cuts: ClassVar[Cuts] = {
        "issuer": _MESSAGE,
        "keys": clamp_count,
        "message": _MESSAGE,
        "keys_from": _WORD,
    }

    issuer: str
    keys: int
    message: str | None = None
    keys_from: str | None = None


class RulesReport(Report):
    """State of the rules of `spec.authorization`."""

    cuts: ClassVar[Cuts] = {"rules": clamp_count, "classes": clamp_count, "unused": _names}

    rules: int
    classes: int
    unused: list[str] | None = None


class CallLimitsReport(Report):
    """State of the rules of `spec.limits`."""

    cuts: ClassVar[Cuts] = {"rules": clamp_count, "unused": _names, "failure": _MESSAGE}

    rules: int
    unused: list[str] | None = None
    failure: str | None = None


class InstanceReport(Report, kw_only=True):
    """Report of one instance."""

    cuts: ClassVar[Cuts] = {
        "config_hash": _WORD,
        "version": _NAME,
        "backends": lambda backends: cut_list(backends, REPORT_BACKENDS),
        "catalog_hash": _WORD,
        "clashes": _names,
        "authentication": lambda issuers: cut_list(issuers, REPORT_ISSUERS),
    }

    config_hash: str
    version: str
    backends: list[BackendReport]
    catalog_hash: str | None = None
    drift: DriftReport | None = None
    clashes: list[str]
    authentication: list[KeysReport] | None = None
    authorization: RulesReport | None = None
    limits: CallLimitsReport | None = None

"""Labels and label selectors, as in Kubernetes."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mcpproxy.api import constants
from mcpproxy.api.base import ApiModel, cel, cel_validation

_NAME: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PREFIX: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_KEY: Final = rf"^({_PREFIX}/)?{_NAME}$"
_MAX_KEY: Final = 317

_MAX_PREFIX: Final = 253
_MAX_ANNOTATIONS: Final = 252 * 1024
"""Bytes of all keys and values. Kubernetes permits 256 KiB, of which the operator needs some."""


def _check_key(key: str) -> str:
    prefix, slash, _ = key.partition("/")
    if slash and len(prefix) > _MAX_PREFIX:
        raise ValueError(f"the part before / has {len(prefix)} characters; at most {_MAX_PREFIX}")
    return key


LabelKey = Annotated[
    str,
    Field(min_length=1, max_length=_MAX_KEY, pattern=_KEY),
    # A CRD has no rule for a part of a text.
    AfterValidator(_check_key),
]
LabelValue = Annotated[str, Field(max_length=63, pattern=rf"^({_NAME})?$")]


def _check_keys(labels: dict[str, str]) -> dict[str, str]:
    for key in labels:
        if len(key) > _MAX_KEY or not re.fullmatch(_KEY, key):
            raise ValueError(f"{key!r} is not a valid key; write example.com/name or name")
        _check_key(key)
    return labels


def _check_total(annotations: dict[str, str]) -> dict[str, str]:
    size = sum(len(text.encode()) for pair in annotations.items() for text in pair)
    if size > _MAX_ANNOTATIONS:
        raise ValueError(f"the annotations have {size} bytes; at most {_MAX_ANNOTATIONS}")
    return annotations


# The API server rejects patterns and CEL rules over the keys of a map as too expensive.
Labels = Annotated[dict[str, LabelValue], Field(max_length=32), AfterValidator(_check_keys)]
Annotations = Annotated[
    dict[str, Annotated[str, Field(max_length=16384)]],
    Field(max_length=64),
    AfterValidator(_check_keys),
    AfterValidator(_check_total),
]

_OWN: Final = (constants.LABEL_NAME, constants.LABEL_INSTANCE, constants.LABEL_MANAGED_BY)
_TAKEN: Final = f"the labels {', '.join(_OWN)} are reserved for the operator"


def _check_no_reserved_label(labels: dict[str, str]) -> dict[str, str]:
    if labels.keys() & set(_OWN):
        raise ValueError(_TAKEN)
    return labels


MoreLabels = Annotated[
    Labels,
    Field(json_schema_extra=cel(cel_validation(f"!({list(_OWN)}.exists(k, k in self))", _TAKEN))),
    AfterValidator(_check_no_reserved_label),
]
"""Labels in addition to those that the operator sets."""

_APP_ARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP: Final = (
    "seccomp.security.alpha.kubernetes.io/pod",
    "container.seccomp.security.alpha.kubernetes.io/",
)
_CONFINED: Final = frozenset({"", "runtime/default"})
_UNCONFINED: Final = (
    "AppArmor and seccomp cannot be disabled (Pod Security Standards): the profile must be"
    " runtime/default or start with localhost/"
)
_OWN_PROFILE: Final = f"'{_APP_ARMOR}{constants.CONTAINER}'"


def _check_confinement(annotations: dict[str, str]) -> dict[str, str]:
    for key, value in annotations.items():
        names_profile = key.startswith((_APP_ARMOR, *_SECCOMP))
        if names_profile and value not in _CONFINED and not value.startswith("localhost/"):
            raise ValueError(f"{key} is {value[:100]!r}; {_UNCONFINED}")
    return annotations


PodAnnotations = Annotated[
    Annotations,
    # CEL rules cannot check the keys of other containers (see Labels); the parser does.
    Field(
        json_schema_extra=cel(
            cel_validation(
                f"!({_OWN_PROFILE} in self) || self[{_OWN_PROFILE}] in {sorted(_CONFINED)}"
                f" || self[{_OWN_PROFILE}].startsWith('localhost/')",
                _UNCONFINED,
            )
        )
    ),
    AfterValidator(_check_confinement),
]
"""Annotations that the Pod Security Standards permit (baseline, AppArmor and seccomp)."""

_VALUES = "In and NotIn require values; Exists and DoesNotExist must have none"
_VALUES_RULE = cel(
    cel_validation(
        "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
        _VALUES,
    )
)


class Requirement(ApiModel):
    """A requirement on one label."""

    model_config = ConfigDict(json_schema_extra=_VALUES_RULE)
    key: LabelKey
    """Key of the label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """In and NotIn compare the label with the values; Exists and DoesNotExist check its
    presence."""
    values: Annotated[list[LabelValue], Field(max_length=32)] | None = None
    """Values that the label must, or must not, have. Default: none, for operators that take no
    values."""

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if (self.operator in ("In", "NotIn")) != bool(self.values):
            raise ValueError(_VALUES)
        return self


class LabelSelector(ApiModel):
    """A label selector. An empty selector selects all objects."""

    match_labels: Labels | None = None
    """Labels that the objects must have. Default: none."""
    match_expressions: Annotated[list[Requirement], Field(max_length=16)] | None = None
    """Further requirements on the labels. Default: none."""

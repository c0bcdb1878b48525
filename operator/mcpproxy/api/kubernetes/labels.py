"""Labels, and what chooses objects by them, as Kubernetes has them."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mcpproxy.api import constants
from mcpproxy.api.base import ApiModel, cel, cel_validation

_NAME: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PREFIX: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_KEY: Final = rf"^({_PREFIX}/)?{_NAME}$"
_MAX_KEY: Final = 317

LabelKey = Annotated[str, Field(min_length=1, max_length=_MAX_KEY, pattern=_KEY)]
LabelValue = Annotated[str, Field(max_length=63, pattern=rf"^({_NAME})?$")]


def _keys_are_valid(given: dict[str, str]) -> dict[str, str]:
    for key in given:
        if len(key) > _MAX_KEY or not re.fullmatch(_KEY, key):
            raise ValueError(f"{key!r} can't be a key, write it as example.com/name or name")
    return given


# No pattern and no rule can bound the keys of a map at a cost that the API server takes.
Labels = Annotated[dict[str, LabelValue], Field(max_length=32), AfterValidator(_keys_are_valid)]
Annotations = Annotated[
    dict[str, Annotated[str, Field(max_length=16384)]],
    Field(max_length=64),
    AfterValidator(_keys_are_valid),
]

_OWN: Final = (constants.LABEL_NAME, constants.LABEL_INSTANCE, constants.LABEL_MANAGED_BY)
_TAKEN: Final = f"the labels {', '.join(_OWN)} are the operator's own"


def _leaves_ours(labels: dict[str, str]) -> dict[str, str]:
    if labels.keys() & set(_OWN):
        raise ValueError(_TAKEN)
    return labels


MoreLabels = Annotated[
    Labels,
    Field(json_schema_extra=cel(cel_validation(f"!({list(_OWN)}.exists(k, k in self))", _TAKEN))),
    AfterValidator(_leaves_ours),
]
"""Labels besides those that the operator sets."""

_APP_ARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP: Final = (
    "seccomp.security.alpha.kubernetes.io/pod",
    "container.seccomp.security.alpha.kubernetes.io/",
)
_CONFINED: Final = frozenset({"", "runtime/default"})
_UNCONFINED: Final = (
    "AppArmor and seccomp stay on, as the Pod Security Standards ask for: the profile must be"
    " runtime/default or begin with localhost/"
)
_OWN_PROFILE: Final = f"'{_APP_ARMOR}{constants.CONTAINER}'"


def _stays_confined(annotations: dict[str, str]) -> dict[str, str]:
    for key, value in annotations.items():
        names_profile = key.startswith((_APP_ARMOR, *_SECCOMP))
        if names_profile and value not in _CONFINED and not value.startswith("localhost/"):
            raise ValueError(f"{key} is {value[:100]!r}; {_UNCONFINED}")
    return annotations


PodAnnotations = Annotated[
    Annotations,
    # Of other containers only the parser can tell: see Labels.
    Field(
        json_schema_extra=cel(
            cel_validation(
                f"!({_OWN_PROFILE} in self) || self[{_OWN_PROFILE}] in {sorted(_CONFINED)}"
                f" || self[{_OWN_PROFILE}].startsWith('localhost/')",
                _UNCONFINED,
            )
        )
    ),
    AfterValidator(_stays_confined),
]
"""Annotations that the Pod Security Standards permit (baseline, AppArmor and seccomp)."""

_VALUES = "In and NotIn need values, Exists and DoesNotExist have none"
_VALUES_RULE = cel(
    cel_validation(
        "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
        _VALUES,
    )
)


class Requirement(ApiModel):
    """What one label must be like."""

    model_config = ConfigDict(json_schema_extra=_VALUES_RULE)
    key: LabelKey
    """The label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """In and NotIn compare with values, Exists and DoesNotExist ask for the label itself."""
    values: Annotated[list[LabelValue], Field(max_length=32)] | None = None
    """Values that it must, or must not, be one of. Default: none, as the operator compares with
    none."""

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        if (self.operator in ("In", "NotIn")) != bool(self.values):
            raise ValueError(_VALUES)
        return self


class LabelSelector(ApiModel):
    """Chooses objects by their labels; an empty one chooses all."""

    match_labels: Labels | None = None
    """Labels that they must have. Default: any."""
    match_expressions: Annotated[list[Requirement], Field(max_length=16)] | None = None
    """What else their labels must be like. Default: anything."""

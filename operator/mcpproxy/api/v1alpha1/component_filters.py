"""Which components of a backend are shown, and how: import these models from `api.v1alpha1`."""

from typing import Annotated

from pydantic import AfterValidator, Field

from mcpproxy.api.base import ApiModel
from mcpproxy.api.kubernetes.scalars import BY_NAME, check_names_are_unique

Glob = Annotated[str, Field(min_length=1, max_length=256)]
Globs = Annotated[list[Glob], Field(max_length=256)]


class ComponentOverride(ApiModel):
    """How one component is shown."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    """The backend's own name (tools, prompts), URI or URI template of the component."""
    title: Annotated[str, Field(max_length=256)] | None = None
    """Title that clients see in place of the backend's. Default: the backend's."""
    description: Annotated[str, Field(max_length=4096)] | None = None
    """Description that clients see in place of the backend's. Default: the backend's."""
    enabled: bool | None = None
    """false hides the component. Default: true."""


class NamedOverride(ComponentOverride):
    """How one tool or prompt is shown."""

    rename: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_./-]+$")] | None = None
    """Name that clients see after the prefix in place of the backend's. Default: the backend's."""


class Components(ApiModel):
    """Which components of one kind are shown, and how. What is hidden can't be used either."""

    include: Globs | None = None
    """Only what one of these patterns matches is shown; `*` stands for any text, `?` for one
    character. Default: everything."""
    exclude: Globs | None = None
    """What one of these patterns matches is hidden, also when it is included. Default: nothing."""
    overrides: (
        Annotated[
            list[ComponentOverride],
            Field(max_length=128, json_schema_extra=BY_NAME),
            AfterValidator(check_names_are_unique),
        ]
        | None
    ) = None
    """How single components are shown. Default: as the backend has them."""


class NamedComponents(ApiModel):
    """Which tools or prompts are shown, and how. What is hidden can't be used either."""

    include: Globs | None = None
    """Only what one of these patterns matches is shown; `*` stands for any text, `?` for one
    character. Default: everything."""
    exclude: Globs | None = None
    """What one of these patterns matches is hidden, also when it is included. Default: nothing."""
    overrides: (
        Annotated[
            list[NamedOverride],
            Field(max_length=128, json_schema_extra=BY_NAME),
            AfterValidator(check_names_are_unique),
        ]
        | None
    ) = None
    """How single components are shown. Default: as the backend has them."""


class Forward(ApiModel):
    """What passes between clients and the backend. A feature set to false is withdrawn from the
    capabilities that the backend sees."""

    roots: bool | None = None
    """Requests for the client's roots. Default: true."""
    sampling: bool | None = None
    """Requests for completions of the client's model. Default: true."""
    elicitation: bool | None = None
    """Requests for input of the client's user. Default: true."""
    logging: bool | None = None
    """Log messages. Default: true."""
    progress: bool | None = None
    """Progress notifications. Default: true."""

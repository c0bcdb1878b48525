"""Models of the filters and overrides for a backend's components. Import them from
`api.v1alpha1`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mcpproxy.api.base import ApiModel
from mcpproxy.api.kubernetes.scalars import BY_NAME, check_names_are_unique

OnClash = Literal["Fail", "First"]

Glob = Annotated[str, Field(min_length=1, max_length=256)]
Globs = Annotated[list[Glob], Field(max_length=256)]


class ComponentOverride(ApiModel):
    """Overrides for one component."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    """Name (of a tool or prompt), URI or URI template of the component, as the backend lists it."""
    title: Annotated[str, Field(max_length=256)] | None = None
    """Title that replaces the backend's. Default: the backend's title."""
    description: Annotated[str, Field(max_length=4096)] | None = None
    """Description that replaces the backend's. Default: the backend's description."""
    enabled: bool | None = None
    """false hides the component. Default: true."""


class NamedOverride(ComponentOverride):
    """Overrides for one tool or prompt."""

    rename: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_./-]+$")] | None = None
    """Name that replaces the backend's; the prefix is still added. Default: the backend's name."""


class _ComponentPatterns(ApiModel):
    """Patterns of the components to show."""

    include: Globs | None = None
    """Patterns of the components to show; `*` matches any text, and `?` matches one character.
    Default: all components are shown."""
    exclude: Globs | None = None
    """Patterns of the components to hide, even if include matches them. Default: none."""


class Components(_ComponentPatterns):
    """Filters and overrides for components of one kind. Hidden components cannot be used."""

    overrides: (
        Annotated[
            list[ComponentOverride],
            Field(max_length=128, json_schema_extra=BY_NAME),
            AfterValidator(check_names_are_unique),
        ]
        | None
    ) = None
    """Overrides for individual components. Default: none."""


class NamedComponents(_ComponentPatterns):
    """Filters and overrides for tools or prompts. Hidden components cannot be used."""

    overrides: (
        Annotated[
            list[NamedOverride],
            Field(max_length=128, json_schema_extra=BY_NAME),
            AfterValidator(check_names_are_unique),
        ]
        | None
    ) = None
    """Overrides for individual components. Default: none."""


class Forward(ApiModel):
    """Features that pass between clients and the backend. A feature set to false is removed from
    the capabilities that the backend sees."""

    roots: bool | None = None
    """Requests for the client's roots. Default: true."""
    sampling: bool | None = None
    """Sampling requests, which the client's model completes. Default: true."""
    elicitation: bool | None = None
    """Elicitation requests, which ask the client's user for input. Default: true."""
    logging: bool | None = None
    """Log messages. Default: true."""
    progress: bool | None = None
    """Progress notifications. Default: true."""


class ComponentNames(ApiModel):
    """Naming of components across all backends."""

    on_clash: OnClash | None = None
    """Handling of a name that two backends list, such as c with the prefix a_b and b_c with the
    prefix a. First serves the component of the backend whose name sorts first, and `mcpproxy plan`
    accepts the clash. Fail serves neither, and calls return an error that names both backends.
    Default: First, but `mcpproxy plan` fails."""

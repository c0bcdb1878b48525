"""Model of `spec.names`. Import it from `api.v1alpha1`."""

from typing import Literal

from mcpproxy.api.base import ApiModel

OnClash = Literal["Fail", "First"]


class ComponentNames(ApiModel):
    """Naming of components across all backends."""

    on_clash: OnClash | None = None
    """Handling of a name that two backends list, such as c with the prefix a_b and b_c with the
    prefix a. First serves the component of the backend whose name sorts first, and `mcpproxy plan`
    accepts the clash. Fail serves neither, and calls return an error that names both backends.
    Default: First, but `mcpproxy plan` fails."""

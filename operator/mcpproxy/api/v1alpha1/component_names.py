"""MCPProxy v1alpha1: names of components. Import its models from `api.v1alpha1`."""

from typing import Literal

from mcpproxy.api.base import ApiModel

OnClash = Literal["Fail", "First"]


class ComponentNames(ApiModel):
    """How the components of all backends are named together."""

    on_clash: OnClash | None = None
    """A name that two backends list, such as c of a prefix a_b and b_c of a prefix a. First: the
    first backend by name serves it, and `mcpproxy plan` accepts that. Fail: none does, and its
    calls end in an error that names both. Default: First, but `mcpproxy plan` fails."""

"""Which nodes pods are drawn to or kept away from, as Kubernetes has it."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.labels import LabelKey, LabelSelector, LabelValue
from mcpproxy.api.kubernetes.scalars import NamespaceName

Weight = Annotated[int, Field(ge=1, le=100)]

_ONE_NUMBER = "Gt and Lt need exactly one value, a whole number"
_VALUES = "In and NotIn need values, Exists and DoesNotExist have none"


class NodeRequirement(ApiModel):
    """What one label (or field) of a node must be like."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "!(self.operator in ['Gt', 'Lt']) || (has(self.values) && self.values.size() == 1"
                " && self.values[0].matches('^[0-9]{1,18}$'))",
                _ONE_NUMBER,
            ),
            cel_validation(
                "self.operator in ['Gt', 'Lt'] || (self.operator in ['In', 'NotIn'])"
                " == (has(self.values) && self.values.size() > 0)",
                _VALUES,
            ),
        )
    )
    key: LabelKey
    """The label, or the field: metadata.name is the only one."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """How it is compared."""
    values: Annotated[list[LabelValue], Field(max_length=32)] | None = None
    """What it is compared with. Default: nothing, as the operator compares with none."""

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        values = self.values or []
        if self.operator in ("Gt", "Lt"):
            if len(values) != 1 or not (values[0].isascii() and values[0].isdecimal()):
                raise ValueError(_ONE_NUMBER)
        elif (self.operator in ("In", "NotIn")) != bool(values):
            raise ValueError(_VALUES)
        return self


_Requirements = Annotated[list[NodeRequirement], Field(max_length=16)]


class NodeSelectorTerm(ApiModel):
    """Nodes that meet all of these; none where nothing is given."""

    match_expressions: _Requirements | None = None
    """What their labels must be like. Default: anything."""
    match_fields: _Requirements | None = None
    """What their fields must be like. Default: anything."""


class NodeSelector(ApiModel):
    """Nodes that one of the terms chooses."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(min_length=1, max_length=16)]
    """The terms."""


class PreferredNodes(ApiModel):
    """Nodes that are better than others."""

    weight: Weight
    """How much better, from 1 to 100."""
    preference: NodeSelectorTerm
    """Which nodes."""


class NodeAffinity(ApiModel):
    """Which nodes pods run on."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """Nodes that pods must run on. Default: any."""
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredNodes], Field(max_length=16)] | None
    ) = None
    """Nodes that pods run on if they can. Default: any."""


class PodAffinityTerm(ApiModel):
    """Pods, and what counts as the same place as theirs."""

    topology_key: LabelKey
    """Nodes with the same value of this label are one place."""
    label_selector: LabelSelector | None = None
    """Which pods. Default: none."""
    namespaces: Annotated[list[NamespaceName], Field(max_length=16)] | None = None
    """Namespaces of the pods. Default: that of the MCPProxy."""
    namespace_selector: LabelSelector | None = None
    """More namespaces of the pods, by their labels. Default: none."""


class PreferredPods(ApiModel):
    """Places that are better than others."""

    weight: Weight
    """How much better, from 1 to 100."""
    pod_affinity_term: PodAffinityTerm
    """Which places."""


_Terms = Annotated[list[PodAffinityTerm], Field(max_length=16)]
_Preferred = Annotated[list[PreferredPods], Field(max_length=16)]


class PodAffinity(ApiModel):
    """Which other pods are near."""

    required_during_scheduling_ignored_during_execution: _Terms | None = None
    """Places that pods must run in (or, in podAntiAffinity, must not). Default: none."""
    preferred_during_scheduling_ignored_during_execution: _Preferred | None = None
    """Places that pods run in (or, in podAntiAffinity, don't) if they can. Default: none."""


class Affinity(ApiModel):
    """Which nodes and which other pods the pods are drawn to, or kept away from."""

    node_affinity: NodeAffinity | None = None
    """Nodes that pods run on. Default: any."""
    pod_affinity: PodAffinity | None = None
    """Pods that they run near to. Default: none."""
    pod_anti_affinity: PodAffinity | None = None
    """Pods that they run away from. Default: none."""

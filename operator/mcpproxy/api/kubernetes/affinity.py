"""Affinity of pods to nodes and to other pods, as in Kubernetes."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.labels import LabelKey, LabelSelector, LabelValue
from mcpproxy.api.kubernetes.scalars import NamespaceName, ObjectName

Weight = Annotated[int, Field(ge=1, le=100)]

_ONE_NUMBER = "Gt and Lt require exactly one value, which must be an integer"
_VALUES = "In and NotIn require values; Exists and DoesNotExist must have none"


class NodeRequirement(ApiModel):
    """A requirement on one label of a node."""

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
    """Key of the label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """Comparison of the label with the values."""
    values: Annotated[list[LabelValue], Field(max_length=32)] | None = None
    """Values to compare with. Default: none, for operators that take no values."""

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        values = self.values or []
        if self.operator in ("Gt", "Lt"):
            if len(values) != 1 or not (values[0].isascii() and values[0].isdecimal()):
                raise ValueError(_ONE_NUMBER)
        elif (self.operator in ("In", "NotIn")) != bool(values):
            raise ValueError(_VALUES)
        return self


class FieldRequirement(ApiModel):
    """A requirement on the name of a node."""

    key: Literal["metadata.name"]
    """Name of the field; the only field is metadata.name."""
    operator: Literal["In", "NotIn"]
    """Comparison of the field with the value."""
    values: Annotated[list[ObjectName], Field(min_length=1, max_length=1)]
    """The name of a node."""


_Requirements = Annotated[list[NodeRequirement], Field(max_length=16)]


class NodeSelectorTerm(ApiModel):
    """Nodes that meet all of these requirements; a term without requirements matches no node."""

    match_expressions: _Requirements | None = None
    """Requirements on the labels of nodes. Default: none."""
    match_fields: Annotated[list[FieldRequirement], Field(max_length=16)] | None = None
    """Requirements on the fields of nodes. Default: none."""


class NodeSelector(ApiModel):
    """Nodes that match at least one of the terms."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(min_length=1, max_length=16)]
    """Terms, at least one of which must match."""


class PreferredNodes(ApiModel):
    """A preference for nodes."""

    weight: Weight
    """Weight of the preference, from 1 to 100."""
    preference: NodeSelectorTerm
    """Preferred nodes."""


class NodeAffinity(ApiModel):
    """Affinity of the pods to nodes."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """Nodes that the pods must run on. Default: any node."""
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredNodes], Field(max_length=16)] | None
    ) = None
    """Nodes that the pods run on if possible. Default: any node."""


class PodAffinityTerm(ApiModel):
    """Other pods, and the topology domains that count as their location."""

    topology_key: LabelKey
    """Key of the node label that defines the domains; nodes with the same value form one domain."""
    label_selector: LabelSelector | None = None
    """Labels of the other pods. Default: no pods."""
    namespaces: Annotated[list[NamespaceName], Field(max_length=16)] | None = None
    """Namespaces of the other pods. Default: the namespace of the MCPProxy."""
    namespace_selector: LabelSelector | None = None
    """Labels of additional namespaces of the other pods. Default: none."""


class PreferredPods(ApiModel):
    """A preference for topology domains."""

    weight: Weight
    """Weight of the preference, from 1 to 100."""
    pod_affinity_term: PodAffinityTerm
    """Preferred domains."""


_Terms = Annotated[list[PodAffinityTerm], Field(max_length=16)]
_Preferred = Annotated[list[PreferredPods], Field(max_length=16)]


class PodAffinity(ApiModel):
    """Affinity or anti-affinity to other pods."""

    required_during_scheduling_ignored_during_execution: _Terms | None = None
    """Domains that the pods must run in or, in podAntiAffinity, must avoid. Default: none."""
    preferred_during_scheduling_ignored_during_execution: _Preferred | None = None
    """Domains that the pods prefer or, in podAntiAffinity, avoid if possible. Default: none."""


class Affinity(ApiModel):
    """Affinity and anti-affinity of the pods to nodes and to other pods."""

    node_affinity: NodeAffinity | None = None
    """Nodes that the pods run on. Default: any node."""
    pod_affinity: PodAffinity | None = None
    """Other pods that the pods run near. Default: none."""
    pod_anti_affinity: PodAffinity | None = None
    """Other pods that the pods run apart from. Default: none."""

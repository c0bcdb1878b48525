"""Models of `spec.networkPolicy`. Import them from `api.v1alpha1`."""

from ipaddress import ip_network
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.labels import LabelSelector
from mcpproxy.api.kubernetes.scalars import Port


def _check_cidr(cidr: str) -> str:
    """Return the CIDR range unchanged. Raise ValueError if it is invalid."""
    ip_network(cidr, strict=False)
    return cidr


Cidr = Annotated[
    str,
    Field(min_length=1, max_length=43, pattern=r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$"),
    AfterValidator(_check_cidr),
]
"""CIDR range such as `10.0.0.0/8`."""

_OUTSIDE: Final = "every range in except must be inside cidr"
_ONE_KIND: Final = "requires either ipBlock alone, or podSelector, namespaceSelector or both"
_EMPTY_RULE: Final = (
    "requires to, ports or both; to allow all destinations, set ipBlock to 0.0.0.0/0"
)


class IPBlock(ApiModel):
    """A CIDR range."""

    cidr: Cidr
    """CIDR range, such as 10.0.0.0/8."""
    except_: Annotated[list[Cidr], Field(max_length=16)] | None = Field(
        default=None, alias="except"
    )
    """CIDR ranges within cidr to exclude. Default: none."""

    @model_validator(mode="after")
    def _check_except_is_within_cidr(self) -> Self:
        whole = ip_network(self.cidr, strict=False)
        for excluded in self.except_ or []:
            part = ip_network(excluded, strict=False)
            within = part.version == whole.version and part.network_address in whole
            if not within or part.prefixlen <= whole.prefixlen:
                raise ValueError(_OUTSIDE)
        return self


class NetworkPeer(ApiModel):
    """Pods selected by their labels and those of their namespace, or a CIDR range."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "has(self.ipBlock) != (has(self.podSelector) || has(self.namespaceSelector))",
                _ONE_KIND,
            )
        )
    )
    pod_selector: LabelSelector | None = None
    """Labels of the pods. Default: all pods of the selected namespaces."""
    namespace_selector: LabelSelector | None = None
    """Labels of the pods' namespaces. Default: the namespace of the MCPProxy."""
    ip_block: IPBlock | None = None
    """CIDR range, such as that of clients outside the cluster. Cannot be combined with podSelector
    or namespaceSelector. Default: none."""

    @model_validator(mode="after")
    def _check_one_kind(self) -> Self:
        selected = self.pod_selector is not None or self.namespace_selector is not None
        if (self.ip_block is not None) == selected:
            raise ValueError(_ONE_KIND)
        return self


class NetworkPort(ApiModel):
    """A destination port."""

    port: Port
    """Port number at the pod or address itself, not the port of a Service."""
    protocol: Literal["TCP", "UDP"] | None = None
    """Protocol of the port. Default: TCP."""


_Peers = Annotated[list[NetworkPeer], Field(min_length=1, max_length=32)]


class EgressRule(ApiModel):
    """Destinations that the pods may connect to."""

    model_config = ConfigDict(
        json_schema_extra=cel(cel_validation("has(self.to) || has(self.ports)", _EMPTY_RULE))
    )
    to: _Peers | None = None
    """Destinations. Default: all destinations."""
    ports: Annotated[list[NetworkPort], Field(min_length=1, max_length=32)] | None = None
    """Destination ports. Default: all ports."""

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if self.to is None and self.ports is None:
            raise ValueError(_EMPTY_RULE)
        return self


class NetworkPolicySpec(ApiModel):
    """A NetworkPolicy that allows only traffic of clients, the operator and the backends.

    For a backend with a Service, the pods may connect to the pods behind the Service, on the port
    at which those pods listen. If the operator cannot read the Service, they may connect to all
    pods of its namespace. For a backend with a url, they may connect to the url's port at any
    address. Destinations of stdio servers must be listed in egress."""

    clients: _Peers | None = None
    """Peers that may use the proxy. Default: all pods in the namespace of the MCPProxy."""
    scrapers: _Peers | None = None
    """Peers that may read metrics on the admin port, in addition to the operator. Default: none."""
    url_addresses: Annotated[list[IPBlock], Field(min_length=1, max_length=32)] | None = None
    """Addresses that the pods may connect to for backends whose url has a host name instead of an
    IP address. Default: any address."""
    egress: Annotated[list[EgressRule], Field(max_length=32)] | None = None
    """Destinations that the pods may connect to, in addition to the backends and the cluster DNS in
    kube-system. Default: none."""

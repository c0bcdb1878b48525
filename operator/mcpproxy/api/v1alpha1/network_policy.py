"""Who may talk to the pods, and to whom they may talk: import these from `api.v1alpha1`."""

from ipaddress import ip_network
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.labels import LabelSelector
from mcpproxy.api.kubernetes.scalars import Port


def _range(cidr: str) -> str:
    """The range as it is. Raises ValueError when it is none."""
    ip_network(cidr, strict=False)
    return cidr


Cidr = Annotated[
    str,
    Field(min_length=1, max_length=43, pattern=r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$"),
    AfterValidator(_range),
]
"""A range of addresses such as `10.0.0.0/8`."""

_OUTSIDE: Final = "every range in except must be a part of cidr"
_ONE_KIND: Final = "needs ipBlock alone, or podSelector, namespaceSelector or both"
_EMPTY_RULE: Final = "needs to, ports or both; to everywhere is ipBlock 0.0.0.0/0"


class IPBlock(ApiModel):
    """A range of addresses."""

    cidr: Cidr
    """The range, such as 10.0.0.0/8."""
    except_: Annotated[list[Cidr], Field(max_length=16)] | None = Field(
        default=None, alias="except"
    )
    """Ranges within it that don't belong to it. Default: none."""

    @model_validator(mode="after")
    def _parts(self) -> Self:
        whole = ip_network(self.cidr, strict=False)
        for found in self.except_ or []:
            part = ip_network(found, strict=False)
            within = part.version == whole.version and part.network_address in whole
            if not within or part.prefixlen <= whole.prefixlen:
                raise ValueError(_OUTSIDE)
        return self


class NetworkPeer(ApiModel):
    """Pods by their labels and those of their namespace, or a range of addresses."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "has(self.ipBlock) != (has(self.podSelector) || has(self.namespaceSelector))",
                _ONE_KIND,
            )
        )
    )
    pod_selector: LabelSelector | None = None
    """Labels of the pods. Default: any pod of the chosen namespaces."""
    namespace_selector: LabelSelector | None = None
    """Labels of their namespaces. Default: the namespace of the MCPProxy."""
    ip_block: IPBlock | None = None
    """A range of addresses, as of clients that come from outside of the cluster. Default: none, as
    pods are chosen."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        selected = self.pod_selector is not None or self.namespace_selector is not None
        if (self.ip_block is not None) == selected:
            raise ValueError(_ONE_KIND)
        return self


class NetworkPort(ApiModel):
    """A port of those that the pods talk to."""

    port: Port
    """Its number, at the pod or address itself; a Service's own port doesn't count."""
    protocol: Literal["TCP", "UDP"] | None = None
    """Its protocol. Default: TCP."""


_Peers = Annotated[list[NetworkPeer], Field(min_length=1, max_length=32)]


class EgressRule(ApiModel):
    """Something that the pods may talk to."""

    model_config = ConfigDict(
        json_schema_extra=cel(cel_validation("has(self.to) || has(self.ports)", _EMPTY_RULE))
    )
    to: _Peers | None = None
    """Who. Default: anyone."""
    ports: Annotated[list[NetworkPort], Field(min_length=1, max_length=32)] | None = None
    """On which ports. Default: any."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.to is None and self.ports is None:
            raise ValueError(_EMPTY_RULE)
        return self


class NetworkPolicySpec(ApiModel):
    """A NetworkPolicy that admits clients, the operator and the backends, and nothing else.

    Among the backends are: the pods behind a Service, on the port that they listen on; where the
    operator can't read the Service, all pods of its namespace; for a url, its port at any address.
    What programs on standard streams talk to has to be named in egress.
    """

    clients: _Peers | None = None
    """Who may use the proxy. Default: all pods of the MCPProxy's namespace."""
    scrapers: _Peers | None = None
    """Who may read metrics at the admin port, besides the operator. Default: nobody."""
    url_addresses: Annotated[list[IPBlock], Field(min_length=1, max_length=32)] | None = None
    """Where backends given by url are, unless it says so itself. Default: at any address."""
    egress: Annotated[list[EgressRule], Field(max_length=32)] | None = None
    """What else the pods may talk to, besides backends and the cluster's DNS in kube-system.
    Default: nothing."""

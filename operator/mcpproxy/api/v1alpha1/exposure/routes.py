"""Models of `spec.service` and `spec.expose`. Import them from `api.v1alpha1`."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.labels import Annotations
from mcpproxy.api.kubernetes.scalars import NamespaceName, ObjectName, Port

_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# The last label begins with a letter, so that no IP address is a name.
_DNS_NAME: Final = rf"({_LABEL}\.)*[A-Za-z]([A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?"
# A segment has a character that is not a dot, so that none is `.` or `..`. Each text matches in one
# way only: a pattern with several would take exponential time for a text that does not match.
_SEGMENT: Final = r"\.*[A-Za-z0-9_~-][A-Za-z0-9._~-]*"
ROUTABLE_URL: Final = rf"^https?://{_DNS_NAME}(:[0-9]{{1,5}})?(/{_SEGMENT})*/?$"
"""Public URLs for which routes can be created. Gateways and Ingress controllers compare escapes,
dot segments and other characters in different ways."""

_MAX_URL: Final = 900
"""Characters of a public URL. A path of an HTTPRoute has at most 1,024."""
_MAX_HOST: Final = 253

_ONE_WAY: Final = "requires either parentRefs or ingress"
_SAME_GATEWAY: Final = (
    "several entries for the same Gateway each need a sectionName of their own, the name of a"
    " listener"
)
_NO_URL: Final = "expose requires publicUrl, the URL at which clients reach the proxy; add it"
_NOT_ROUTABLE: Final = (
    "expose requires a publicUrl with a DNS name as its host, and with a path that consists of"
    " letters, digits and - . _ ~ between slashes, without empty or dot segments; change publicUrl,"
    " or remove expose and create the route yourself"
)
_TOO_LONG: Final = (
    f"expose requires a publicUrl of at most {_MAX_URL} characters, in which the host and each"
    f" segment of the path have at most {_MAX_HOST}; shorten publicUrl"
)
_NO_CLIENTS: Final = (
    "expose and networkPolicy together require networkPolicy.clients, which must select the pods"
    " of the Gateway or Ingress controller; add it"
)


class ServiceSpec(ApiModel):
    """The Service that clients connect to."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None = None
    """Type of the Service. Default: ClusterIP."""
    port: Port | None = None
    """Port of the Service. Default: 80."""
    annotations: Annotations | None = None
    """Annotations of the Service, such as those that configure a load balancer. Default: none."""


class ParentRef(ApiModel):
    """A Gateway, or one of its listeners."""

    name: ObjectName
    """Name of the Gateway."""
    namespace: NamespaceName | None = None
    """Namespace of the Gateway. Its listener must allow routes from the namespace of the MCPProxy.
    Default: the namespace of the MCPProxy."""
    section_name: ObjectName | None = None
    """Name of a listener. Default: all listeners that match."""
    port: Port | None = None
    """Port of a listener; some implementations ignore it. Default: any."""


class IngressSpec(ApiModel):
    """An Ingress for publicUrl."""

    class_name: ObjectName | None = None
    """Name of the IngressClass. Default: the cluster's default class."""
    tls_secret_name: ObjectName | None = None
    """Secret with the certificate for the host of publicUrl. Default: none; the controller uses its
    own certificate."""
    annotations: Annotations | None = None
    """Annotations of the Ingress. They replace those that the operator sets for ingress-nginx,
    which disable buffering and allow calls of up to an hour. Default: none."""


_SAME: Final = (
    "o.name == p.name && (has(o.__namespace__) ? o.__namespace__ : '')"
    " == (has(p.__namespace__) ? p.__namespace__ : '')"
)


def _check_sections(refs: list[ParentRef]) -> list[ParentRef]:
    gateways = [(ref.namespace, ref.name) for ref in refs]
    sections = [(ref.namespace, ref.name, ref.section_name) for ref in refs]
    for gateway, section in zip(gateways, sections, strict=True):
        if gateways.count(gateway) > 1 and (section[2] is None or sections.count(section) > 1):
            raise ValueError(_SAME_GATEWAY)
    return refs


class Expose(ApiModel):
    """Exposure of the proxy outside the cluster, at publicUrl."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation("has(self.parentRefs) != has(self.ingress)", _ONE_WAY),
        )
    )
    parent_refs: (
        Annotated[
            list[ParentRef],
            Field(
                min_length=1,
                max_length=8,
                json_schema_extra=cel(
                    cel_validation(
                        f"self.all(p, self.filter(o, {_SAME}).size() == 1"
                        f" || (has(p.sectionName) && self.exists_one(o, {_SAME}"
                        " && has(o.sectionName) && o.sectionName == p.sectionName)))",
                        _SAME_GATEWAY,
                    )
                ),
            ),
            AfterValidator(_check_sections),
        ]
        | None
    ) = None
    """Gateways to which an HTTPRoute for publicUrl is attached. Requires the kind HTTPRoute of the
    Gateway API; the condition Exposed reports whether that kind is missing. Default: none."""
    ingress: IngressSpec | None = None
    """Creates an Ingress for publicUrl. Default: none."""

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        if (self.parent_refs is None) == (self.ingress is None):
            raise ValueError(_ONE_WAY)
        return self


EXPOSE_RULES: Final = (
    cel_validation("!has(self.expose) || has(self.publicUrl)", _NO_URL, ".expose"),
    cel_validation(
        f"!has(self.expose) || !has(self.publicUrl) || self.publicUrl.matches(r'{ROUTABLE_URL}')",
        _NOT_ROUTABLE,
        ".expose",
    ),
    cel_validation(
        f"!has(self.expose) || !has(self.publicUrl) || (self.publicUrl.size() <= {_MAX_URL}"
        f" && self.publicUrl.split('/').all(s, s.size() <= {_MAX_HOST}))",
        _TOO_LONG,
        ".expose",
    ),
    cel_validation(
        "!has(self.expose) || !has(self.networkPolicy) || has(self.networkPolicy.clients)",
        _NO_CLIENTS,
        ".expose",
    ),
)
"""Rules of the spec on `expose` and other fields."""


def check_public_url(public_url: str | None) -> None:
    """Raise ValueError if there is no public URL, or none for which a route can be created."""
    if public_url is None:
        raise ValueError(_NO_URL)
    if re.fullmatch(ROUTABLE_URL, public_url) is None:
        raise ValueError(_NOT_ROUTABLE)
    longest = max(map(len, public_url.split("/")))
    if len(public_url) > _MAX_URL or longest > _MAX_HOST:
        raise ValueError(_TOO_LONG)


def check_policy_admits(clients: object | None) -> None:
    """Raise ValueError if a network policy has no `clients`, because Gateways have other pods."""
    if clients is None:
        raise ValueError(_NO_CLIENTS)

"""Models of `spec.backends[].tls`. Import them from `api.v1alpha1`."""

from collections.abc import Iterator
from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.scalars import ObjectName
from mcpproxy.api.v1alpha1.references import KeyRef, ValueFrom

CERTIFICATE_KEY: Final = "tls.crt"
PRIVATE_KEY: Final = "tls.key"

_UNUSED_CA: Final = (
    "insecureSkipVerify turns verification off, so caFrom has no effect; remove one of them"
)


class SecretRef(ApiModel):
    """A Secret in the namespace of the MCPProxy."""

    name: ObjectName
    """Name of the Secret."""


class CertificateFrom(ApiModel):
    """Source of a certificate and its private key."""

    secret_ref: SecretRef
    """A Secret of type kubernetes.io/tls in the namespace of the MCPProxy, with the keys tls.crt
    and tls.key. The kubelet mounts the Secret; the operator never reads it."""

    @property
    def certificate(self) -> ValueFrom:
        """Reference to the certificate and its chain."""
        return self._key(CERTIFICATE_KEY)

    @property
    def private_key(self) -> ValueFrom:
        """Reference to the private key, which has no passphrase."""
        return self._key(PRIVATE_KEY)

    def _key(self, key: str) -> ValueFrom:
        return ValueFrom(secret_key_ref=KeyRef(name=self.secret_ref.name, key=key))


class Tls(ApiModel):
    """TLS settings for an https backend. Changes in the Secrets and ConfigMaps apply to new
    connections, without a restart; existing connections end after the responses in progress."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "!has(self.caFrom) || !has(self.insecureSkipVerify) || !self.insecureSkipVerify",
                _UNUSED_CA,
            )
        )
    )
    ca_from: ValueFrom | None = None
    """CA certificates that are trusted, in PEM. Default: those of the system."""
    client_certificate_from: CertificateFrom | None = None
    """Client certificate that the proxy presents to the backend (mTLS). Default: none."""
    server_name: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=253,
                pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
                r"(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$",
            ),
        ]
        | None
    ) = None
    """Server name that is requested (SNI) and that the certificate must have. Default: the host of
    url, or `name.namespace.svc` of a service."""
    insecure_skip_verify: bool | None = None
    """true accepts any certificate, so anyone on the network path can read and change the traffic;
    the status reports this. Default: false."""

    @property
    def references(self) -> Iterator[ValueFrom]:
        """All referenced keys of Secrets and ConfigMaps."""
        if self.ca_from is not None:
            yield self.ca_from
        if self.client_certificate_from is not None:
            yield self.client_certificate_from.certificate
            yield self.client_certificate_from.private_key

    @model_validator(mode="after")
    def _check_ca_is_used(self) -> Self:
        if self.ca_from is not None and self.insecure_skip_verify:
            raise ValueError(_UNUSED_CA)
        return self

"""MCPProxy v1alpha1: TLS of one backend. Import its models from `api.v1alpha1`."""

from collections.abc import Iterator
from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.scalars import ObjectName
from mcpproxy.api.v1alpha1.references import KeyRef, ValueFrom

CERTIFICATE_KEY: Final = "tls.crt"
PRIVATE_KEY: Final = "tls.key"

_UNUSED_CA: Final = "insecureSkipVerify verifies nothing, so caFrom has no use beside it"


class SecretRef(ApiModel):
    """A Secret in the namespace of the MCPProxy."""

    name: ObjectName
    """Name of the Secret."""


class CertificateFrom(ApiModel):
    """Where a certificate and its private key are read from."""

    secret_ref: SecretRef
    """A Secret of type kubernetes.io/tls, with the keys tls.crt and tls.key. The operator never
    reads it: the kubelet mounts it."""

    @property
    def certificate(self) -> ValueFrom:
        """The certificate and the chain behind it."""
        return self._key(CERTIFICATE_KEY)

    @property
    def private_key(self) -> ValueFrom:
        """The private key, without a passphrase."""
        return self._key(PRIVATE_KEY)

    def _key(self, key: str) -> ValueFrom:
        return ValueFrom(secret_key_ref=KeyRef(name=self.secret_ref.name, key=key))


class Tls(ApiModel):
    """How the connection to an https backend is secured. What changes in the Secrets and ConfigMaps
    holds for new connections, without a restart; the ones before end with the answers that they
    carry."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "!has(self.caFrom) || !has(self.insecureSkipVerify) || !self.insecureSkipVerify",
                _UNUSED_CA,
            )
        )
    )
    ca_from: ValueFrom | None = None
    """Certificates of the authorities to trust, in PEM. Default: those of the system."""
    client_certificate_from: CertificateFrom | None = None
    """The certificate by which the backend knows us (mTLS). Default: none."""
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
    """The name that is asked for (SNI), and that the certificate must have. Default: the host of
    url, `name.namespace.svc` of a service."""
    insecure_skip_verify: bool | None = None
    """Takes any certificate, so anyone on the way can read and change everything; the status says
    so. Default: false."""

    @property
    def references(self) -> Iterator[ValueFrom]:
        """Every key of a Secret or ConfigMap that is needed."""
        if self.ca_from is not None:
            yield self.ca_from
        if self.client_certificate_from is not None:
            yield self.client_certificate_from.certificate
            yield self.client_certificate_from.private_key

    @model_validator(mode="after")
    def _used_ca(self) -> Self:
        if self.ca_from is not None and self.insecure_skip_verify:
            raise ValueError(_UNUSED_CA)
        return self

"""TLS context of one backend, rebuilt when the mounted files change."""

import ssl
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcpproxy.proxy.core.errors import TlsInvalid
from mcpproxy.proxy.upstream.mounted.values import MountedValues, ValueGroup, describe_reference

if TYPE_CHECKING:
    # cryptography is large, and most proxies never load it.
    from cryptography import x509

    from mcpproxy.api.v1alpha1 import Tls, ValueFrom

SKIPPED: Final = "the proxy does not verify the backend's certificate (tls.insecureSkipVerify)"


class TlsContext:
    """Provider of the TLS context for the next connection, from the current files."""

    def __init__(
        self,
        spec: "Tls",
        values: MountedValues,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._spec = spec
        self._values = ValueGroup(values, spec.references)
        self.changed = self._values.changed
        """True if an outdated context was returned; as `ValueGroup.changed`."""
        self._now = now
        self._built_from: tuple[str, ...] | None = None
        self._context: ssl.SSLContext | None = None
        self._expiries: list[tuple[datetime, str]] = []
        """Expiry of each certificate, and its description for messages."""

    def __call__(self) -> ssl.SSLContext:
        """Return the context.

        Raises MissingReference or TlsInvalid, which name the key and the object at fault.
        """
        texts = self._values.current()
        if self._context is None or texts != self._built_from:
            self._context = None
            self._context = self._build_context(texts)
            self._built_from = texts
        for expiry, description in self._expiries:
            if expiry <= self._now():
                raise TlsInvalid(f"{description} expired on {expiry:%Y-%m-%d %H:%M} UTC")
        return self._context

    def _build_context(self, texts: tuple[str, ...]) -> ssl.SSLContext:
        remaining = list(texts)
        self._expiries = []
        ca, client_certificate = self._spec.ca_from, self._spec.client_certificate_from
        authorities = remaining.pop(0) if ca is not None else None
        if ca is not None and authorities is not None:
            certificates = _certificates(authorities, ca)
            # One valid certificate is enough: a bundle keeps old ones for a while.
            expiry = max(authority.not_valid_after_utc for authority in certificates)
            self._expiries.append((expiry, f"the newest certificate in {describe_reference(ca)}"))
        context = ssl.create_default_context(cadata=authorities)
        if self._spec.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if client_certificate is not None:
            certificate, key = remaining
            chain = _certificates(certificate, client_certificate.certificate)
            _check_key(chain[0], key, client_certificate.private_key)
            expiry = chain[0].not_valid_after_utc
            self._expiries.append(
                (expiry, f"the certificate in {describe_reference(client_certificate.certificate)}")
            )
            _load_client_certificate(context, certificate, key, client_certificate.certificate)
        return context


def _certificates(pem: str, source: "ValueFrom") -> "list[x509.Certificate]":
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise TlsInvalid(f"{describe_reference(source)} contains no PEM certificates") from None


def _check_key(certificate: "x509.Certificate", key: str, source: "ValueFrom") -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError):
        raise TlsInvalid(
            f"{describe_reference(source)} contains no unencrypted PEM private key"
        ) from None
    if private.public_key() != certificate.public_key():
        raise TlsInvalid(f"{describe_reference(source)} does not match the client certificate")


def _load_client_certificate(
    context: ssl.SSLContext, certificate: str, key: str, source: "ValueFrom"
) -> None:
    # The ssl module loads a certificate from files only. This file is private and deleted at once.
    with tempfile.TemporaryDirectory() as directory:
        pem_file = Path(directory) / "client.pem"
        pem_file.touch(mode=0o600)
        pem_file.write_text(f"{key}\n{certificate}\n")
        try:
            context.load_cert_chain(pem_file)
        except ssl.SSLError as error:
            reason = error.reason or "the certificate cannot be loaded"
            raise TlsInvalid(f"{describe_reference(source)} is unusable: {reason}") from None

"""The TLS context of one backend, made anew when the mounted files that it is made of change."""

import ssl
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcpproxy.api.v1alpha1 import Tls, ValueFrom
from mcpproxy.proxy.core.errors import TlsInvalid
from mcpproxy.proxy.upstream.mounted.values import MountedValues, ValueGroup, describe_reference

if TYPE_CHECKING:
    # What reads certificates is large, and most proxies have no need of it.
    from cryptography import x509

SKIPPED: Final = "its certificate is not verified (tls.insecureSkipVerify)"


class TlsContext:
    """The context for the next connection, from what lies in the files then."""

    def __init__(
        self,
        spec: Tls,
        values: MountedValues,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._spec = spec
        self._values = ValueGroup(values, spec.references)
        self.changed = self._values.changed
        """Whether a context was given that is not of what lies in the files now; see Together."""
        self._now = now
        self._made_of: tuple[str, ...] | None = None
        self._context: ssl.SSLContext | None = None
        self._expiries: list[tuple[datetime, str]] = []
        """Until when what was read is valid, and what it is."""

    def __call__(self) -> ssl.SSLContext:
        """Raises ValueMissing, TlsInvalid that say which key of which object is wrong."""
        found = self._values.now()
        if self._context is None or found != self._made_of:
            self._context = None
            self._context = self._made(found)
            self._made_of = found
        for until, what in self._expiries:
            if until <= self._now():
                raise TlsInvalid(f"{what} expired on {until:%Y-%m-%d %H:%M} UTC")
        return self._context

    def _made(self, found: tuple[str, ...]) -> ssl.SSLContext:
        left = list(found)
        self._expiries = []
        ca, own = self._spec.ca_from, self._spec.client_certificate_from
        authorities = left.pop(0) if ca is not None else None
        if ca is not None and authorities is not None:
            known = _certificates(authorities, ca)
            # One that is valid is enough: old ones stay in a bundle for a while.
            until = max(one.not_valid_after_utc for one in known)
            self._expiries.append((until, f"the newest certificate in {describe_reference(ca)}"))
        context = ssl.create_default_context(cadata=authorities)
        if self._spec.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if own is not None:
            certificate, key = left
            chain = _certificates(certificate, own.certificate)
            _fits(chain[0], key, own.private_key)
            until = chain[0].not_valid_after_utc
            self._expiries.append(
                (until, f"the certificate in {describe_reference(own.certificate)}")
            )
            _load(context, certificate, key, own.certificate)
        return context


def _certificates(pem: str, source: ValueFrom) -> "list[x509.Certificate]":
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise TlsInvalid(f"{describe_reference(source)} has no certificates in PEM") from None


def _fits(certificate: "x509.Certificate", key: str, source: ValueFrom) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError):
        raise TlsInvalid(
            f"{describe_reference(source)} has no private key in PEM without a passphrase"
        ) from None
    if private.public_key() != certificate.public_key():
        raise TlsInvalid(
            f"{describe_reference(source)} is not the key of the certificate beside it"
        )


def _load(context: ssl.SSLContext, certificate: str, key: str, source: ValueFrom) -> None:
    # The ssl module takes them from a file only; this one is ours alone and gone at once.
    with tempfile.TemporaryDirectory() as directory:
        both = Path(directory) / "client.pem"
        both.touch(mode=0o600)
        both.write_text(f"{key}\n{certificate}\n")
        try:
            context.load_cert_chain(both)
        except ssl.SSLError as error:
            why = error.reason or "it can't be loaded"
            raise TlsInvalid(f"{describe_reference(source)} is of no use: {why}") from None

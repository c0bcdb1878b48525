"""TLS between instances of one proxy: both ends prove that they hold the sealing key.

A certificate authority is derived from each sealing key, so all holders of the key have the same
one and trust no other. A process generates a private key when it first needs one, and issues
itself a certificate for its owner name, the one in tokens. A process that connects to an instance
requires that name, which no other process has: neither a stranger at the address, nor a later
instance at the address, nor an instance to which a stranger relays the bytes.

A process that counts calls together with others also has a certificate for its address alone, as
they need not know which process is there.

The server name in the first message is a MAC of the owner name. An instance therefore begins TLS
only with holders of the key, or with attackers who have seen the name in such a connection.
"""

import hmac
import os
import ssl
import sys
import tempfile
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Final

from mcpproxy.limits.instances import HELLO
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer, derive_key

if TYPE_CHECKING:
    # The import takes 30 ms and 3 MB, which a single instance never needs.
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TLS_RECORD: Final = b"\x16\x03"
"""First bytes of a TLS handshake (RFC 8446, section 5.1), which no HTTP method has."""
_AUTHORITY: Final = "instances: authority, version 1"
_NAMES: Final = "instances: names, version 1"
_DOMAIN: Final = "mcpproxy.internal"
# The key, not the clock, limits the validity of a certificate: clocks may differ.
_NOT_BEFORE: Final = datetime(2000, 1, 1, tzinfo=UTC)
_NOT_AFTER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


class PeerCertificate:
    """A sealing key, and this process's certificate that proves it."""

    def __init__(self, key: bytes, owner: str) -> None:
        """`key` is the sealing key, `owner` the name of this process in tokens."""
        self._key = key
        self._names_key = derive_key(key, _NAMES)
        address = owner.partition("#")[0]
        self._names = (self.name_of(owner), self.name_of(address))
        self._hello_names = tuple(name.encode() for name in self._names)

    def name_of(self, owner: str) -> str:
        """Return the TLS server name of the process with this owner name."""
        mac = hmac.digest(self._names_key, owner.encode(), "sha256")
        return f"{mac.hex()[:48]}.{_DOMAIN}"

    def is_named_in(self, hello: bytes) -> bool:
        """Return True if a TLS ClientHello asks for this process by this key."""
        return any(name in hello for name in self._hello_names)

    @cached_property
    def client_context(self) -> ssl.SSLContext:
        """The context for connections to other instances."""
        return self._configured(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    @cached_property
    def server_context(self) -> ssl.SSLContext:
        """The context for connections from other instances."""
        context = self._configured(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        # No session resumption: each connection proves the key.
        context.num_tickets = 0
        return context

    def _configured(self, context: ssl.SSLContext) -> ssl.SSLContext:
        authority, pem = self._certificates
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=authority)
        # One key exchange, so that the ClientHello fits in one packet of any network. Some versions
        # of OpenSSL (3.0.20 of Debian 12) do not accept X25519 here.
        context.set_ecdh_curve("prime256v1")
        _load(context, pem)
        return context

    @cached_property
    def _certificates(self) -> tuple[bytes, bytes]:
        """The authority as DER; certificate and private key of this process as PEM."""
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.x509.oid import ExtendedKeyUsageOID

        issuer = Ed25519PrivateKey.from_private_bytes(derive_key(self._key, _AUTHORITY))
        own = Ed25519PrivateKey.generate()
        trusted = issuer.public_key()
        authority = _certificate(trusted, trusted).sign(issuer, None)
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        names = x509.SubjectAlternativeName([*map(x509.DNSName, self._names)])
        certificate = (
            _certificate(own.public_key(), trusted)
            .add_extension(names, critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .sign(issuer, None)
        )
        private = own.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        pem = private + certificate.public_bytes(serialization.Encoding.PEM)
        return authority.public_bytes(serialization.Encoding.DER), pem


class PeerCertificates:
    """The credentials of this process: one for each sealing key in use."""

    def __init__(self, sealer: Sealer, owner: str) -> None:
        self._sealer = sealer
        self._owner = owner
        self._keys: tuple[bytes, ...] = ()
        self._credentials: dict[bytes, PeerCertificate] = {}

    @property
    def own(self) -> PeerCertificate:
        """The credential of the key that seals, which every instance accepts."""
        return next(iter(self._current().values()))

    def named_in(self, hello: bytes) -> PeerCertificate | None:
        """Return the credential that a ClientHello asks for; None if it asks for no such one."""
        if not hello.startswith(TLS_RECORD):
            return None
        if len(hello) > HELLO.value:
            HELLO.record()
            return None
        current = self._current().values()
        return next((each for each in current if each.is_named_in(hello)), None)

    def _current(self) -> dict[bytes, PeerCertificate]:
        if self._keys is not self._sealer.keys:
            self._keys = self._sealer.keys
            before = self._credentials
            self._credentials = {
                key: before.get(key) or PeerCertificate(key, self._owner) for key in self._keys
            }
        return self._credentials


def _certificate(
    public_key: "Ed25519PublicKey", trusted: "Ed25519PublicKey"
) -> "x509.CertificateBuilder":
    """Return the builder of a certificate that the authority with the key `trusted` signs."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    is_authority = public_key == trusted
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mcpproxy sealing key")])
    subject = issuer if is_authority else x509.Name([])
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder(issuer, subject, public_key, x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(trusted), critical=False)
    )


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Load a certificate and its private key."""
    # The ssl module reads them only from a file; on Linux, the file is in memory.
    if sys.platform == "linux":
        with open(os.memfd_create("certificate"), "wb", buffering=0) as memory:
            memory.write(pem)
            context.load_cert_chain(f"/proc/self/fd/{memory.fileno()}")
    else:
        with tempfile.NamedTemporaryFile(buffering=0) as file:
            file.write(pem)
            context.load_cert_chain(file.name)

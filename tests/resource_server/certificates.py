"""A certificate authority for the authorization server, made for one run."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.resource_server.keys import PrivateKey, SigningKey

LIFETIME = timedelta(days=2)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: str, key: PrivateKey, ca: bool) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name("resource server kit"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )


def self_signed(key: SigningKey) -> bytes:
    """Return a certificate that a key signed for itself, in DER."""
    certificate = _builder("anybody", key.private, ca=True).sign(key.private, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.DER)


def server_context(directory: Path) -> ssl.SSLContext:
    """Make an authority and a certificate for loopback; `directory/ca.crt` is the authority."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = ec.generate_private_key(ec.SECP256R1())
    ca = _builder("resource server kit", authority, ca=True).sign(authority, hashes.SHA256())
    (directory / "ca.crt").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    key = ec.generate_private_key(ec.SECP256R1())
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), loopback])
    leaf = _builder("127.0.0.1", key, ca=False).add_extension(names, critical=False)
    certificate = directory / "issuer.pem"
    certificate.touch(mode=0o600)
    certificate.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + leaf.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context

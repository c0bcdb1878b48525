"""Certificate authorities for tests, and what they issue where the kubelet would mount it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mcpproxy.api.v1alpha1 import Tls
from mcpproxy.proxy.upstream.mounted.tls import TlsContext
from mcpproxy.proxy.upstream.mounted.values import MountedValues

PEM = serialization.Encoding.PEM


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Makes certificates."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.pem = self._signed(name, self.key, timedelta(hours=1))

    def _signed(self, subject: str, key: ec.EllipticCurvePrivateKey, left: timedelta) -> str:
        now = datetime.now(UTC)
        ca = subject == self.name
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + left)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM).decode()

    def issue(self, subject: str, left: timedelta = timedelta(hours=1)) -> tuple[str, str]:
        """A certificate that is valid so long, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._signed(subject, key, left), private.decode()


class Mounted:
    """The values as the kubelet mounts them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, path: str, text: str) -> None:
        """One key, such as `configmap/ca/ca.crt`."""
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def trust(self, *authorities: Authority) -> None:
        """The bundle of authorities."""
        self.write("configmap/ca/ca.crt", "".join(authority.pem for authority in authorities))

    def client(self, certificate: str, key: str) -> None:
        """Our own certificate."""
        self.write("secret/client/tls.crt", certificate)
        self.write("secret/client/tls.key", key)

    def context(self, spec: dict[str, Any]) -> TlsContext:
        """Identity with which a backend of this spec connects."""
        return TlsContext(Tls.model_validate(spec), MountedValues(self.directory, lambda: 0.0))

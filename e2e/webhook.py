"""A mutating admission webhook in the cluster, with a certificate of its own."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from e2e import pods
from e2e.world import World

NAME = "injector"
PORT = 8443


@contextmanager
def injecting(world: World, served: World) -> Iterator[None]:
    """Deployments and pods of the namespace `served` are changed on their way, within.

    The webhook itself runs in the namespace `world`.
    """
    pods.install(world)
    certificate, key = _certificate(f"{NAME}.{world.namespace}.svc")
    secret = {"tls.crt": _text(certificate), "tls.key": _text(key)}
    world.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "data": secret})
    spec = pods.spec(NAME)
    container = spec["containers"][0]
    container["volumeMounts"].append({"name": "certificate", "mountPath": "/certificate"})
    container["readinessProbe"] = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
    spec["volumes"].append({"name": "certificate", "secret": {"secretName": NAME}})
    pod = pods.manifest("v1", "Pod", NAME, spec)
    pod["metadata"]["labels"] = {"app": NAME}
    world.apply(pod)
    service = {"selector": {"app": NAME}, "ports": [{"port": 443, "targetPort": PORT}]}
    world.apply(pods.manifest("v1", "Service", NAME, service))
    world.kubectl("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=60s")
    configuration = f"{NAME}-{world.namespace}"
    world.apply(_configuration(configuration, world.namespace, served.namespace, certificate))
    try:
        yield
    finally:
        world.kubectl("delete", "mutatingwebhookconfiguration", configuration)


def _configuration(name: str, own: str, served: str, certificate: bytes) -> dict[str, object]:
    both = {"operations": ["CREATE", "UPDATE"], "apiVersions": ["v1"]}
    webhook = {
        "name": "injector.example.com",
        "clientConfig": {
            "service": {"name": NAME, "namespace": own, "path": "/mutate"},
            "caBundle": _text(certificate),
        },
        "rules": [
            {**both, "apiGroups": ["apps"], "resources": ["deployments"]},
            {**both, "apiGroups": [""], "resources": ["pods"], "operations": ["CREATE"]},
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": served}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [webhook],
    }


def _certificate(host: str) -> tuple[bytes, bytes]:
    """A certificate for a host, signed by itself, and its key; both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()

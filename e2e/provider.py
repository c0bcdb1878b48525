"""Keycloak in the cluster, with a certificate of an authority that only its clients know."""

import base64
import ipaddress
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from e2e.pods import NOBODY, POWERLESS, manifest
from e2e.world import Object, World
from scripts import keycloak
from scripts.keycloak_admin import ADMINISTRATOR, Keycloak

NAME = "keycloak"
HTTPS, HTTP, MANAGEMENT = 8443, 8080, 9000
AUTHORITY = "keycloak-ca"
MEMORY_MEBIBYTES = 1280
START_SECONDS = 180
_TLS = "/etc/keycloak"
_IMPORT = "/opt/keycloak/data/import"


def node_address(world: World) -> str:
    """The address of the node, which this machine and the pods reach."""
    [node] = json.loads(world.cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    addresses = node["status"]["addresses"]
    return next(str(address["address"]) for address in addresses if address["type"] == "InternalIP")


def node_port(world: World, name: str, selector: Object, *ports: int) -> int:
    """Create a Service; return the port of the node that leads to the first of its ports."""
    served = [{"name": f"port-{port}", "port": port} for port in ports]
    spec = {"type": "NodePort", "selector": selector, "ports": served}
    world.apply(manifest("v1", "Service", name, spec))
    port: int = world.get("service", name)["spec"]["ports"][0]["nodePort"]
    return port


def start(world: World, resource: str, directory: Path) -> Keycloak:
    """Start Keycloak, whose tokens are for the resource; return once it serves.

    The key that signs tokens is kept in a Secret, so that a restart does not replace it.
    """
    address = node_address(world)
    port = node_port(world, NAME, {"app": NAME}, HTTPS, HTTP)
    authority = _certify(world, address)
    world.apply(_object("ConfigMap", AUTHORITY, {"ca.crt": authority}))
    world.apply(_object("Secret", "keycloak-realm", {"realm.json": _realm()}))
    origin = f"https://{address}:{port}"
    world.apply(manifest("apps/v1", "Deployment", NAME, _deployment(origin, resource)))
    trusted = directory / "ca.crt"
    trusted.write_text(authority, encoding="utf-8")
    return Keycloak(origin, trusted)


def wait(world: World) -> None:
    """Wait until Keycloak serves."""
    status = ("rollout", "status", f"deployment/{NAME}", f"--timeout={START_SECONDS}s")
    world.kubectl(*status, timeout=START_SECONDS + 20)


def scale(world: World, replicas: int) -> None:
    """Start or stop Keycloak; return once this is done."""
    world.kubectl("scale", f"deployment/{NAME}", f"--replicas={replicas}")
    if replicas:
        wait(world)
    else:
        world.kubectl("wait", "--for=delete", "pods", "-l", f"app={NAME}", "--timeout=60s")


def start_seconds(world: World) -> float:
    """The seconds from the start of the container to its readiness."""
    [pod] = json.loads(world.kubectl("get", "pods", "-l", f"app={NAME}", "-o", "json"))["items"]
    [container] = pod["status"]["containerStatuses"]
    [ready] = [
        condition for condition in pod["status"]["conditions"] if condition["type"] == "Ready"
    ]
    begun, served = container["state"]["running"]["startedAt"], ready["lastTransitionTime"]
    return (datetime.fromisoformat(served) - datetime.fromisoformat(begun)).total_seconds()


def peak_memory(world: World) -> int:
    """The most KiB that the processes of Keycloak's container have held."""
    read = ("sh", "-c", "grep -h VmHWM /proc/[0-9]*/status")
    lines = world.kubectl("exec", f"deployment/{NAME}", "--", *read).splitlines()
    return sum(int(line.split()[1]) for line in lines)


def _deployment(origin: str, resource: str) -> Object:
    name, password = ADMINISTRATOR
    variables = {
        "MCP_RESOURCE": resource,
        "KC_BOOTSTRAP_ADMIN_USERNAME": name,
        "KC_BOOTSTRAP_ADMIN_PASSWORD": password,
        "JAVA_OPTS_KC_HEAP": "-Xms128m -Xmx512m",
        "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",
    }
    options = [f"--hostname={origin}", "--http-enabled=true", "--cache=local", "--import-realm"]
    options += [f"--https-certificate-file={_TLS}/tls.crt"]
    options += [f"--https-certificate-key-file={_TLS}/tls.key"]
    container = {
        "name": NAME,
        "image": keycloak.IMAGE,
        "args": ["start", "--optimized", *options],
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "readinessProbe": {
            "httpGet": {"path": "/health/ready", "port": MANAGEMENT, "scheme": "HTTPS"},
            "periodSeconds": 2,
            "failureThreshold": START_SECONDS,
        },
        "resources": {"limits": {"memory": f"{MEMORY_MEBIBYTES}Mi"}},
        "securityContext": POWERLESS,
        "volumeMounts": [
            {"name": "tls", "mountPath": _TLS},
            {"name": "realm", "mountPath": _IMPORT},
        ],
    }
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": NOBODY,
        "containers": [container],
        "volumes": [
            {"name": "tls", "secret": {"secretName": "keycloak-tls"}},
            {"name": "realm", "secret": {"secretName": "keycloak-realm"}},
        ],
    }
    labels = {"app": NAME}
    template = {"metadata": {"labels": labels}, "spec": pod}
    strategy = {"type": "Recreate"}
    return {"selector": {"matchLabels": labels}, "strategy": strategy, "template": template}


def _realm() -> str:
    """The realm of e2e/keycloak with a new key."""
    realm: Object = json.loads(keycloak.REALM.read_text(encoding="utf-8"))
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    config = {"privateKey": base64.b64encode(key).decode(), "algorithm": "RS256", "priority": "100"}
    provider = {"name": "kept", "providerId": "rsa", "subComponents": {}}
    kept = {**provider, "config": {name: [value] for name, value in config.items()}}
    realm["components"] = {"org.keycloak.keys.KeyProvider": [kept]}
    return json.dumps(realm)


def _certify(world: World, address: str) -> str:
    """Store a certificate for Keycloak in a Secret; return that of its authority."""
    authority, issued = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the story")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    names = [x509.IPAddress(ipaddress.ip_address(address))]
    hosts = [x509.DNSName(f"{NAME}.{world.namespace}.svc")]
    root = _builder(issuer, issuer, authority).add_extension(x509.BasicConstraints(True, 0), True)
    leaf = _builder(subject, issuer, issued).add_extension(
        x509.SubjectAlternativeName([*names, *hosts]), False
    )
    key = issued.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = leaf.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    world.apply(
        _object("Secret", "keycloak-tls", {"tls.crt": pem.decode(), "tls.key": key.decode()})
    )
    return root.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _object(kind: str, name: str, content: dict[str, Any]) -> Object:
    field = "stringData" if kind == "Secret" else "data"
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: content}

"""Entrances to the cluster with TLS: Traefik as Gateway, or nginx with the rules of the Ingress.

Each has two doors: one that leads to the generated route, and one that removes the first segment of
the path, as many Ingresses do. Both are ports of localhost, so that the public URL needs no DNS.
"""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from e2e.pods import manifest
from e2e.world import Object, World, eventually
from scripts import gateway

NAME: Final = "exposed"
PATH: Final = "/team/mcp"
PREFIX: Final = "/team"
PUBLIC_PORT: Final = 8443
STRIPPING_PORT: Final = 8444
ADDRESS: Final = "127.0.0.1"
"""Address that the player of an Ingress controller reports."""
_PEM: Final = serialization.Encoding.PEM
_CLASS: Final = "story"


@dataclass(frozen=True)
class Doors:
    """URLs of the two doors, and what a client needs to trust them."""

    public_url: str
    stripping_url: str
    trust: ssl.SSLContext


def certificate(directory: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for localhost and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "tls.crt", directory / "tls.key"
    paths[0].write_bytes(signed.public_bytes(_PEM))
    private = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(_PEM, *private))
    return paths


def free_ports() -> tuple[int, int]:
    """Two ports of this machine that nobody uses."""
    with socket.create_server((ADDRESS, 0)) as server, socket.create_server((ADDRESS, 0)) as other:
        return server.getsockname()[1], other.getsockname()[1]


def doors(ports: tuple[int, int], authority: Path) -> Doors:
    """The doors at two ports."""
    public, stripping = (f"https://localhost:{port}{PATH}" for port in ports)
    return Doors(public, stripping, ssl.create_default_context(cafile=str(authority)))


def leads_to_pod(url: str, public_url: str, trust: ssl.SSLContext) -> bool:
    """Return True if a URL leads to a pod that has this public URL.

    The port of a node leads to a new pod, and no longer to the one before it, a moment after the
    pod is Ready.
    """
    try:
        refused = httpx2.post(url, json={}, verify=trust)
    except httpx2.TransportError:
        return False
    challenge = refused.headers.get("www-authenticate", "")
    return refused.status_code == 401 and public_url.removesuffix(PATH) in challenge


def node_address(world: World) -> str:
    """The address of the cluster's only node, which this machine reaches."""
    path = 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}'
    return world.kubectl("get", "nodes", "-o", path).strip()


@contextmanager
def traefik(world: World, gateways: World, pair: tuple[Path, Path]) -> Iterator[Doors]:
    """Traefik in the cluster, with a Gateway for routes of the namespace of `world`."""
    cluster = world.cluster
    cluster.kubectl("apply", "--server-side", "-f", str(gateway.crds()), timeout=300)
    cluster.load([gateway.image(cluster.env)])
    secret = ("create", "secret", "tls", "tls", f"--cert={pair[0]}", f"--key={pair[1]}")
    gateways.kubectl(*secret)
    admin = f"{gateways.namespace}:default"
    binding = f"traefik-{gateways.namespace}"
    grant = ("create", "clusterrolebinding", binding, "--clusterrole=cluster-admin")
    cluster.kubectl(*grant, f"--serviceaccount={admin}")
    for item in (_gateway_class(), _gateway(world), _traefik()):
        gateways.apply(item)
    gateways.kubectl("rollout", "status", "deployment/traefik", "--timeout=120s")
    ports = free_ports()
    node = node_address(world)
    try:
        with ExitStack() as stack:
            for port, inner in zip(ports, (PUBLIC_PORT, STRIPPING_PORT), strict=True):
                stack.enter_context(relayed(port, (node, inner)))
            world.apply(_stripping_route(gateways))
            yield doors(ports, pair[0])
    finally:
        cluster.kubectl("delete", "clusterrolebinding", binding)
        cluster.kubectl("delete", "gatewayclass", _CLASS)
        # Its pod has ports of the node, which the next one needs.
        cluster.kubectl("delete", "namespace", gateways.namespace, "--wait=true")


def _traefik() -> Object:
    # Its default ends every stream after a minute, whatever the timeouts of the route are.
    unlimited = "transport.respondingtimeouts.readtimeout=0"
    arguments = [
        f"--entrypoints.public.{unlimited}",
        f"--entrypoints.stripping.{unlimited}",
        f"--entrypoints.public.address=:{PUBLIC_PORT}",
        f"--entrypoints.stripping.address=:{STRIPPING_PORT}",
        "--providers.kubernetesgateway=true",
        "--global.checknewversion=false",
        "--log.level=INFO",
    ]
    ready = {"tcpSocket": {"port": PUBLIC_PORT}, "periodSeconds": 1}
    container = {"name": "traefik", "image": gateway.IMAGE, "args": arguments}
    pod = {"hostNetwork": True, "containers": [{**container, "readinessProbe": ready}]}
    labels = {"app": "traefik"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return manifest("apps/v1", "Deployment", "traefik", spec)


def _gateway_class() -> Object:
    spec = {"controllerName": "traefik.io/gateway-controller"}
    return manifest("gateway.networking.k8s.io/v1", "GatewayClass", _CLASS, spec)


def _gateway(world: World) -> Object:
    allowed = {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}
    listeners = [
        {
            "name": name,
            "protocol": "HTTPS",
            "port": port,
            "tls": {"certificateRefs": [{"name": "tls"}]},
            "allowedRoutes": {"namespaces": {"from": "Selector", "selector": allowed}},
        }
        for name, port in (("public", PUBLIC_PORT), ("stripping", STRIPPING_PORT))
    ]
    spec = {"gatewayClassName": _CLASS, "listeners": listeners}
    return manifest("gateway.networking.k8s.io/v1", "Gateway", "public", spec)


def parent(gateways: World, listener: str) -> Object:
    """The reference to a listener of the Gateway."""
    return {"name": "public", "namespace": gateways.namespace, "sectionName": listener}


def _stripping_route(gateways: World) -> Object:
    """A route that a user wrote, which removes the prefix."""
    path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": PREFIX}}],
        "filters": [{"type": "URLRewrite", "urlRewrite": {"path": path}}],
        "backendRefs": [{"name": NAME, "port": 80}],
    }
    spec = {"parentRefs": [parent(gateways, "stripping")], "rules": [rule]}
    return manifest("gateway.networking.k8s.io/v1", "HTTPRoute", "stripping", spec)


@contextmanager
def relayed(port: int, target: tuple[str, int]) -> Iterator[None]:
    """Connections to a port of this machine are relayed to another address, within."""
    server = socket.create_server((ADDRESS, port))

    def accept() -> None:
        while True:
            try:
                incoming, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=_relay, args=(incoming, target), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def _relay(incoming: socket.socket, target: tuple[str, int]) -> None:
    """Relay one connection in both directions until both have ended."""
    with incoming, socket.create_connection(target) as outgoing:
        back = threading.Thread(target=_pump, args=(outgoing, incoming), daemon=True)
        back.start()
        _pump(incoming, outgoing)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def nginx(
    world: World, ports: tuple[int, int], pair: tuple[Path, Path], directory: Path
) -> Iterator[None]:
    """Debian's nginx with the rules of the live Ingress, and an address in the Ingress' status.

    The Service has to be of the type NodePort.
    """
    program = shutil.which("nginx")
    assert program is not None, "nginx is needed (Debian: nginx-light)"
    ingress = world.get("ingress", NAME)
    [port] = world.get("service", NAME)["spec"]["ports"]
    upstream = f"http://{node_address(world)}:{port['nodePort']}"
    path = directory / "nginx.conf"
    path.write_text(_configuration(ingress, ports, pair, upstream, directory), encoding="utf-8")
    command = [program, "-c", str(path), "-p", str(directory), "-e", "stderr"]
    status = {"status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}}
    with subprocess.Popen(command) as process:
        try:
            eventually("nginx listens", lambda: _listens(ports[0]))
            patch = ("patch", "ingress", NAME, "--subresource=status", "--type=merge", "-p")
            world.kubectl(*patch, json.dumps(status))
            yield
        finally:
            process.terminate()


def _configuration(
    ingress: Object, ports: tuple[int, int], pair: tuple[Path, Path], upstream: str, directory: Path
) -> str:
    """Return the routes that ingress-nginx reads from an Ingress: exact paths and annotations."""
    [rule] = ingress["spec"]["rules"]
    notes = ingress["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io/"
    options = (
        f"proxy_buffering {notes[f'{prefix}proxy-buffering']};"
        f"proxy_read_timeout {notes[f'{prefix}proxy-read-timeout']}s;"
        f"proxy_send_timeout {notes[f'{prefix}proxy-send-timeout']}s;"
        'proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header Connection "";'
    )
    paths = rule["http"]["paths"]
    assert {path["pathType"] for path in paths} == {"Exact"}
    exact = "".join(
        f"location = {item['path']} {{ {options} proxy_pass {upstream}; }}" for item in paths
    )
    # Clients look for the metadata of a resource at the root of its host.
    metadata = "".join(
        f"location = {path['path']} {{ {options} proxy_pass {upstream}; }}"
        for path in paths
        if not path["path"].startswith(f"{PREFIX}/")
    )
    stripped = f"location {PREFIX}/ {{ {options} proxy_pass {upstream}/; }} {metadata}"
    tls = f"ssl_certificate {pair[0]}; ssl_certificate_key {pair[1]};"
    servers = "".join(
        f"server {{ listen {ADDRESS}:{port} ssl; server_name {rule['host']}; {tls} {locations}"
        " location / { return 404; } }"
        for port, locations in zip(ports, (exact, stripped), strict=True)
    )
    return (
        f"daemon off; worker_processes 1; pid {directory}/nginx.pid; events {{}}"
        f" http {{ access_log off; client_body_temp_path {directory}/body;"
        f" proxy_temp_path {directory}/proxy; {servers} }}"
    )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((ADDRESS, port)) == 0

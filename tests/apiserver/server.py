"""A real API server for tests: etcd and kube-apiserver as child processes on loopback."""

import secrets
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_START_UP_ATTEMPTS = 300
_ATTEMPT_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A running API server; the kubeconfig's user may do everything."""

    kubeconfig: Path
    kubectl_path: Path
    url: str
    authority: Path
    token: str

    def kubectl(self, *args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Run kubectl against this server; the caller judges the exit code."""
        return subprocess.run(
            [str(self.kubectl_path), f"--kubeconfig={self.kubeconfig}", *args],
            input=input,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def client(self) -> httpx2.Client:
        """A client without kubectl, which needs a fifth of a second for each answer."""
        context = ssl.create_default_context(cafile=str(self.authority))
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx2.Client(base_url=self.url, verify=context, headers=headers)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of an API server, which can be started with them again."""

    token: str
    ports: tuple[int, ...]
    key: str = "service-accounts"
    """Name of the key that signs and verifies the tokens of ServiceAccounts."""

    @classmethod
    def new(cls) -> "Settings":
        """Return the settings of another API server."""
        return cls(secrets.token_hex(16), tuple(_free_ports(3)))


@contextmanager
def running(assets: Path, directory: Path, settings: Settings | None = None) -> Iterator[ApiServer]:
    """An API server whose data, keys and logs lie in `directory`; both processes end with it."""
    settings = settings or Settings.new()
    token, (client, peer, api) = settings.token, settings.ports
    key = directory / f"{settings.key}.key"
    (directory / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    key.write_bytes(_private_key())
    etcd = [
        *("etcd", f"--data-dir={directory}/etcd", "--unsafe-no-fsync", "--log-level=warn"),
        *(f"--{use}-client-urls=http://127.0.0.1:{client}" for use in ("listen", "advertise")),
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
    ]
    apiserver = [
        *("kube-apiserver", f"--etcd-servers=http://127.0.0.1:{client}"),
        *("--bind-address=127.0.0.1", f"--secure-port={api}", f"--cert-dir={directory}/certs"),
        *("--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16"),
        *("--authorization-mode=RBAC", f"--token-auth-file={directory}/tokens.csv"),
        "--service-account-issuer=https://kubernetes.default.svc",
        *(f"--service-account-{use}-file={key}" for use in ("key", "signing-key")),
        # An open watch would hold up the end of the process for a minute.
        "--shutdown-watch-termination-grace-period=0s",
    ]
    server = ApiServer(
        kubeconfig=directory / "kubeconfig",
        kubectl_path=assets / "kubectl",
        url=f"https://127.0.0.1:{api}",
        authority=directory / "certs" / "apiserver.crt",
        token=token,
    )
    _write_kubeconfig(server)
    with _process(assets, directory, etcd), _process(assets, directory, apiserver) as process:
        _wait_until_ready(server, process, directory)
        yield server


@contextmanager
def _process(assets: Path, directory: Path, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    program, *args = command
    with (directory / f"{program}.log").open("w") as log:
        process = subprocess.Popen(
            [str(assets / program), *args],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(server: ApiServer, process: subprocess.Popen[str], directory: Path) -> None:
    for _ in range(_START_UP_ATTEMPTS):
        if server.kubectl("get", "--raw", "/readyz").returncode == 0:
            return
        try:
            process.wait(timeout=_ATTEMPT_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break
    log = (directory / "kube-apiserver.log").read_text()
    raise RuntimeError(f"kube-apiserver did not become ready; the end of its log:\n{log[-2000:]}")


def _private_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [actual.getsockname()[1] for actual in sockets]
    for result in sockets:
        result.close()
    return ports


def _write_kubeconfig(server: ApiServer) -> None:
    server.kubeconfig.touch(mode=0o600)
    server.kubeconfig.write_text(
        f"""\
apiVersion: v1
kind: Config
current-context: tests
contexts: [{{name: tests, context: {{cluster: tests, user: admin}}}}]
clusters:
  - name: tests
    cluster: {{server: "{server.url}", certificate-authority: {server.authority}}}
users: [{{name: admin, user: {{token: {server.token}}}}}]
"""
    )

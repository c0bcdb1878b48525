"""Connection to the API server: from inside a cluster, or with a kubeconfig."""

from dataclasses import dataclass

from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration


class ConfigNotFound(Exception):
    """No service account and no usable kubeconfig exist."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Address of the API server and credentials; paths may be temporary files."""

    server: str
    ca_path: str | None
    insecure: bool
    scheme: str | None
    token: str | None
    certificate_path: str | None
    private_key_path: str | None
    proxy_url: str | None
    username: str | None
    password: str | None


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Configuration of clients of the API server."""

    configuration: Configuration
    in_cluster: bool

    async def credentials(self) -> Credentials:
        """Return the address and credentials for another client, with the newest token."""
        configuration = self.configuration
        header = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        scheme, _, token = (header or "").rpartition(" ")
        return Credentials(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            scheme=scheme or None,
            token=token.strip() or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            proxy_url=configuration.proxy,
            username=configuration.username or None,
            password=configuration.password or None,
        )


async def load_config(kubeconfig: str | None) -> ClusterConfig:
    """Load the given kubeconfig, else the pod's service account, else KUBECONFIG or its default
    path.

    Raise ConfigNotFound if none exists.
    """
    configuration = Configuration()
    # Every request has its own deadline, and pod streams must not use up a limit.
    configuration.connection_pool_maxsize = 0
    # A proxy from the environment is meant for the internet, not for the API server.
    configuration.client_session_kwargs = {"trust_env": False}
    try:
        if kubeconfig is None:
            try:
                config.load_incluster_config(client_configuration=configuration)
            except config.ConfigException:
                pass
            else:
                return ClusterConfig(configuration, in_cluster=True)
        await config.load_kube_config(kubeconfig, client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise ConfigNotFound(f"cannot connect to the API server: {error}") from error
    return ClusterConfig(configuration, in_cluster=False)

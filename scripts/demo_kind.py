"""The demo on a kind cluster: images, operator, backends, proxy."""

from dataclasses import dataclass

from scripts import demo_calls, images, machine
from scripts.cluster import Cluster
from scripts.progress import Progress

NAME = "mcpproxy-demo"
SYSTEM = "mcpproxy-system"
SAMPLES = ("samples/demo-backends.yaml", "samples/demo.yaml")


@dataclass(frozen=True)
class KindDemo:
    """The demo on the cluster mcpproxy-demo, which is created if it does not exist."""

    env: dict[str, str]
    progress: Progress

    @property
    def cluster(self) -> Cluster:
        """The demo's cluster, with its context in kubectl's default file."""
        return Cluster(NAME, self.env)

    def run(self) -> None:
        """Run the whole demo, from building the images to the results of the calls.

        Raise CommandFailed.
        """
        self.progress.step("building the images")
        built = images.build(self.env)
        restart = self._cluster()
        self.progress.step("loading the images into the cluster")
        self.cluster.load(built)
        self._operator(restart)
        self._proxy()
        self.progress.show(self.cluster.kubectl("get", "mcpproxies"))
        with self.cluster.forwarded("default", "service/demo", 80) as port:
            self.progress.show(demo_calls.answers(f"http://127.0.0.1:{port}/mcp"))
        self.progress.show(f"kubectl --context kind-{NAME} get mcpproxies demo -o yaml")

    def clean(self) -> None:
        """Delete the cluster and the images."""
        does = "deleting the" if self.cluster.exists() else "there is no"
        self.progress.step(f"{does} kind cluster {NAME}; deleting the images mcpproxy/*")
        self.cluster.delete()
        listed = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", "mcpproxy/*"]
        for image in machine.run(listed, self.env).split():
            machine.run(["docker", "image", "rm", image], self.env)

    def _cluster(self) -> bool:
        """Prepare the cluster. Return True if it already existed."""
        if self.cluster.exists():
            self.progress.step(f"taking the kind cluster {NAME}")
            self.cluster.join()
            for sample in SAMPLES:
                self.cluster.kubectl("delete", "--ignore-not-found", "-f", sample)
            return True
        self.progress.step(f"creating the kind cluster {NAME}")
        self.cluster.create()
        return False

    def _operator(self, restart: bool) -> None:
        self.progress.step("installing the operator")
        self.cluster.kubectl("apply", "--server-side", "-f", "manifests/install.yaml")
        operator = "deployment/mcpproxy-operator"
        if restart:  # it may run an older image of the same name
            self.cluster.kubectl("-n", SYSTEM, "rollout", "restart", operator)
        self.cluster.kubectl("-n", SYSTEM, "rollout", "status", operator, "--timeout=150s")

    def _proxy(self) -> None:
        self.progress.step("applying samples/demo-backends.yaml and samples/demo.yaml")
        for sample in SAMPLES:
            self.cluster.kubectl("apply", "-f", sample)
        self.progress.step("waiting for mcpproxy/demo to be Ready")
        self.cluster.kubectl("wait", "--for=condition=Ready", "mcpproxies/demo", "--timeout=150s")

"""A kind cluster, and kubectl for it."""

import re
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts import machine

_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Cluster:
    """A kind cluster by name; without `kubeconfig` its context goes where kubectl looks."""

    name: str
    env: dict[str, str]
    kubeconfig: Path | None = None

    def exists(self) -> bool:
        """Whether kind knows it."""
        return self.name in machine.run(["kind", "get", "clusters"], self.env).split()

    def create(self, config: Path | None = None) -> None:
        """Create it, from KIND_NODE_IMAGE if that is set; returns when its node is ready.

        Kind gives a node 30 seconds to boot, which a busy machine may exceed: it has two tries.
        Raises CommandFailed.
        """
        command = ["kind", "create", "cluster", "--name", self.name, "--wait", "120s"]
        if image := self.env.get("KIND_NODE_IMAGE"):
            command += ["--image", image]
        if config is not None:
            command += ["--config", str(config)]
        try:
            machine.run(command + self._place(), self.env)
        except machine.CommandFailed:
            self.delete()
            machine.run(command + self._place(), self.env)

    def join(self) -> None:
        """Write the context of a cluster that is there already."""
        machine.run(["kind", "export", "kubeconfig", "--name", self.name, *self._place()], self.env)

    def delete(self) -> None:
        """Delete it; none of its name is fine, too."""
        machine.run(["kind", "delete", "cluster", "--name", self.name, *self._place()], self.env)

    def load(self, images: Iterable[str]) -> None:
        """Copy images from Docker into its nodes."""
        machine.run(["kind", "load", "docker-image", "--name", self.name, *images], self.env)

    def kubectl(self, *arguments: str, given: str | None = None, timeout: float = 180) -> str:
        """Standard output of kubectl.

        Raises CommandFailed.
        """
        return machine.run(self.command(*arguments), self.env, given=given, timeout=timeout)

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs kubectl against this cluster."""
        return ["kubectl", "--context", f"kind-{self.name}", *self._place(), *arguments]

    def _place(self) -> list[str]:
        return [] if self.kubeconfig is None else ["--kubeconfig", str(self.kubeconfig)]

    @contextmanager
    def forwarded(self, namespace: str, target: str, port: int) -> Iterator[int]:
        """A local port that leads to a port of `target`, such as service/demo."""
        command = self.command("-n", namespace, "port-forward", target, f":{port}")
        with subprocess.Popen(
            command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                yield _local_port(process)
            finally:
                process.terminate()


def _local_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        if found := _FORWARDING.search(line):
            # Each connection adds a line; nobody reading them would stop the process at last.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return int(found[1])
        said.append(line)
    raise machine.CommandFailed(["kubectl", "port-forward"], process.wait(), "".join(said))

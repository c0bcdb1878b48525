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
    """A kind cluster by name. Without `kubeconfig`, kubectl's default file gets its context."""

    name: str
    env: dict[str, str]
    kubeconfig: Path | None = None

    def exists(self) -> bool:
        """True if the cluster exists."""
        return self.name in machine.run(["kind", "get", "clusters"], self.env).split()

    def create(self, config: Path | None = None) -> None:
        """Create the cluster, from KIND_NODE_IMAGE if it is set, and wait until its node is ready.

        Kind gives a node 30 seconds to boot, which a busy machine may exceed, so creation is tried
        twice. Raise CommandFailed.
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
        """Write the context of an existing cluster."""
        machine.run(["kind", "export", "kubeconfig", "--name", self.name, *self._place()], self.env)

    def delete(self) -> None:
        """Delete the cluster, if it exists."""
        machine.run(["kind", "delete", "cluster", "--name", self.name, *self._place()], self.env)

    def load(self, images: Iterable[str]) -> None:
        """Copy images from Docker into the nodes of the cluster."""
        machine.run(["kind", "load", "docker-image", "--name", self.name, *images], self.env)

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 180) -> str:
        """Return the standard output of kubectl.

        Raise CommandFailed.
        """
        return machine.run(self.command(*arguments), self.env, stdin=stdin, timeout=timeout)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs kubectl against this cluster."""
        return ["kubectl", "--context", f"kind-{self.name}", *self._place(), *arguments]

    def _place(self) -> list[str]:
        return [] if self.kubeconfig is None else ["--kubeconfig", str(self.kubeconfig)]

    @contextmanager
    def forwarded(self, namespace: str, target: str, port: int) -> Iterator[int]:
        """Yield a local port that is forwarded to a port of `target`, such as service/demo."""
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
    lines = []
    for line in process.stdout:
        if match := _FORWARDING.search(line):
            # Each connection adds a line; if nobody read them, the process would block.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return int(match[1])
        lines.append(line)
    raise machine.CommandFailed(["kubectl", "port-forward"], process.wait(), "".join(lines))

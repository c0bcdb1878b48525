"""Output of the user's own kubectl, bounded in time and size."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

TIMEOUT: Final = 30.0
"""Seconds for one command."""
MAX_BYTES: Final = 32 * 1024 * 1024
"""Size of the output of one command."""
MAX_ERROR: Final = 4096


class KubectlFailed(Exception):
    """kubectl is missing, failed or printed too much. The message has its last line."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with the options of one cluster and namespace."""

    namespace: str | None = None
    context: str | None = None
    timeout: float = TIMEOUT

    def run(self, *words: str, whole: bool = True) -> str:
        """Return the standard output of a command.

        Without `whole`, output beyond MAX_BYTES is left out instead of an error. Raise
        KubectlFailed.
        """
        command = ["kubectl", *self._options(), *words]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise KubectlFailed(f"cannot run kubectl: {error.strerror}") from error
        timer = threading.Timer(self.timeout, process.kill)
        timer.start()
        try:
            output, errors, is_cut = _read(process)
            code = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
        if is_cut:
            if whole:
                raise KubectlFailed(f"kubectl {words[0]}: more than {MAX_BYTES // 1024**2} MiB")
        elif code != 0:
            lines = errors.decode(errors="replace").strip().splitlines()
            reason = (
                lines[-1] if lines else f"exit code {code}, no answer within {self.timeout:g} s"
            )
            raise KubectlFailed(f"kubectl {words[0]}: {reason}")
        return output.decode(errors="replace")

    def read(self, *words: str) -> Any:
        """Return the objects of `kubectl get`. Raise KubectlFailed."""
        text = self.run("get", *words, "-o", "json")
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise KubectlFailed(f"kubectl get: the output is not JSON: {error}") from error

    def items(self, *words: str) -> list[dict[str, Any]]:
        """Return the objects of a list. Raise KubectlFailed."""
        result = self.read(*words)
        items = result.get("items", [result]) if isinstance(result, dict) else []
        return [item for item in items if isinstance(item, dict)]

    def _options(self) -> Sequence[str]:
        options = ["--namespace", self.namespace] if self.namespace else []
        return [*options, "--context", self.context] if self.context else options


def _read(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes, bool]:
    """Return the output, the end of the errors, and whether the output was cut."""
    assert process.stdout is not None
    assert process.stderr is not None
    errors: list[bytes] = []
    source = process.stderr

    def drain() -> None:
        with contextlib.suppress(ValueError, OSError):
            while chunk := source.read(MAX_ERROR):
                errors[:] = [(b"".join(errors) + chunk)[-MAX_ERROR:]]

    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    output = process.stdout.read(MAX_BYTES + 1)
    is_cut = len(output) > MAX_BYTES
    if is_cut:
        process.kill()
    thread.join(TIMEOUT)
    process.stdout.close()
    process.stderr.close()
    return output[:MAX_BYTES], b"".join(errors), is_cut

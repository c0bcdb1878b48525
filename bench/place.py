"""Place of a measurement: the machine and the versions."""

import datetime
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from bench import peers


def described(pythons: Mapping[str, Path]) -> list[str]:
    """Sentences about the machine and what is measured; `pythons` are the peers' environments."""
    others = [f"{name} {peers.version(python, name)}" for name, python in pythons.items()]
    ours = [f"mcpproxy {version('mcpproxy-operator')} on Python {platform.python_version()}"]
    own = [f"{name} {version(name)}" for name in ("uvloop", "httptools", "uvicorn")]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    cores = len(os.sched_getaffinity(0))
    return [
        f"{today}, {cores} cores, {_processor()}, Linux {platform.release()}.",
        f"{', '.join([*ours, *own, _nginx(), *others])}.",
        f"Load average at the start: {load_average()}.",
    ]


def load_average() -> str:
    """The load of the last minute; far above the number of cores, others were at work."""
    return f"{os.getloadavg()[0]:.1f}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def _nginx() -> str:
    done = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True, timeout=10)
    return done.stderr.strip().rpartition(": ")[2].replace("/", " ")

"""The command `mcpproxy operator`: command line, logging and start of the operator."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

from mcpproxy import descriptors
from mcpproxy.api import constants
from mcpproxy.api.kubernetes.durations import parse_duration
from mcpproxy.cluster.kubeconfig import ConfigNotFound, load_config
from mcpproxy.cluster.pods.status_stream import PodAccess
from mcpproxy.controller.leader_election import LeaderElectionConfig, LeaseRef
from mcpproxy.controller.manager import ResyncConfig
from mcpproxy.controller.resync import LOOK
from mcpproxy.controller.run import OperatorConfig, run
from mcpproxy.desired import BuildOptions
from mcpproxy.json_logs import JsonLogFormatter
from mcpproxy.limits.http import DESCRIPTORS

log = logging.getLogger(__name__)

IMAGE_VARIABLE = "MCPPROXY_IMAGE"
NAMESPACE_VARIABLE = "POD_NAMESPACE"
POD_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
AGAIN: Final = -1
"""Result of a run after which the operator must run again, because it watches other kinds."""
LEVELS = ("debug", "info", "warning", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to `parser`."""
    parser.add_argument(
        "--namespace",
        action="append",
        default=[],
        metavar="NAME",
        help="watch this namespace; repeatable (default: all namespaces)",
    )
    parser.add_argument(
        "--image",
        default=os.environ.get(IMAGE_VARIABLE),
        help=f"runtime image for proxies without spec.image (default: ${IMAGE_VARIABLE})",
    )
    parser.add_argument(
        "--pod-access",
        choices=("auto", "direct", "apiserver"),
        default="auto",
        help="how to connect to pods for their reports: directly, or through the API server"
        " (default: direct in a cluster, apiserver outside of it)",
    )
    parser.add_argument(
        "--kubeconfig",
        metavar="FILE",
        help="kubeconfig file (default: the pod's service account, then $KUBECONFIG)",
    )
    parser.add_argument(
        "--health-port",
        type=int,
        default=8082,
        metavar="PORT",
        help="port of /livez, /readyz and /metrics (default: 8082)",
    )
    parser.add_argument(
        "--leader-elect",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="reconcile only while holding a Lease, so that several replicas can run (default: no)",
    )
    parser.add_argument(
        "--lease-namespace",
        metavar="NAME",
        help=f"namespace of the Lease (default: ${NAMESPACE_VARIABLE}, then the pod's own)",
    )
    parser.add_argument(
        "--lease-name",
        default=constants.FIELD_MANAGER,
        metavar="NAME",
        help=f"name of the Lease (default: {constants.FIELD_MANAGER})",
    )
    parser.add_argument(
        "--lease-duration",
        type=parse_seconds,
        default=LeaderElectionConfig().duration,
        metavar="DURATION",
        help="time after the last renewal at which another replica can take over; a leader that"
        " cannot renew stops after two thirds of it (default: 15s)",
    )
    parser.add_argument(
        "--resync-interval",
        type=parse_seconds,
        default=LOOK,
        metavar="DURATION",
        help="interval at which the operator compares its watches with lists; the probes fail if a"
        " watch is behind for this long (default: 60s)",
    )
    parser.add_argument(
        "--log-level", choices=LEVELS, default="info", help="log level (default: info)"
    )


def parse_seconds(text: str) -> float:
    """Parse a duration such as `10s` or `1m` and return the seconds, at least one."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds < 1:
        raise argparse.ArgumentTypeError(f"{text} is too short; use at least 1s")
    return seconds


def main(args: argparse.Namespace) -> int:
    """Run until SIGTERM. Return 0 after an orderly stop, 1 for a failure, 2 for bad arguments."""
    if not args.image:
        sys.stderr.write(f"mcpproxy operator: no runtime image; set --image or {IMAGE_VARIABLE}\n")
        return 2
    lease = _lease(args)
    if args.leader_elect and lease is None:
        sys.stderr.write(
            "mcpproxy operator: --leader-elect requires a namespace for the Lease; set"
            f" --lease-namespace or {NAMESPACE_VARIABLE}\n"
        )
        return 2
    configure_logging(args.log_level)
    # Each pod takes a connection for its reports.
    descriptors.raise_limit(DESCRIPTORS.value)
    # What was imported is never garbage: collections need not search it, and can come often.
    gc.collect()
    gc.freeze()
    # Timers of Kopf that would kill the process end with their loop.
    while (code := asyncio.run(_main(args, lease))) == AGAIN:
        pass
    return code


def configure_logging(level: str) -> None:
    """Send all logs to standard error; below debug, libraries only log warnings and errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLogFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if level != "debug":
        for name in ("kopf", "aiohttp", "asyncio", "kubernetes"):
            logging.getLogger(name).setLevel(logging.WARNING)


def _own_namespace() -> str | None:
    """Return the namespace of this pod; None outside a cluster."""
    namespace = os.environ.get(NAMESPACE_VARIABLE)
    if not namespace and POD_NAMESPACE_FILE.exists():
        namespace = POD_NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    return namespace or None


def _lease(args: argparse.Namespace) -> LeaseRef | None:
    if not args.leader_elect:
        return None
    namespace = args.lease_namespace or _own_namespace()
    return LeaseRef(namespace, args.lease_name) if namespace else None


def _timing(duration: float) -> LeaderElectionConfig:
    return LeaderElectionConfig(duration, renewal=duration * 2 / 3, retry=min(2.0, 0.2 * duration))


async def _main(args: argparse.Namespace, lease: LeaseRef | None) -> int:
    # The first process of a container ignores signals that it has no handler for. Kopf
    # replaces these as soon as it runs.
    operator = asyncio.current_task()
    assert operator is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, operator.cancel)
    try:
        access = await load_config(args.kubeconfig)
        in_cluster: PodAccess = "direct" if access.in_cluster else "apiserver"
        pod_access = in_cluster if args.pod_access == "auto" else args.pod_access
        configuration = OperatorConfig(
            namespaces=tuple(args.namespace),
            options=BuildOptions(
                image=args.image,
                version=version("mcpproxy-operator"),
                operator_namespace=_own_namespace() if pod_access == "direct" else None,
            ),
            pod_access=pod_access,
            health_port=args.health_port,
            lease=lease,
            timing=_timing(args.lease_duration),
            pace=ResyncConfig(look=args.resync_interval, lag=args.resync_interval),
        )
        again = await run(access, configuration)
    except ConfigNotFound as error:
        sys.stderr.write(f"mcpproxy operator: {error}\n")
        return 1
    except asyncio.CancelledError:
        return 0
    except Exception:
        log.exception("the operator failed")
        return 1
    return AGAIN if again else 0

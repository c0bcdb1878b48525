"""`mcpproxy operator`: reads the command line and runs the operator."""

import argparse
import asyncio
import os
import signal
import sys
from importlib.metadata import version

from mcpproxy.cluster.access import NoAccess, find
from mcpproxy.cluster.pods import PodAccess
from mcpproxy.desired import Options
from mcpproxy.handlers.logs import set_up
from mcpproxy.handlers.operator import Configuration, run

IMAGE_VARIABLE = "MCPPROXY_IMAGE"
LEVELS = ("debug", "info", "warning", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to `parser`."""
    parser.add_argument(
        "--namespace",
        action="append",
        default=[],
        metavar="NAME",
        help="serve this namespace; may be repeated (default: all namespaces)",
    )
    parser.add_argument(
        "--image",
        default=os.environ.get(IMAGE_VARIABLE),
        help=f"image of the runtime for proxies that name none (default: ${IMAGE_VARIABLE})",
    )
    parser.add_argument(
        "--pod-access",
        choices=("auto", "direct", "apiserver"),
        default="auto",
        help="how pods are asked for their state: at their own address, or through the API"
        " server (default: direct in a cluster, apiserver outside of it)",
    )
    parser.add_argument(
        "--kubeconfig",
        metavar="FILE",
        help="way to the API server (default: the pod's service account, then $KUBECONFIG)",
    )
    parser.add_argument(
        "--health-port",
        type=int,
        default=8082,
        metavar="PORT",
        help="port of /livez, /readyz and /metrics (default: 8082)",
    )
    parser.add_argument(
        "--log-level", choices=LEVELS, default="info", help="how much is logged (default: info)"
    )


def main(args: argparse.Namespace) -> int:
    """Run until SIGTERM; 0 after an orderly end, 1 after a failure, 2 for wrong arguments."""
    if not args.image:
        sys.stderr.write(f"mcpproxy operator: give --image or set {IMAGE_VARIABLE}\n")
        return 2
    set_up(args.log_level)
    return asyncio.run(_main(args))


async def _main(args: argparse.Namespace) -> int:
    # The first process of a container ignores signals that it has no handler for. Kopf
    # replaces these as soon as it runs.
    operator = asyncio.current_task()
    assert operator is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, operator.cancel)
    try:
        access = await find(args.kubeconfig)
        in_cluster: PodAccess = "direct" if access.in_cluster else "apiserver"
        await run(
            access,
            Configuration(
                namespaces=tuple(args.namespace),
                options=Options(image=args.image, version=version("mcpproxy-operator")),
                pod_access=in_cluster if args.pod_access == "auto" else args.pod_access,
                health_port=args.health_port,
            ),
        )
    except NoAccess as error:
        sys.stderr.write(f"mcpproxy operator: {error}\n")
        return 1
    except asyncio.CancelledError:
        return 0
    return 0

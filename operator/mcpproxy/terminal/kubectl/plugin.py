"""`kubectl mcpproxy`: see and call the proxies of a cluster, and collect a support bundle.

0: done; 1: the cluster or the proxy failed; 2: the command line is invalid.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from mcpproxy.api import constants
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.proxy import process
from mcpproxy.terminal import call_command, list_command
from mcpproxy.terminal.kubectl import report, status_text
from mcpproxy.terminal.kubectl.cluster import TIMEOUT, Kubectl, KubectlFailed
from mcpproxy.terminal.parsers import CommandParser, SubcommandParser

PROGRAM: Final = "kubectl mcpproxy"
_KIND: Final = "mcpproxy/"
MAX_LINE: Final = 2000


def parse_command_line(
    argv: Sequence[str] | None,
) -> tuple[argparse.Namespace, Callable[[argparse.Namespace], int]]:
    """Return the arguments and the function that runs the command. Exit if they are invalid."""
    return build_parser().parse_args(argv), main


def main(args: argparse.Namespace) -> int:
    """Run one command of the plugin; return its exit code."""
    try:
        code: int = args.run(args)
    except (KubectlFailed, ManifestError) as error:
        process.report_error(clean_text(f"{PROGRAM}: {error}", MAX_LINE))
        return 1
    except KeyboardInterrupt:
        return process.INTERRUPTED
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the plugin."""
    parser = CommandParser(
        prog=PROGRAM, description="MCPProxies in the cluster of kubectl's current context"
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=SubcommandParser
    )
    status = commands.add_parser(
        "status", help="show MCPProxies, or one with its backends and pods"
    )
    _add_cluster(status)
    status.add_argument("name", nargs="?", type=_name, metavar="NAME", help="name of an MCPProxy")
    status.add_argument(
        "-A", "--all-namespaces", action="store_true", help="MCPProxies of all namespaces"
    )
    status.set_defaults(run=_status)
    for name, module, text in (
        ("list", list_command, "show the tools of an MCPProxy"),
        ("call", call_command, "call a tool of an MCPProxy"),
    ):
        command = commands.add_parser(name, help=text)
        module.add_arguments(command)
        command.set_defaults(run=_client, module=module)
    bundle = commands.add_parser("report", help="collect a support bundle without secrets")
    _add_cluster(bundle)
    bundle.add_argument(
        "name", nargs="?", type=_name, metavar="NAME", help="default: all MCPProxies"
    )
    bundle.add_argument("-o", "--output", type=Path, metavar="FILE", help="tar.gz file to write")
    bundle.set_defaults(run=_report)
    return parser


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--namespace", metavar="NS", help="namespace of the MCPProxy")
    parser.add_argument("--context", metavar="NAME", help="context of kubectl's configuration")


def _name(text: str) -> str:
    name = text.removeprefix(_KIND)
    if not constants.is_dns_label(name):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of an MCPProxy")
    return name


def _client(args: argparse.Namespace) -> int:
    """Run `mcpproxy list` or `mcpproxy call` with the MCPProxy as its target."""
    if "://" not in args.target:
        try:
            args.target = _KIND + _name(args.target)
        except argparse.ArgumentTypeError as error:
            raise ManifestError(str(error), "TARGET") from None
    code: int = args.module.main(args)
    return code


def _status(args: argparse.Namespace) -> int:
    kubectl = Kubectl(args.namespace, args.context)
    if args.name is None:
        words = ["-A"] if args.all_namespaces else []
        text = status_text.render_overview(
            kubectl.items(report.RESOURCE, *words), _operators(args.context)
        )
    else:
        proxy: dict[str, Any] = kubectl.read(report.RESOURCE, args.name)
        selector = f"{constants.LABEL_NAME}={constants.APP_NAME}"
        pods = kubectl.items("pods", "-l", f"{selector},{constants.LABEL_INSTANCE}={args.name}")
        about = f"involvedObject.kind={constants.KIND},involvedObject.name={args.name}"
        events = kubectl.items("events", f"--field-selector={about}")
        text = status_text.render_status(proxy, pods, events, _operators(args.context))
    sys.stdout.write(text)
    sys.stdout.flush()
    return 0


def _operators(context: str | None) -> list[dict[str, Any]]:
    """Return the Deployments of operators, as far as the user may read them."""
    try:
        return Kubectl(None, context, TIMEOUT).items("deployments", "-A", "-l", report.OPERATOR)
    except KubectlFailed:
        return []


def _report(args: argparse.Namespace) -> int:
    path = args.output or report.default_path(args.name)
    files = report.ReportBuilder(Kubectl(args.namespace, args.context)).collect(args.name)
    report.write_bundle(path, files)
    left_out = len(files.get("failures.txt", "").splitlines())
    text = f"{path}: {len(files)} files, without the values of secrets"
    sys.stdout.write(f"{text}; failures.txt names {left_out} gaps\n" if left_out else f"{text}\n")
    return 0

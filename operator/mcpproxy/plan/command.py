"""`mcpproxy plan`: show what a manifest would serve, with exit codes for CI.

0: no problem; 1: the result is unknown (manifest, command line or backend failed); 2: the catalogs
differ; 3: names clash.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.plan import compare as plan_compare
from mcpproxy.plan import manifests
from mcpproxy.plan.collect import CollectOptions, build_plan
from mcpproxy.plan.credentials import add_credentials, request_headers
from mcpproxy.plan.document import (
    DIFFERENT,
    FAILED,
    FORM,
    Plan,
    exit_code,
    highest_exit_code,
    removed_plan,
)
from mcpproxy.plan.local import approve_in_place, watch
from mcpproxy.plan.render import failure_lines, render_plan, render_removed_plan
from mcpproxy.proxy import process
from mcpproxy.proxy.config.options import RuntimeOptions, parse_seconds
from mcpproxy.proxy.config.targets import from_file, is_manifest, is_url, read_text
from mcpproxy.proxy.run_options import add_places
from mcpproxy.text_logs import is_terminal

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import MCPProxy

TIMEOUT = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `mcpproxy plan`."""
    add = parser.add_argument
    add(
        "-f",
        "--file",
        required=True,
        metavar="FILE",
        help="YAML file with MCPProxies; - reads stdin",
    )
    _add_lists(parser)
    add("-n", "--namespace", metavar="NS", help="namespace of manifests that set none")
    add(
        "--against",
        metavar="WHAT",
        help="compare with a running proxy, given as a URL or mcpproxy/NAME (through kubectl), or"
        " with the output file of an earlier -o json",
    )
    _add_access(add)
    add(
        "--approve",
        action="store_true",
        help="write the current catalog to spec.catalog.approved of FILE, and change nothing else",
    )
    add("-w", "--watch", action="store_true", help="show the plan after each change of FILE")
    add_credentials(parser)
    add("-o", "--output", choices=("text", "json"), default="text", help="%(default)s")
    add_places(parser)
    add(
        "--timeout",
        type=parse_seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help="time limit for the responses of a proxy's backends (%(default)g)",
    )


def _add_access(add: Callable[..., object]) -> None:
    add(
        "--as",
        action="append",
        dest="callers",
        default=[],
        metavar="CALLER",
        help="show the access of this caller, such as groups=dev,subject=alice or anonymous;"
        " otherwise of all callers whom the rules name (may be repeated)",
    )
    add(
        "--replay",
        type=Path,
        metavar="FILE",
        help="decide the calls in this audit log again; show those that would be denied or newly"
        " allowed",
    )


def _add_lists(parser: argparse.ArgumentParser) -> None:
    add = parser.add_mutually_exclusive_group().add_argument
    add(
        "--offline",
        type=Path,
        metavar="DIR",
        help="read the lists that --save wrote, without connecting to backends",
    )
    add("--save", type=Path, metavar="DIR", help="save the lists of the backends in DIR")


def main(args: argparse.Namespace) -> int:
    """Print the plan. The exit code is the result for CI."""
    process.log_to_stderr("error")
    if args.approve and (args.watch or args.file == "-"):
        process.report_error("mcpproxy plan: --approve: needs -f with a file, and no --watch")
        return FAILED
    if not args.watch:
        return _show(args)
    if args.file == "-":
        process.report_error("mcpproxy plan: --watch: stdin does not change; use -f with a file")
        return FAILED
    return watch.watch_file(Path(args.file), lambda: _show(args))


def _show(args: argparse.Namespace) -> int:
    """Print the plan once, and return its exit code."""
    try:
        by_file = args.against is not None and not plan_compare.is_running(args.against)
        parsed = _read(args, may_have_none=by_file)
        for skipped in parsed.skipped:
            print(f"mcpproxy plan: ignored {skipped}", file=sys.stderr)  # noqa: T201
        _announce(parsed.proxies, args)
        plans, lost = process.run(_plans(parsed.proxies, args))
        if args.approve:
            _approve(args, parsed, plans)
    except (ManifestError, ValueError, OSError) as error:
        process.report_failure("mcpproxy plan", error)
        return FAILED
    except KeyboardInterrupt:
        return process.INTERRUPTED
    code = highest_exit_code([exit_code(plan) for plan in plans] + [DIFFERENT for _ in lost])
    if args.output == "json":
        # Whoever reads the document with a program may not see its exit code.
        for problem in failure_lines(plans):
            process.report_error(f"mcpproxy plan: {problem}")
        sys.stdout.write(_json(plans, lost, code))
    else:
        sys.stdout.write(_text(plans, lost))
    return code


def _approve(args: argparse.Namespace, parsed: manifests.ParsedInput, plans: list[Plan]) -> None:
    """Write what the plans offer to the file. Raise ManifestError or OSError."""
    if failures := list(failure_lines(plans)):
        raise ManifestError(f"{args.file} is unchanged, because {failures[0]}", "--approve")
    approvals = {plan["name"]: (plan["approved"], plan["catalogHash"]) for plan in plans}
    if len(approvals) < len(plans):
        raise ManifestError(
            "two MCPProxies in the file have one name; approve them in separate files", "--approve"
        )
    approve_in_place.write_approvals(Path(args.file), parsed.text, approvals)
    for plan in plans:
        if plan["approval"] is not None:
            plan["approval"] = {**plan["approval"], "written": True}
        count = sum(map(len, plan["approved"].values()))
        process.report_error(
            f"{args.file}: spec.catalog.approved of MCPProxy {plan['name']} now has {count}"
            " components"
        )


def _announce(proxies: list["MCPProxy"], args: argparse.Namespace) -> None:
    """Say what a person at the terminal waits for."""
    if args.offline is None and is_terminal(sys.stderr):
        count = sum(len(proxy.spec.backends) for proxy in proxies)
        process.report_error(f"connecting to {count} backends, up to {args.timeout:g} s ...")


def _read(args: argparse.Namespace, *, may_have_none: bool) -> manifests.ParsedInput:
    """Return the MCPProxies of the file. Raise ManifestError with their lines."""
    path = Path(args.file)
    if args.approve and path.suffix in (".json", ".toml") and not is_manifest(path):
        raise ManifestError("needs a manifest; mcpproxy convert makes one", "--approve")
    if path.suffix in (".json", ".toml") and not is_manifest(path):
        return manifests.ParsedInput([from_file(path).proxy], [])
    text = sys.stdin.read() if args.file == "-" else read_text(path)
    try:
        return manifests.read_manifests(text, args.namespace, may_have_none=may_have_none)
    except ManifestError as error:
        raise error.in_file("stdin" if args.file == "-" else args.file) from error


async def _plans(
    proxies: list["MCPProxy"], args: argparse.Namespace
) -> tuple[list[Plan], list[Plan]]:
    """Return the plans of these proxies, and those of an earlier plan that no longer exist."""
    options = RuntimeOptions(values=args.values, resolve=dict(args.resolve))
    sources = CollectOptions(
        args.timeout, args.offline, args.save, tuple(args.callers), args.replay
    )
    _check_options(proxies, args)
    compare, running = args.against is not None, None
    earlier: dict[tuple[str | None, str], Plan] = {}
    if compare and plan_compare.is_running(args.against):
        if len(proxies) != 1:
            form = "URL" if is_url(args.against) else "mcpproxy/NAME"
            raise ManifestError(
                f"--against {form} compares one MCPProxy, but the file has {len(proxies)}; compare"
                " with the output file of an earlier plan -o json"
            )
        namespace = proxies[0].metadata.namespace
        running = await plan_compare.load_plan(
            args.against, namespace, options, args.timeout, request_headers(args)
        )
    elif compare:
        earlier = plan_compare.load_earlier_plan(Path(args.against))
    plans = []
    for proxy in proxies:
        plan = await build_plan(proxy, Path.cwd(), options, sources)
        if compare:
            baseline = running or earlier.pop((plan["namespace"], plan["name"]), None)
            plan_compare.add_differences(plan, baseline, is_served=running is not None)
        plans.append(plan)
    return plans, [removed_plan(plan) for plan in earlier.values()]


def _check_options(proxies: list["MCPProxy"], args: argparse.Namespace) -> None:
    """Raise ManifestError for options that have no effect, or an ambiguous one."""
    by_file = args.against is None or not plan_compare.is_running(args.against)
    if by_file and (args.header or args.token_file):
        option = "--header" if args.header else "--token-file"
        raise ManifestError(f"{option}: needs --against with a running proxy to send it to")
    names = [proxy.metadata.name for proxy in proxies]
    if args.replay is not None and len(set(names)) < len(names):
        raise ManifestError(
            "--replay: records name their proxy without its namespace, and two MCPProxies in the"
            " file have one name; plan them one by one"
        )


def _json(plans: list[Plan], lost: list[Plan], code: int) -> str:
    content = {"version": FORM, "proxies": plans, "gone": lost, "exitCode": code}
    # ASCII only, because a backend's text may contain characters that UTF-8 cannot encode.
    return json.dumps(content, indent=2) + "\n"


def _text(plans: list[Plan], lost: list[Plan]) -> str:
    return "\n".join([*map(render_plan, plans), *map(render_removed_plan, lost)])

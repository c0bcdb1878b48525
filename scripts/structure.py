"""Checks the rules for sizes, imports and attributes; `scripts.house` runs them.

CONTRIBUTING.md states the rules. Each exception has a reason, and an exception that nothing needs
any more is a finding.
"""

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from scripts import machine

SOURCE: Final = machine.ROOT / "operator" / "mcpproxy"
MIN_MODULE: Final = 60
MAX_MODULE: Final = 400
"""Lines of a module, except `__init__` and `__main__`."""
MAX_IMPORTS: Final = 15
"""Modules of the project that one module may import."""
MAX_FLOORS: Final = 4
"""Packages of `proxy/upstream` on the longest chain of imports."""

SHORT: Final[Mapping[str, frozenset[str]]] = {
    "one kind of object each, as docs/architecture.md says": frozenset(
        f"desired/{kind}.py"
        for kind in (
            "autoscaler",
            "disruption_budget",
            "exposure/http_route",
            "exposure/ingress",
            "pod_monitor",
            "sealing_secret",
            "service",
            "service_account",
        )
    ),
    "entrances of programs, which must import little": frozenset(
        {
            "controller/health_port/application.py",
            "terminal/parsers.py",
            "terminal/prompts.py",
            "terminal/run_command.py",
            "library/serving.py",
            "proxy/admin/readiness.py",
            "proxy/upstream/processes/guardian.py",
            "descriptors.py",
        }
    ),
    "leaves that many packages import, and that must import nothing": frozenset(
        {
            "api/catalog_digests.py",
            "api/kubernetes/durations.py",
            "api/kubernetes/objects.py",
            "api/yaml_safe_json.py",
            "json_logs.py",
            "text_logs.py",
            "library/components/read_only.py",
            "limits/limit.py",
            "plan/terminal_text.py",
            "proxy/core/catalog/list_variant.py",
            "proxy/core/client_info.py",
            "proxy/core/rate_limiter.py",
            "proxy/http1/media_types.py",
            "proxy/http1/server/application.py",
            "proxy/protocol/fragments.py",
            "proxy/protocol/kinds.py",
            "proxy/protocol/revisions.py",
            "proxy/protocol/sizes.py",
            "proxy/time_limits.py",
            "status/conditions/condition.py",
        }
    ),
    "one group of limits or fields each, as in the reference": frozenset(
        {
            "api/v1alpha1/extensions.py",
            "limits/extensions.py",
            "limits/table.py",
        }
    ),
    "one decision each, with tests of its values": frozenset(
        {
            "cluster/pods/retries.py",
            "desired/exposure/public_paths.py",
            "plan/approval.py",
            "plan/local/remedies.py",
            "plan/local/watch.py",
            "terminal/version_command.py",
            "proxy/admin/page/addresses.py",
            "proxy/admin/page/readiness.py",
            "proxy/downstream/landing.py",
            "proxy/config/start_times.py",
            "proxy/core/catalog/capabilities.py",
            "proxy/core/catalog/class_lists.py",
            "pages/security.py",
            "proxy/core/catalog/component_selection.py",
            "proxy/core/tokens/key_rotation.py",
            "proxy/core/translation/task_ids.py",
            "proxy/downstream/access/principals.py",
            "proxy/downstream/peers/identity_header.py",
            "proxy/audit/factory.py",
            "proxy/audit/standard_output.py",
            "proxy/http1/server/event_stream.py",
            "proxy/workers/report_merge.py",
            "reconcile/requeue.py",
            "reconcile/server_mutations.py",
            "reconcile/status_updates/debounce.py",
            "reconcile/status_updates/rollout_progress.py",
            "reconcile/status_updates/undeclared_fields.py",
            "status/conditions/access/authorization.py",
            "status/conditions/access/limits.py",
        }
    ),
}
"""Reason → modules that are shorter."""
WIDE: Final[Mapping[str, frozenset[str]]] = {
    "they connect the parts of a program, an endpoint, a gateway or a backend": frozenset(
        {
            "api/v1alpha1/spec.py",
            "plan/collect.py",
            "proxy/bootstrap.py",
            "proxy/downstream/app.py",
            "proxy/runtime.py",
            "proxy/upstream/backend.py",
            "proxy/upstream/monitor/monitor.py",
            "proxy/workers/supervisor.py",
        }
    ),
    "it names what the library imports": frozenset({"proxy/embed.py"}),
    "it names the models of the spec": frozenset({"api/v1alpha1/__init__.py"}),
    "they tell the main path of the operator": frozenset(
        {
            "reconcile/children.py",
            "reconcile/reconciler.py",
            "reconcile/status_updates/status_writer.py",
        }
    ),
    "they translate between a transport and requests; to be split": frozenset(
        {
            "proxy/downstream/legacy/http.py",
            "proxy/downstream/modern/http.py",
            "proxy/downstream/modern/requests.py",
            "proxy/downstream/stdio.py",
            "proxy/upstream/connect/http_connector.py",
        }
    ),
}
"""Reason → modules that import more modules of the project."""
FOREIGN: Final[Mapping[str, frozenset[str]]] = {
    "an object of the same class, or its copy, is completed": frozenset(
        {
            "proxy/relay.py:_admission",
            "proxy/relay.py:_exchange",
            "proxy/relay.py:_lease",
            "proxy/relay.py:state",
            "proxy/upstream/transports/http_endpoint.py:_configured",
        }
    ),
    "records of the same package, updated with each call or session without a call of Python": (
        frozenset(
            {
                "proxy/call_limits/call_limits.py:account",
                "proxy/call_limits/call_limits.py:left",
                "proxy/call_limits/call_limits.py:running",
                "proxy/call_limits/call_limits.py:slots",
                "proxy/call_limits/call_limits.py:used",
                "proxy/call_limits/rule_set.py:running",
                "proxy/call_limits/window.py:count",
                "proxy/call_limits/window.py:last",
                "proxy/downstream/legacy/sessions.py:used_at",
                "proxy/fair_shares.py:weight",
                "proxy/http1/server/connection.py:small",
                "proxy/telemetry/operation_durations.py:seconds",
                "proxy/upstream/sessions/pool.py:used_at",
                "proxy/upstream/sessions/pool.py:users",
            }
        )
    ),
    "a session over streams is older than the handshake on it": frozenset(
        {
            "proxy/upstream/connect/handshake.py:server",
            "proxy/upstream/connect/stdio_connector.py:server",
        }
    ),
    "state of requests under way; to be moved into one class": frozenset(
        {
            "proxy/downstream/legacy/requests.py:cancelled",
            "proxy/downstream/legacy/requests.py:log_level",
            "proxy/upstream/transports/multiplexed.py:over",
        }
    ),
}
"""Reason → assignments to attributes of other objects, as `module:attribute`."""
LIBRARY_ATTRIBUTES: Final = frozenset(
    {
        # Contexts of ssl, functions of ctypes, log records and finalizers are configured so.
        "argtypes",
        "atexit",
        "check_hostname",
        "minimum_version",
        "msg",
        "num_tickets",
        "verify_mode",
    }
)
"""Attributes of objects of the standard library."""


@functools.cache
def modules() -> Mapping[str, ast.Module]:
    """Return the syntax trees of the program, by path below `operator/mcpproxy`."""
    return {
        path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(SOURCE.rglob("*.py"))
    }


def _name_of(path: str) -> str:
    return "mcpproxy." + path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@functools.cache
def _imports() -> Mapping[str, frozenset[str]]:
    """Return the modules that each module imports, by dotted name, without those for types only."""
    names = {_name_of(path) for path in modules()}
    return {_name_of(path): frozenset(_imported(tree, names)) for path, tree in modules().items()}


def _imported(tree: ast.AST, names: set[str]) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and re.search("TYPE_CHECKING|__name__", ast.unparse(node.test)):
            continue
        if isinstance(node, ast.ImportFrom) and node.module in names:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in names else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        else:
            yield from _imported(node, names)


def module_sizes() -> Iterator[str]:
    """Yield the modules that are too short or too long."""
    exceptions = _Exceptions("SHORT", SHORT)
    for path in modules():
        lines = len((SOURCE / path).read_text(encoding="utf-8").splitlines())
        if lines > MAX_MODULE:
            yield f"{path}: {lines} lines, at most {MAX_MODULE}"
        is_short = lines < MIN_MODULE and not path.endswith(("__init__.py", "__main__.py"))
        if is_short and not exceptions.allow(path):
            yield f"{path}: {lines} lines, at least {MIN_MODULE}: merge it with a neighbor"
    yield from exceptions.unused()


def wide_modules() -> Iterator[str]:
    """Yield the modules that import more than MAX_IMPORTS modules of the project."""
    exceptions = _Exceptions("WIDE", WIDE)
    for path in modules():
        count = len(_imports()[_name_of(path)])
        if count > MAX_IMPORTS and not exceptions.allow(path):
            yield f"{path}: imports {count} modules of the project, at most {MAX_IMPORTS}"
    yield from exceptions.unused()


def import_circles() -> Iterator[str]:
    """Yield the circles of imports."""
    state: dict[str, int] = {}
    chain: list[str] = []

    def visit(name: str) -> Iterator[str]:
        state[name] = 1
        chain.append(name)
        for imported in sorted(_imports()[name]):
            if state.get(imported) == 1 and (name, imported) not in TOLERATED_CIRCLES:
                yield " → ".join([*chain[chain.index(imported) :], imported])
            elif imported not in state:
                yield from visit(imported)
        chain.pop()
        state[name] = 2

    for name in sorted(_imports()):
        if name not in state:
            yield from visit(name)


def upstream_floors() -> Iterator[str]:
    """Yield the chain of packages of `proxy/upstream` if it is longer than MAX_FLOORS."""
    base = "mcpproxy.proxy.upstream."
    below: dict[str, set[str]] = defaultdict(set)
    for name, imported in _imports().items():
        if package := _package_in(base, name):
            others = {_package_in(base, other) for other in imported}
            below[package] |= {other for other in others if other and other != package}

    def chain(package: str, above: tuple[str, ...]) -> tuple[str, ...]:
        lower = [other for other in below[package] if (package, other) not in TOLERATED_ARROWS]
        chains = (chain(other, (*above, package)) for other in lower if other not in above)
        return (package, *max(chains, key=len, default=()))

    longest = max((chain(package, ()) for package in list(below)), key=len)
    if len(longest) > MAX_FLOORS:
        yield f"proxy/upstream: {' → '.join(longest)} are {len(longest)} floors"


TOLERATED_CIRCLES: Final = frozenset({("mcpproxy.library.server", "mcpproxy.library.create")})
"""`Server.mount` takes every target of `create_proxy`, which creates servers."""
TOLERATED_ARROWS: Final = frozenset({("transports", "connect")})
"""A lost session is recognized by a new one on the same connection; see pyproject.toml."""


def _package_in(base: str, name: str) -> str | None:
    """Return the package below `base` that contains a module; None for modules in none."""
    rest = name.removeprefix(base)
    return rest.partition(".")[0] if rest != name and "." in rest else None


def foreign_assignments() -> Iterator[str]:
    """Yield the assignments of the runtime to attributes of anything but `self` and `cls`."""
    exceptions = _Exceptions("FOREIGN", FOREIGN)
    for path, tree in modules().items():
        if path.startswith("proxy/"):
            for attribute in _assigned_attributes(tree):
                key = f"{path}:{attribute.attr}"
                owner = ast.unparse(attribute.value)
                if owner in _SELVES:
                    continue
                if attribute.attr in LIBRARY_ATTRIBUTES or exceptions.allow(key):
                    continue
                yield f"{path}:{attribute.lineno}: {ast.unparse(attribute)} is assigned"
    yield from exceptions.unused()


_SELVES: Final = ("self", "cls")


def _assigned_attributes(tree: ast.Module) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        targets: Iterable[ast.expr | None] = ()
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.AsyncFor):
            targets = (node.target,)
        elif isinstance(node, ast.withitem):
            targets = (node.optional_vars,)
        for target in targets:
            yield from _attributes(target)


def _attributes(target: ast.expr | None) -> Iterator[ast.Attribute]:
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _attributes(element)
    elif isinstance(target, ast.Starred):
        yield from _attributes(target.value)
    elif isinstance(target, ast.Attribute):
        yield target


class _Exceptions:
    """Exceptions from one rule, and which of them were needed."""

    def __init__(self, name: str, by_reason: Mapping[str, frozenset[str]]) -> None:
        self._name = name
        self._all = frozenset[str]().union(*by_reason.values())
        self._needed: set[str] = set()

    def allow(self, key: str) -> bool:
        """Return True if `key` is an exception."""
        if key in self._all:
            self._needed.add(key)
        return key in self._all

    def unused(self) -> Iterator[str]:
        """Yield the exceptions that nothing needs."""
        for key in sorted(self._all - self._needed):
            yield f"{key}: needs no exception in {self._name} of scripts/structure.py"


CHECKS: Final = (module_sizes, wide_modules, import_circles, upstream_floors, foreign_assignments)

"""The baseline of a comparison: a running proxy, or the JSON of an earlier plan."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.v1alpha1 import Limits
from mcpproxy.plan.access.call_limits import build_limits, is_limits, limit_differences
from mcpproxy.plan.access.permissions import access_differences
from mcpproxy.plan.collect import CollectOptions, build_plan
from mcpproxy.plan.credentials import redact_values
from mcpproxy.plan.document import FORM, Plan, plan_differences
from mcpproxy.plan.port_forward import port_forward, proxy_of, read_spec
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.config.targets import from_backends, is_url
from mcpproxy.proxy.protocol.kinds import KINDS

_MEMBERS = ("name", "backend", "served", "definition")


def is_running(source: str) -> bool:
    """True if the source is a running proxy, by its URL or by its name in a cluster."""
    return is_url(source) or proxy_of(source) is not None


async def load_plan(
    source: str,
    namespace: str | None,
    options: RuntimeOptions,
    deadline: float,
    headers: Mapping[str, str],
) -> Plan:
    """Return the plan of a running proxy; `namespace` is that of a proxy in a cluster.

    `headers` are sent to the proxy, and nowhere else. Raise ManifestError with the reason if the
    proxy cannot be read.
    """
    proxy = proxy_of(source)
    if proxy is None:
        return await plan_running_proxy(source, options, deadline, headers)
    try:
        async with port_forward(proxy, namespace, deadline) as url:
            plan = await plan_running_proxy(url, options, deadline, headers)
    except ManifestError as error:
        raise ManifestError(f"--against {str(error).removeprefix('--against: ')}") from None
    spec = await read_spec(proxy, namespace, deadline)
    if spec is not None:
        _add_limits(plan, spec.get("limits"))
    return plan


def _add_limits(plan: Plan, content: Any) -> None:
    """Add what the rules of a running proxy count, if this version understands them."""
    try:
        limits = None if content is None else Limits.model_validate(content)
    except ValidationError:
        return
    plan["limits"] = build_limits(limits, plan)


async def plan_running_proxy(
    url: str, options: RuntimeOptions, deadline: float, headers: Mapping[str, str]
) -> Plan:
    """Return the plan of the proxy at this URL. Raise ManifestError if it cannot be read."""
    backend: dict[str, Any] = {"name": "served", "prefix": "", "url": url}
    if headers:
        backend["headers"] = [{"name": name, "value": headers[name]} for name in headers]
    try:
        configuration = from_backends([backend])
    except ManifestError as error:
        reason = redact_values(str(error), headers).replace("spec.backends[0].", "")
        raise ManifestError(f"--against: {reason}") from None
    plan = await build_plan(
        configuration.proxy, configuration.directory, options, CollectOptions(deadline)
    )
    if plan["failed"]:
        message = plan["backends"][0].get("message", "the backend is not healthy")
        message = redact_values(message, headers)
        raise ManifestError(f"--against: cannot read the running proxy: {message}")
    # The endpoint does not tell its limits.
    del plan["limits"]
    return plan


def add_differences(plan: Plan, baseline: Plan | None, *, is_served: bool) -> None:
    """Add the differences to a baseline, which is a running proxy if it `is_served`."""
    plan["differences"] = plan_differences(baseline, plan)
    plan["limitDifferences"] = limit_differences(baseline or {"limits": None}, plan)
    if not is_served:
        # A running proxy shows one caller's part, so only plans can be compared by caller.
        plan["accessDifferences"] = access_differences(baseline, plan)


def load_earlier_plan(path: Path) -> dict[tuple[str | None, str], Plan]:
    """Return the plans in a file that `plan -o json` wrote, by namespace and name.

    Raise ManifestError.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError(f"--against {path}: {error.strerror}") from error
    except ValueError as error:
        raise ManifestError(f"--against {path}: invalid JSON: {error}") from error
    if not isinstance(content, dict) or content.get("version") != FORM:
        raise ManifestError(f"--against {path}: not the output of plan -o json of this version")
    plans = content.get("proxies")
    if not isinstance(plans, list) or not all(_is_plan(plan) for plan in plans):
        raise ManifestError(f"--against {path}: proxies: not the output of plan -o json")
    return {(plan.get("namespace"), plan["name"]): plan for plan in plans}


def _is_plan(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return False
    if not _is_access(value.get("access")) or not is_limits(value.get("limits")):
        return False
    lists = [value.get(kind.member) for kind in KINDS]
    return all(isinstance(entries, list) for entries in lists) and all(
        isinstance(entry, dict) and all(member in entry for member in _MEMBERS)
        for entries in lists
        for entry in entries or ()
    )


def _is_access(value: Any) -> bool:
    """Return True for the access of an earlier plan, or for none."""
    if value is None:
        return True
    callers = value.get("callers") if isinstance(value, dict) else None
    if not isinstance(callers, list):
        return False
    return all(
        isinstance(caller, dict)
        and isinstance(caller.get("caller"), str)
        and all(_has_names(caller.get(kind.member)) for kind in KINDS)
        for caller in callers
    )


def _has_names(components: Any) -> bool:
    return isinstance(components, dict) and isinstance(components.get("names"), list)

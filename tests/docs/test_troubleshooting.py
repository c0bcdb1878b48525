"""Whatever reason the code can give has its paragraph, and no paragraph is about anything else."""

import pkgutil
import re
from importlib import import_module
from pathlib import Path
from typing import get_args

from mcpproxy import proxy
from mcpproxy.api.constants import CHANGE_STREAM_FAILED, LIST_FAILED
from mcpproxy.api.defaults import health_policy
from mcpproxy.api.v1alpha1.status import BackendState
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.health import FOR_CALLERS, GUARDED, NOT_LISTED, BackendHealth
from mcpproxy.proxy.workers import report_merge
from mcpproxy.status import reasons
from scripts.yaml_files import parse_yaml
from tests.support.builders import an_mcpproxy

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
TYPES = {
    reasons.ACCEPTED,
    reasons.AVAILABLE,
    reasons.BACKENDS_HEALTHY,
    reasons.READY,
    reasons.RECONCILING,
    reasons.STALLED,
    reasons.AUTOSCALED,
    reasons.MONITORED,
    reasons.CATALOG_DRIFT,
    reasons.RULES_UNUSED,
    reasons.AUTHENTICATION_READY,
    reasons.EXPOSED,
    reasons.LIMITS_ENFORCED,
}
"""Types of conditions that are no reasons."""


def _errors(kind: type[BackendError]) -> set[str]:
    result = {below.reason for below in kind.__subclasses__()}
    return result.union(*(_errors(below) for below in kind.__subclasses__()))


def _import_all() -> None:
    """Import the proxy, because a class is listed below its base only after its import."""
    for module in pkgutil.walk_packages(proxy.__path__, f"{proxy.__name__}."):
        if not module.name.endswith(".__main__"):
            import_module(module.name)


def _reasons() -> set[str]:
    _import_all()
    constants = {value for value in vars(reasons).values() if isinstance(value, str)}
    named = {value for value in constants if re.fullmatch(r"[A-Z]\w+", value)} - TYPES
    untried = BackendHealth(health_policy(an_mcpproxy().spec)).finding.reason
    assert untried is not None
    assert GUARDED.reason is not None
    assert NOT_LISTED.reason is not None
    assert FOR_CALLERS.reason is not None
    own = {
        report_merge.WORKER_REPORTERS.disagree,
        report_merge.WORKER_REPORTERS.differ,
        untried,
        GUARDED.reason,
        FOR_CALLERS.reason,
        NOT_LISTED.reason,
    }
    own |= {LIST_FAILED, CHANGE_STREAM_FAILED}
    return named | _errors(BackendError) | own


def test_every_reason_has_a_paragraph_and_every_paragraph_a_reason() -> None:
    headings = re.findall(r"^### (\w+)$", TEXT, re.MULTILINE)
    assert sorted(headings) == sorted(_reasons())
    paragraphs = re.findall(r"^### \w+\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert len(paragraphs) == len(headings)
    assert all(paragraph.strip() for paragraph in paragraphs)


def test_every_state_of_a_backend_has_its_event_named() -> None:
    for state in set(get_args(BackendState)) - {"Unknown"}:
        assert f"`Backend{state}`" in TEXT


def test_every_alert_is_explained() -> None:
    rules = parse_yaml((ROOT / "manifests/monitoring/rules.yaml").read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"]}
    explained = re.findall(r"^#### (\w+)\n\n\w", TEXT, re.MULTILINE)
    assert sorted(explained) == sorted(alerts)


def test_every_condition_is_named() -> None:
    assert {kind for kind in TYPES if f"`{kind}" not in TEXT} == set()

"""For random rules and catalogs: listed = callable = planned."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpproxy.api.v1alpha1 import Authorization
from mcpproxy.api.v1alpha1.status import BackendStatus
from mcpproxy.plan.access.callers import PlannedCaller
from mcpproxy.plan.access.permissions import build_access
from mcpproxy.plan.document import build_document
from mcpproxy.proxy.authorization.policy import Policy
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_filter import EVERYTHING
from mcpproxy.proxy.core.catalog.list_variant import ListVariant
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol.kinds import KINDS, PROMPTS, RESOURCES, TEMPLATES, TOOLS
from tests.proxy.authorization.random_policies import CALLERS, authorizations
from tests.proxy.authorization.stage import put
from tests.support.builders import an_mcpproxy
from tests.support.examples import examples

NAMES = {
    TOOLS: ["get_a", "get_admin", "set_a", "x"],
    PROMPTS: ["ask", "other"],
    RESOURCES: ["file:///pub/a", "file:///etc/passwd", "note://1", "note://a/b"],
    TEMPLATES: ["note://{id}", "note://{+path}", "off://{id}"],
}
_HINTS = st.sampled_from(
    [{}, {"readOnlyHint": True}, {"destructiveHint": False}, {"openWorldHint": False}]
)
_LISTS = st.fixed_dictionaries(
    {kind: st.lists(st.sampled_from(names), unique=True) for kind, names in NAMES.items()}
)
catalogs = st.fixed_dictionaries(dict.fromkeys("ab", _LISTS))


@settings(max_examples=examples(250), deadline=None)
@given(
    authorizations(),
    catalogs,
    catalogs,
    st.dictionaries(st.sampled_from(NAMES[TOOLS]), _HINTS),
    st.sampled_from("ab"),
)
def test_callers_may_use_the_components_that_are_listed_and_that_a_plan_shows(
    spec: dict[str, Any], lists: Any, later: Any, hints: Any, varied: str
) -> None:
    catalog = Catalog()
    policy = Policy(Authorization.model_validate(spec), catalog)
    for content, seen in ((lists, None), (later, None), (lists, b"{}")):
        for backend, kinds in content.items():
            for kind, names in kinds.items():
                if seen is None or backend == varied:
                    put(catalog, backend, kind, names, hints, seen)
        if seen is None:
            _check(policy, catalog, ListVariant())
        _check(policy, catalog, ListVariant({varied: b"{}"}))


def _check(policy: Policy, catalog: Catalog, audience: ListVariant) -> None:
    planned = _planned(policy, catalog) if not audience.seen else {}
    for number, identity in enumerate(CALLERS):
        access = policy.access_class(identity)
        own = ListVariant(audience.seen, access)
        for kind in KINDS:
            every = _listed(catalog, kind, audience, modern=True)
            allowed = [
                name
                for name in every
                if access.judge(kind, catalog.owner(kind, name) or "", name).allowed
            ]
            for modern in (False, True):
                assert _listed(catalog, kind, own, modern=modern) == allowed
            if not audience.seen:
                assert planned[number, kind] == sorted(allowed)


def _listed(catalog: Catalog, kind: Any, audience: ListVariant, *, modern: bool) -> list[str]:
    parts = catalog.list_result_parts(kind, modern=modern, now=0.0, audience=audience)
    return [item[kind.key] for item in json.loads(b"".join(parts))[kind.member]]


def _planned(policy: Policy, catalog: Catalog) -> dict[Any, list[str]]:
    statuses = [BackendStatus.model_validate({"name": b, "state": "Healthy"}) for b in "ab"]
    origins = {b: (PrefixMapping(b), dict.fromkeys(KINDS, EVERYTHING)) for b in "ab"}
    proxy = an_mcpproxy()
    spec = proxy.spec.model_copy(update={"authorization": policy.spec})
    plan = build_document(proxy.metadata, catalog, statuses, origins, known=True)
    callers = [PlannedCaller(str(number), caller) for number, caller in enumerate(CALLERS)]
    access = build_access(spec, catalog, plan, callers)
    assert access is not None
    return {
        (number, kind): sorted(described[kind.member]["names"])
        for number, described in enumerate(access["callers"])
        for kind in KINDS
    }

"""Guard of routes: refuses requests that `spec.authorization` does not allow.

A component that a client may not use has the error of an unknown one, so that no client learns
which components others have.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Raw

from mcpproxy.api.untrusted_text import quote
from mcpproxy.proxy.authorization.call_arguments import arguments_for_conditions
from mcpproxy.proxy.authorization.conditions import describe_tool
from mcpproxy.proxy.authorization.policy import Policy
from mcpproxy.proxy.core.access import Access, AccessDenied, InsufficientScope, Verdict
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.identity import Identity
from mcpproxy.proxy.core.reports import RulesReport
from mcpproxy.proxy.core.translation.request_names import COMPLETE, unknown_component_error
from mcpproxy.proxy.gateway.routing.route_finder import Route
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, Message, RpcError
from mcpproxy.proxy.protocol.kinds import RESOURCES, RESULTS, TASKS, TEMPLATES, TOOLS, ComponentKind

DIRECTORY: Final = "resources/directory/read"
LOGGED: Final = 60.0
"""Seconds between two lines of the log on callers to whom no rule applies."""

log = logging.getLogger("mcpproxy.authorization")


class AccessGuard:
    """Guard of the routes of one proxy."""

    def __init__(
        self, policy: Policy, catalog: Catalog, now: Callable[[], float] = time.monotonic
    ) -> None:
        """`now` returns seconds."""
        self._policy = policy
        self._catalog = catalog
        self._now = now
        self._logged_at = float("-inf")

    def report(self, *, complete: bool) -> RulesReport:
        """Return the state of the rules; `complete` means that all components are known."""
        policy = self._policy
        return RulesReport(
            rules=len(policy.rules),
            classes=policy.class_count,
            unused=policy.unused() if complete else None,
        )

    def restrict(self, client: ClientIdentity) -> Access:
        """Return the access of a client, by its identity."""
        access = self._policy.access_class(client.identity)
        known = client.identity.method != "anonymous"
        if known and not access.rules and not self._policy.allows_by_default:
            self._log_unmatched(client.identity)
        return access

    def _log_unmatched(self, identity: Identity) -> None:
        """Log a caller who may use nothing, such as one whose token has no groups."""
        now = self._now()
        if now - self._logged_at < LOGGED:
            return
        self._logged_at = now
        groups, scopes = (quote(sorted(words)) for words in (identity.groups, identity.scopes))
        remedy = "compare who of the rules"
        if identity.method == "jwt" and not identity.groups:
            remedy += ", and let the issuer put the groups into the token or set claims.groups"
        log.info(
            "no rule applies to a caller (%s of %s, groups %s, scopes %s); %s",
            *(identity.method, quote(identity.issuer), groups, scopes, remedy),
        )

    def access_of(self, client: ClientIdentity | None) -> Access:
        """Return the access of a client that was restricted; others may use nothing."""
        access = None if client is None else client.access
        return self._policy.nobody if access is None else access

    def check(
        self,
        route: Route,
        method: str,
        params: Message,
        client: ClientIdentity | None,
        access: Access,
    ) -> str:
        """Return the rule whose condition the request meets; empty if every request is allowed.

        Raise RpcError unless the client, which has this access, may send this request.
        """
        if route.kind in (TASKS, RESULTS):
            # A task or kept result belongs to its principal, and is the result of a tool.
            if not access.uses_tools(route.backend.name):
                error = unknown_component_error(route.kind, route.name)
                raise AccessDenied.like(error, client, route.backend.name)
            return ""
        if route.aliases:
            self._check_aliases(route, method, params, client, access)
        kind = self._completed_kind(route) if method == COMPLETE else route.kind
        verdict = access.judge(kind, route.backend.name, route.name)
        if verdict.allowed:
            return ""
        rule = self._rule_of_condition(verdict, route, method, params, client)
        if rule is not None:
            return rule
        if verdict.scopes:
            raise InsufficientScope(client, verdict.scopes, route.backend.name)
        if verdict.conditions:
            raise AccessDenied(
                client,
                INVALID_PARAMS,
                f"the conditions of spec.authorization do not allow this use of {route.name}",
                backend=route.backend.name,
            )
        error = unknown_component_error(route.kind, route.name)
        raise AccessDenied.like(error, client, route.backend.name)

    def allows_all(self, route: Route, access: Access) -> bool:
        """Return True if clients with this access may send all requests about a component, until
        the catalog changes."""
        verdict = access.judge(route.kind, route.backend.name, route.name)
        return verdict.allowed and not route.aliases

    def _check_aliases(
        self,
        route: Route,
        method: str,
        params: Message,
        client: ClientIdentity | None,
        access: Access,
    ) -> None:
        """Raise RpcError unless the client may use every form of an unlisted URI."""
        if self._policy.spec.external is not None:
            why = "the URI is not in its normal form, in which the service would judge it"
            raise AccessDenied(client, INVALID_PARAMS, why, backend=route.backend.name)
        for alias in route.aliases:
            form = route._replace(name=alias, aliases=())
            try:
                self.check(form, method, params, client, access)
            except InsufficientScope:
                raise
            except RpcError:
                error = unknown_component_error(route.kind, route.name)
                raise AccessDenied.like(error, client, route.backend.name) from None

    def _completed_kind(self, route: Route) -> ComponentKind:
        """Return the kind of component that is completed: a URI may be that of a template."""
        if route.kind is not RESOURCES:
            return route.kind
        listed = self._catalog.owner(TEMPLATES, route.name) is not None
        return TEMPLATES if listed or "{" in route.name else RESOURCES

    def _rule_of_condition(
        self,
        verdict: Verdict,
        route: Route,
        method: str,
        params: Message,
        client: ClientIdentity | None,
    ) -> str | None:
        """Return the first rule whose condition the request meets; None without one."""
        if not verdict.conditions:
            return None
        try:
            arguments = _arguments(route, method, params)
        except RpcError as error:
            raise AccessDenied.like(error, client, route.backend.name) from None
        if arguments is None:
            return None
        claims: Mapping[str, Any] = client.identity.claims if client is not None else {}
        tool = self._describe(route)
        for rule, condition in zip(verdict.rules, verdict.conditions, strict=True):
            if condition.holds(arguments, claims, tool):
                return rule
        return None

    def _describe(self, route: Route) -> dict[str, Any]:
        """Return the variable `tool` of conditions; empty for other components."""
        if route.kind is not TOOLS:
            return {}
        item = self._catalog.find(route.backend.name, TOOLS, route.name)
        return describe_tool(item, route.backend.name, route.name)

    def check_method(self, method: str, backend: str, client: ClientIdentity | None) -> None:
        """Raise RpcError unless the client may send a request that names no component.

        Nothing tells which components it concerns, so the client must be allowed all of them.
        """
        if not self.access_of(client).has_whole(backend):
            why = f"method not found: {method}"
            raise AccessDenied(client, METHOD_NOT_FOUND, why, backend=backend)

    def restrict_result(
        self, method: str, backend: str, answer: Message, client: ClientIdentity
    ) -> None:
        """Remove the resources that the client may not use from the listing of a directory.

        Raise ProtocolError if it is malformed.
        """
        if method != DIRECTORY or "result" not in answer:
            return
        access = self.access_of(client)
        try:
            result = jsonrpc.decode_object(answer["result"])
            listed = jsonrpc.decode_array(result.get("resources", Raw(b"[]")))
            uris = [jsonrpc.decode_str(jsonrpc.decode_object(item).get("uri")) for item in listed]
        except RpcError as error:
            raise ProtocolError(f"{DIRECTORY}: {error}") from None
        shown = [
            item
            for item, uri in zip(listed, uris, strict=True)
            if uri is not None and access.shows(RESOURCES, backend, uri)
        ]
        if len(shown) < len(listed):
            result["resources"] = jsonrpc.encode_raw(shown)
            answer["result"] = jsonrpc.encode_raw(result)


def _arguments(route: Route, method: str, params: Message) -> dict[str, Any] | None:
    """Return the variable `args` of conditions, or None if the arguments are too large.

    Raise RpcError if they are ambiguous.
    """
    if route.kind is RESOURCES:
        return {"uri": route.name}
    if method == COMPLETE:
        # An argument that is being completed has no value so far.
        return {}
    return arguments_for_conditions(params.get("arguments"))

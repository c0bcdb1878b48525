"""Entry of a backend in the status, from what its monitor knows."""

from typing import Literal

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.backends import SERVER_NAME
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.errors import REUSE_REFUSED, ReuseNotAllowed
from mcpproxy.proxy.core.health import HealthState
from mcpproxy.proxy.core.reports import BackendReport, ServerReport
from mcpproxy.proxy.upstream.connect.negotiation import TransportName
from mcpproxy.proxy.upstream.monitor.monitor import BackendMonitor
from mcpproxy.proxy.upstream.mounted.tls import SKIPPED


def backend_status(
    name: str,
    settings: BackendSettings,
    monitor: BackendMonitor,
    catalog: Catalog,
    transport: TransportName | None,
    refusal: HealthState | None = None,
) -> BackendReport:
    """Return the entry of a backend. A failed backend has no counts.

    `refusal` is set while calls are refused.
    """
    state = _state_of(settings, monitor, refusal)
    server = monitor.server
    info = server.member("serverInfo") if server else None
    if server and not isinstance(info, dict):
        info = (server.member("_meta") or {}).get("io.modelcontextprotocol/serverInfo")
    session: Literal["Stateless", "Stateful"] | None = None
    if server is not None:
        session = "Stateful" if monitor.stateful else "Stateless"
    lists = monitor.lists if monitor.known and not monitor.guarded else None
    return BackendReport(
        name=name,
        state=state.state,
        reason=state.reason,
        message=_message(settings, state),
        protocol_version=server.revision if server else None,
        transport=transport if server else None,
        server=_server_info(info),
        session=session,
        session_mode=settings.session_mode,
        session_mode_from=settings.session_mode_from,
        components=catalog.counts(name) if lists else None,
        not_offered=(lists.not_offered or None) if lists else None,
    )


def _message(settings: BackendSettings, state: HealthState) -> str | None:
    if not settings.unverified:
        return state.message
    return "; ".join(text for text in (state.message, SKIPPED) if text)


def _state_of(
    settings: BackendSettings, monitor: BackendMonitor, refusal: HealthState | None
) -> HealthState:
    state = monitor.finding
    # The result of a check names the cause better than the calls before it.
    if refusal is not None and monitor.health.is_usable:
        return refusal
    refused = (
        settings.session_mode == "Reused" and monitor.stateful and not settings.declared_stateless
    )
    if state.state == "Healthy" and refused:
        return HealthState("Unhealthy", ReuseNotAllowed.reason, REUSE_REFUSED)
    return state


def _server_info(info: object) -> ServerReport | None:
    if not isinstance(info, dict) or not isinstance(info.get("name"), str):
        return None
    version = info.get("version")
    return ServerReport(
        name=_shorten(info["name"]), version=_shorten(version) if isinstance(version, str) else None
    )


def _shorten(text: str) -> str:
    if len(text) > SERVER_NAME.value:
        SERVER_NAME.record()
    return clean_text(text, SERVER_NAME.value)

"""Gauges of open things in a proxy's metrics."""

import httpx2
from prometheus_client.parser import text_string_to_metric_families

OPEN = (
    "mcpproxy_client_sessions",
    "mcpproxy_client_streams",
    "mcpproxy_calls_in_flight",
    "mcpproxy_calls_parked",
    "mcpproxy_backend_sessions",
)


async def gauges(admin: str) -> dict[str, float]:
    """By name, the sum over all labels; `admin` is the base URL of the admin port."""
    async with httpx2.AsyncClient() as http:
        text = (await http.get(f"{admin}/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {name: sum(sample.value for sample in families[name].samples) for name in OPEN}

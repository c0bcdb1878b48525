"""Connects to the backends with the runtime's own code, once, and lists what they have."""

import asyncio

from mcpproxy.proxy.back.lists import selections
from mcpproxy.proxy.plan.document import Plan, document
from mcpproxy.proxy.runtime import Options, Runtime
from mcpproxy.proxy.targets import Configuration


async def planned(configuration: Configuration, options: Options, deadline: float) -> Plan:
    """The plan of one proxy. A backend that said nothing within `deadline` seconds is Unknown."""
    gateway = Runtime(configuration, options).gateway
    gateway.start()
    try:
        async with asyncio.timeout(deadline):
            while any(b.status().state == "Unknown" for b in gateway.backends.values()):
                changed = asyncio.Event()
                unwatch = gateway.watch(changed.set)
                try:
                    if any(b.status().state == "Unknown" for b in gateway.backends.values()):
                        await changed.wait()
                finally:
                    unwatch()
    except TimeoutError:
        pass
    finally:
        backends = gateway.backends
        statuses = [backends[name].status() for name in sorted(backends)]
        origins = {name: (b.names, selections(b.settings)) for name, b in backends.items()}
        plan = document(configuration.proxy.metadata.name, gateway.catalog, statuses, origins)
        await gateway.close()
    return plan

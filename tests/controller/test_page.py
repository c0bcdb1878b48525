"""The operator's page: all MCPProxies that its watches delivered, and nothing else."""

import html
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from subprocess import run
from typing import Any

import httpx2
import pytest
from aiohttp import web

from mcpproxy.cluster.cached_reads import ObjectCache
from mcpproxy.cluster.resources import ProxyKey
from mcpproxy.controller.health_port.application import application
from mcpproxy.controller.metrics import OperatorMetrics
from mcpproxy.controller.page import proxies
from mcpproxy.controller.page.render import PAGE_SIZE
from mcpproxy.pages.security import Visit
from scripts.ports import ports_in_a_row


def a_live_proxy(
    name: str, namespace: str = "team", version: int = 1, ready: str = "True", **status: Any
) -> dict[str, Any]:
    """An MCPProxy as a watch delivers it."""
    reason = {"True": "Serving", "False": "BackendsUnhealthy"}.get(ready, "BackendsUnknown")
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": f"about {name}"}
    backends = [{"name": "weather", "state": "Unhealthy", "reason": "TimedOut", "message": "slow"}]
    return {
        "metadata": {"name": name, "namespace": namespace, "resourceVersion": str(version)},
        "spec": {"backends": [{"name": "weather", "url": "http://w/?key=hunter2"}]},
        "status": {"conditions": [condition], "summary": "Serving", "backends": backends, **status},
    }


@asynccontextmanager
async def visiting(
    store: ObjectCache, namespaces: tuple[str, ...] = ()
) -> AsyncIterator[httpx2.AsyncClient]:
    """The operator's port, and a visitor of it."""
    app = application(OperatorMetrics(), lambda: None, lambda: None, store, namespaces)
    runner = web.AppRunner(app)
    await runner.setup()
    port = ports_in_a_row(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as visitor:
            yield visitor
    finally:
        await runner.cleanup()


def stored(*objects: dict[str, Any], fresh: bool = True) -> ObjectCache:
    """A store with these objects."""
    store = ObjectCache()
    store.is_fresh = fresh
    for live in objects:
        bring(store, live)
    return store


def bring(store: ObjectCache, live: dict[str, Any]) -> None:
    """Let the watch bring an MCPProxy."""
    store.put(live, ProxyKey(live["metadata"]["namespace"], live["metadata"]["name"]))


async def text(visitor: httpx2.AsyncClient, path: str) -> str:
    """The text of a part of the page, without markup."""
    answer = await visitor.get(path)
    assert answer.status_code == 200
    return html.unescape(re.sub(r"<[^>]+>", " ", answer.text))


async def test_the_page_shows_every_mcpproxy_with_those_that_are_not_ready_first() -> None:
    store = stored(
        a_live_proxy("good"),
        a_live_proxy("bad", ready="False"),
        a_live_proxy("new", ready="Unknown"),
    )
    async with visiting(store) as visitor:
        page = await text(visitor, "/")
    names = re.findall(r"team/(\w+)\s+Ready: (\w+)", page)
    assert names == [("bad", "False"), ("new", "Unknown"), ("good", "True")]
    for fact in ("BackendsUnhealthy", "about bad", "weather", "TimedOut", "Namespaces all"):
        assert fact in re.sub(r"\s+", " ", page)
    assert "hunter2" not in page


async def test_an_mcpproxy_without_a_status_is_unknown() -> None:
    live = a_live_proxy("new")
    del live["status"]
    async with visiting(stored(live)) as visitor:
        assert "Ready: Unknown" in await text(visitor, "/page/proxies")


async def test_the_page_follows_the_watch() -> None:
    store = stored(a_live_proxy("a"), a_live_proxy("b"))
    async with visiting(store, ("team", "other")) as visitor:
        assert "Ready True: 2" in await text(visitor, "/page/overview")
        bring(store, a_live_proxy("a", version=2, ready="False"))
        store.drop(("team", "b"))
        page = await text(visitor, "/page/overview")
        assert "Ready False: 1" in page
        assert "Ready True" not in page
        assert "team, other" in page
        assert "may be outdated" not in page
        store.is_fresh = False
        assert "may be outdated" in await text(visitor, "/page/overview")


async def test_objects_that_have_not_changed_are_not_decoded_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = []
    decode = proxies.proxy_row

    def counted(live: dict[str, Any]) -> proxies.ProxyRow:
        decoded.append(live)
        return decode(live)

    monkeypatch.setattr(proxies, "proxy_row", counted)
    store = stored(a_live_proxy("a"), a_live_proxy("b"))
    async with visiting(store) as visitor:
        await visitor.get("/")
        await visitor.get("/")
        bring(store, a_live_proxy("a", version=2))
        await visitor.get("/")
    assert [live["metadata"]["name"] for live in decoded] == ["a", "b", "a"]


async def test_the_list_is_filtered_and_divided() -> None:
    store = stored(*(a_live_proxy(f"p{number:03}") for number in range(120)))
    async with visiting(store) as visitor:
        first = await text(visitor, "/page/proxies")
        assert len(re.findall(r"team/p\d+\s+Ready", first)) == PAGE_SIZE
        assert "1 to 50 of 120" in first
        last = await text(visitor, "/page/proxies?offset=100")
        assert "101 to 120 of 120" in last
        some = await text(visitor, "/page/proxies?text=TEAM/P11")
        assert "10 MCPProxies with “TEAM/P11”" in some
        for odd in ("offset=x", "offset=-1", "offset=999999999999", "text=%00%FF"):
            assert (await visitor.get(f"/page/proxies?{odd}")).status_code == 200


async def test_hostile_texts_are_inert() -> None:
    hostile = '"><img src=x onerror=alert(1)>\u202e'
    condition = {"type": "Ready", "status": hostile, "reason": hostile, "message": hostile}
    backends = [{"name": hostile, "state": hostile, "reason": hostile, "message": hostile}]
    live = a_live_proxy(
        "a", conditions=[condition], backends=backends, url=hostile, summary=hostile
    )
    async with visiting(stored(live)) as visitor:
        for path in ("/", "/page/overview", "/page/proxies"):
            page = (await visitor.get(path)).text
            assert "<img" not in page


async def test_the_page_can_only_be_read_at_a_name_of_this_machine() -> None:
    async with visiting(stored(a_live_proxy("a"))) as visitor:
        for path in ("/", "/page/overview", "/page/proxies", "/page/page.js"):
            answer = await visitor.get(path)
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert (await visitor.head(path)).status_code == 200
            assert (await visitor.post(path)).status_code == 405
            rebound = await visitor.get(path, headers={"host": "evil.example"})
            assert (rebound.status_code, "team" in rebound.text) == (421, False)
        assert (await visitor.get("/page/none")).status_code == 404


async def test_visitors_from_other_machines_get_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcpproxy.controller.page import routes

    visit = Visit("10.0.0.9", "10.0.0.1", "10.0.0.1")
    monkeypatch.setattr(routes, "_visit", lambda request: visit)
    async with visiting(stored(a_live_proxy("a"))) as visitor:
        for path in ("/", "/page/proxies", "/page/page.css"):
            answer = await visitor.get(path, headers={"x-forwarded-for": "127.0.0.1"})
            assert (answer.status_code, "team" in answer.text) == (403, False)


async def test_1000_mcpproxies_are_rendered_within_a_second() -> None:
    backends = [{"name": f"b{n}", "state": "Healthy", "message": "x" * 200} for n in range(10)]
    store = stored(*(a_live_proxy(f"p{n:04}", backends=backends) for n in range(1000)))
    async with visiting(store) as visitor:
        spent = []
        for path in ("/", "/", "/page/overview", "/page/proxies?text=p09"):
            before = time.process_time()
            answer = await visitor.get(path)
            spent.append(time.process_time() - before)
            assert answer.status_code == 200
            assert len(answer.content) < 500_000
    assert max(spent) < 1.0, spent


@pytest.mark.slow
def test_the_page_is_not_imported_with_the_operator() -> None:
    check = (
        "import sys, mcpproxy.controller.run;"
        "pages = 'mcpproxy.pages', 'mcpproxy.controller.page';"
        "print([name for name in sys.modules if name.startswith(pages)])"
    )
    seen = run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"

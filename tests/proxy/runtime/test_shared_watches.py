"""Above three instances, one of them watches a backend for all."""

import json
from typing import Any

import pytest
from mcp.server.subscriptions import ResourceUpdated

from mcpproxy.api.constants import WATCHES_PATH
from mcpproxy.limits.backends import OWN_REQUESTS
from mcpproxy.limits.instances import WATCH_MESSAGE
from mcpproxy.proxy.instances import watch_sharing
from mcpproxy.proxy.protocol.kinds import KINDS
from mcpproxy.proxy.upstream.monitor import list_waits
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.waiting import soon
from tests.proxy.runtime.watchers import Instances, instances

pytestmark = [*LIVE, pytest.mark.timeout(60)]
URI = "file:///etc/motd"


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists that were requested at the start do not delay those of a change by a second."""
    monkeypatch.setattr(list_waits, "APART", 0.01)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_one_of_five_instances_watches_and_all_list_a_change_at_once(
    prompt: None, monkeypatch: pytest.MonkeyPatch, era: str
) -> None:
    async with instances(5, era) as crowd:
        await crowd.until_watched_by(1)
        # The change must not wait for the next message that repeats all digests.
        monkeypatch.setattr(watch_sharing, "HEARTBEAT", 3600.0)
        for port in crowd.proxies:
            crowd.sharing(port).wake()
        before = crowd.backend.lists
        await crowd.backend.peer.grow("new")
        await crowd.until_listed("p_new")
        assert crowd.backend.streams == 1
        # The watcher and each of the others have requested the changed list.
        assert crowd.backend.lists - before >= 5


async def test_three_instances_watch_a_backend_themselves() -> None:
    async with instances(3) as crowd:
        for port in crowd.proxies:
            await crowd.sharing(port).members.find()
            assert len(crowd.sharing(port).members.others) == 2
            crowd.sharing(port).divide()
        assert len(await crowd.until_watched_by(3)) == 3


@pytest.mark.parametrize(("unshared", "watchers"), [(3, 1), (99, 5)])
async def test_outdated_lists_are_requested_by_those_that_watch(
    monkeypatch: pytest.MonkeyPatch, unshared: int, watchers: int
) -> None:
    monkeypatch.setattr(watch_sharing, "UNSHARED_PODS", unshared)
    async with instances(5, cache={"ttl": "200ms"}) as crowd:
        ports = await crowd.until_watched_by(watchers)
        requested = dict.fromkeys(crowd.proxies, 0)
        for port in crowd.proxies:
            events = crowd.proxies[port].runtime.gateway.events

            def count(*pages: Any, port: int = port) -> None:
                requested[port] += 1

            events.pages.subscribe(count)
        await soon(lambda: all(requested[port] >= 8 for port in ports), "two refreshes")
        assert [port for port, times in requested.items() if times] == ports


async def test_another_instance_watches_when_the_watcher_ends(prompt: None) -> None:
    async with instances(5) as crowd:
        (watcher,) = await crowd.until_watched_by(1)
        # While nobody watches, no announcement arrives anywhere.
        crowd.backend.peer.tools["meanwhile"] = crowd.backend.peer.echo
        await crowd.stop(watcher)
        await crowd.until_listed("p_meanwhile")
        (successor,) = await crowd.until_watched_by(1)
        assert successor != watcher
        await crowd.backend.peer.grow("later")
        await crowd.until_listed("p_later")


async def test_the_others_watch_themselves_when_three_remain() -> None:
    async with instances(4) as crowd:
        (watcher,) = await crowd.until_watched_by(1)
        await crowd.stop(watcher)
        await crowd.until_watched_by(3)


async def test_each_instance_reports_whether_it_reaches_the_backend() -> None:
    async with instances(4) as crowd:
        await crowd.until_watched_by(1)
        crowd.backend.peer.gate.status = 503
        for proxy in crowd.proxies.values():
            await proxy.until("p", "Unhealthy")
        crowd.backend.peer.gate.status = None
        for proxy in crowd.proxies.values():
            await proxy.until("p", "Healthy")
        await crowd.until_watched_by(1)


async def test_an_instance_with_subscriptions_keeps_its_own_stream() -> None:
    async with instances(4, "modern") as crowd:
        (watcher,) = await crowd.until_watched_by(1)
        other = next(port for port in crowd.proxies if port != watcher)
        gateway = crowd.proxies[other].runtime.gateway
        updated: list[Any] = []
        uri = gateway.backends["p"].names.uri_to_downstream(URI)
        unsubscribe = await gateway.subscribe_resource(uri, updated.append)
        await soon(lambda: crowd.backend.streams == 2, "a stream for the subscription")
        await crowd.backend.peer.bus.publish(ResourceUpdated(uri=URI))
        await soon(lambda: updated, "the update")
        gate = crowd.backend.peer.gate
        checks = gate.count("server/discover") + 20
        await soon(lambda: gate.count("server/discover") >= checks, "some checks")
        assert crowd.backend.streams == 2
        await unsubscribe()
        await soon(lambda: crowd.backend.streams == 1, "the stream to end")


def _message(crowd: Instances, port: int, **fields: Any) -> bytes:
    sharing = crowd.sharing(port)
    content = {"sender": f"127.0.0.1:{port}", "group": sharing._group, "process": "x"}
    return json.dumps({**content, **fields}).encode()


def _lists(digest: str) -> list[list[Any]]:
    return [[digest, 0.0, 0] for _ in KINDS]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"watched": {"q": _lists("")}}, "watched names 1 backends that spec.backends lacks"),
        ({"watched": {"p": _lists("")[:2]}}, "array"),
        ({"watched": {"p": _lists("x" * 33)}}, "length <= 32"),
        ({"watched": {"p": [["", -1.0, 0] for _ in KINDS]}}, ">= 0.0"),
        ({"sender": 7}, "Expected `str`"),
    ],
)
async def test_a_malformed_message_about_watches_is_refused(
    fields: dict[str, Any], why: str
) -> None:
    async with instances(2) as crowd:
        other, sender = crowd.proxies
        body = _message(crowd, sender, **fields)
        with pytest.raises(ValueError, match=why):
            crowd.sharing(other).answer(body)
        with pytest.raises(ConnectionError, match="HTTP status 400"):
            await crowd.peers(sender).exchange(f"127.0.0.1:{other}", WATCHES_PATH, body)
        assert crowd.share(other).watches


async def test_a_message_about_watches_that_is_too_large_is_refused() -> None:
    async with instances(2) as crowd:
        other, sender = crowd.proxies
        before = WATCH_MESSAGE.reached
        body = _message(crowd, sender).ljust(WATCH_MESSAGE.value + 1)
        with pytest.raises(ConnectionError, match="HTTP status 400"):
            await crowd.peers(sender).exchange(f"127.0.0.1:{other}", WATCHES_PATH, body)
        assert WATCH_MESSAGE.reached == before + 1


async def test_the_endpoint_for_clients_takes_no_messages_about_watches(http: Any) -> None:
    async with instances(2) as crowd:
        other, sender = crowd.proxies
        body = _message(crowd, sender, watched={"p": _lists("")})
        base = crowd.proxies[other].base
        answer = await http.post(f"{base}{WATCHES_PATH}", content=body)
        assert answer.status_code == 404


async def test_digests_that_change_with_each_message_cause_a_bounded_number_of_requests() -> None:
    async with instances(5) as crowd:
        (watcher,) = await crowd.until_watched_by(1)
        other = next(port for port in crowd.proxies if port != watcher)
        address = f"127.0.0.1:{other}"
        before = crowd.backend.lists
        for number in range(200):
            body = _message(crowd, watcher, watched={"p": _lists(f"{number}")})
            await crowd.peers(watcher).exchange(address, WATCHES_PATH, body)
        requests = crowd.backend.lists - before
        assert 0 < requests <= OWN_REQUESTS.value + 10
        # The contents of the messages were not taken over.
        await crowd.until_listed("p_echo")


async def test_an_instance_with_another_configuration_is_not_relied_on() -> None:
    async with instances(5) as crowd:
        (watcher,) = await crowd.until_watched_by(1)
        other = next(port for port in crowd.proxies if port != watcher)
        lists = {"p": _lists("0" * 24)}
        body = _message(crowd, watcher, group="another", watched=lists)
        before = crowd.backend.lists
        answer = await crowd.peers(watcher).exchange(f"127.0.0.1:{other}", WATCHES_PATH, body)
        assert "watched" not in json.loads(answer)
        assert crowd.backend.lists == before

"""Lists of a backend that loses a session between two requests, or between its lists."""

import asyncio

import pytest

from mcpproxy.proxy.core.errors import SessionNotFound, Unreachable
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import KINDS, TOOLS, ComponentKind
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest, UpstreamSession
from tests.proxy.runtime.waiting import soon
from tests.proxy.upstream.monitor.test_monitor import names, running
from tests.proxy.upstream.plain import ALL, PlainConnector, PlainLink, listed
from tests.proxy.upstream.stage import ANN

LISTS = {
    "tools": ["a"],
    "prompts": ["p"],
    "resources": ["x:1"],
    "resourceTemplates": ["x:{y}"],
}


class ForgetfulLink(PlainLink):
    """A session that is lost after some requests."""

    left: int

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        if self.left == 0:
            await asyncio.sleep(0)
            raise SessionNotFound("the session no longer exists")
        self.left -= 1
        return await super().request(outgoing, caller)


class ForgetfulConnector(PlainConnector):
    """A backend with lists of all kinds that loses each session after `lives` requests."""

    latest: ForgetfulLink

    def __init__(self, lives: int) -> None:
        methods = {kind.method: listed(kind.member, *LISTS[kind.member]) for kind in KINDS}
        super().__init__(ALL)
        self.answers = methods
        self.lives = lives

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        self.opened += 1
        if self.error is not None:
            raise self.error
        link = self.latest = ForgetfulLink(self, client)
        link.left = self.lives
        return link


def shown(gateway: Gateway) -> dict[str, list[str]]:
    """Names in the lists of all kinds."""
    return {kind.member: names(gateway, kind) for kind in KINDS}


async def asked(gateway: Gateway, *kinds: ComponentKind) -> None:
    """Request lists at the same time, as clients do."""
    watch = gateway.backends["b"].watch
    await asyncio.gather(*(watch.refresh(kind, ANN, None) for kind in kinds))


@pytest.mark.parametrize("lives", range(3, 9))
async def test_lists_are_whole_whenever_their_session_is_lost(lives: int) -> None:
    connector = ForgetfulConnector(lives)
    async with running(b=connector) as gateway:
        await gateway.aggregate.settled()
        assert shown(gateway) == LISTS
        for kind in (*KINDS, *KINDS):
            await asked(gateway, kind)
            assert shown(gateway) == LISTS, kind
        await asked(gateway, *KINDS)
        assert shown(gateway) == LISTS
        assert gateway.backends["b"].watch.finding.reason is None


async def test_all_lists_of_a_replaced_backend_are_fetched_although_a_client_wants_one() -> None:
    connector = ForgetfulConnector(1000)
    async with running(b=connector) as gateway:
        await gateway.aggregate.settled()
        assert shown(gateway) == LISTS
        newer = {
            "tools": ["b"],
            "prompts": ["q"],
            "resources": ["x:2"],
            "resourceTemplates": ["z:{y}"],
        }
        connector.answers = {
            kind.method: listed(kind.member, *newer[kind.member]) for kind in KINDS
        }
        connector.latest.left = 0
        await asked(gateway, TOOLS)
        assert names(gateway, TOOLS) == ["b"]
        gateway.backends["b"].watch.rounds.wake()
        await soon(lambda: shown(gateway) == newer, "all lists of the new session")


async def test_lists_that_lose_their_session_together_open_one_other() -> None:
    connector = ForgetfulConnector(4)
    async with running(b=connector) as gateway:
        await gateway.aggregate.settled()
        before = connector.opened
        await asked(gateway, *KINDS)
        assert connector.opened == before + 1


async def test_a_list_whose_session_cannot_be_opened_again_fails() -> None:
    connector = ForgetfulConnector(4)
    async with running(b=connector) as gateway:
        await gateway.aggregate.settled()
        connector.error = Unreachable("it is gone")
        await asked(gateway, KINDS[0])
        failure = gateway.backends["b"].watch.failure(KINDS[0])
        assert failure is not None
        assert "it is gone" in failure

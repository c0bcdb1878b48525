"""Credentials that change while calls run, and one that is not there yet."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from e2e import pods
from e2e.pods import PROGRAMS, Caller, calling, pods_of
from e2e.world import Object, World, eventually

NAME = "rotating"
SERVER = "picky"
ROTATED_SECONDS = 90
PAUSE = 0.1
ASK = """
import sys, urllib.error, urllib.request
ask = urllib.request.Request("http://127.0.0.1:8080/mcp", b"{}", {"X-Token": sys.argv[1]})
try:
    urllib.request.urlopen(ask)
except urllib.error.HTTPError as error:
    print(error.code)
"""
"""Prints the HTTP status of a request with a token that is no MCP."""


@pytest.fixture(scope="module")
def rotating(new_world: Callable[[str], World]) -> Iterator[World]:
    """A namespace with a server that tells what it was called with, and accepts some tokens."""
    world = new_world("rotation")
    pods.tellers(world, SERVER, program="picky")
    yield world
    world.remove()


def _header(name: str, kind: str, source: str) -> Object:
    return {"name": name, "valueFrom": {kind: {"name": source, "key": "value"}}}


def _proxy(name: str, secret: str, *headers: Object) -> Object:
    result = pods.proxy(name, SERVER, health={"interval": "5s"})
    result["spec"]["backends"][0]["headers"] = [
        _header("X-Token", "secretKeyRef", secret),
        *headers,
    ]
    return result


def _rotating_proxy() -> Object:
    """Two headers of a Secret and a ConfigMap, kept sessions, and a variable of a program."""
    result = _proxy(NAME, "token", _header("X-Tenant", "configMapKeyRef", "tenant"))
    served: list[Object] = result["spec"]["backends"]
    served[0]["session"] = {"mode": "PerClient"}
    code = (PROGRAMS / "variable.py").read_text("utf-8")
    env = [_header("TOKEN", "secretKeyRef", "variable")]
    stdio = {"command": "python", "args": ["-c", code], "env": env}
    session = {"mode": "Reused", "stateless": True}
    served.append({"name": "program", "stdio": stdio, "session": session})
    return result


def _write(world: World, kind: str, name: str, **values: str) -> None:
    field = "stringData" if kind == "Secret" else "data"
    world.apply({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: values})


def _write_all(world: World, text: str) -> None:
    _write(world, "Secret", "token", value=text)
    _write(world, "Secret", "variable", value=text)
    _write(world, "ConfigMap", "tenant", value=text)


def _in_server(world: World, code: str, *arguments: str) -> str:
    """Return the output of Python code in the server's pod."""
    return world.kubectl("exec", f"deploy/{SERVER}", "--", "python", "-c", code, *arguments)


def _accept(world: World, *tokens: str) -> None:
    """These tokens are what the server accepts from now on, and no other."""
    write = "import sys; open('/tmp/accepted', 'w').write(' '.join(sys.argv[1:]))"
    _in_server(world, write, *tokens)


def _told(tally: Object, text: str) -> int:
    """Count the responses with this token, and with the tenant where they name one."""
    seen: dict[str, int] = tally["seen"]
    return sum(count for words, count in seen.items() if set(words.split()[:2]) == {text})


def _token_told(tally: Object, text: str) -> int:
    seen: dict[str, int] = tally["seen"]
    return sum(count for words, count in seen.items() if words.split()[0] == text)


def test_rotated_values_reach_all_backends_with_no_restart_and_no_failed_call(
    rotating: World,
) -> None:
    _accept(rotating, "first")
    _write_all(rotating, "first")
    rotating.apply(_rotating_proxy())
    rotating.wait_ready(NAME)
    before = _identities(rotating)
    with ExitStack() as stack:

        def call(tool: str, name: str, mode: str) -> Caller:
            return stack.enter_context(
                calling(rotating, NAME, tool, pause=PAUSE, name=name, mode=mode)
            )

        modern = call(f"{SERVER}_tell", "modern", "2026-07-28")
        legacy = call(f"{SERVER}_tell", "legacy", "legacy")
        callers = [modern, legacy, call("program_tell", "program", "2026-07-28")]
        for caller in callers:
            tally = caller.tally()
            assert _told(tally, "first") == sum(tally["seen"].values()), tally
        # The server knows the new token before anybody uses it, and for a while both.
        _accept(rotating, "first", "second")
        _write_all(rotating, "second")
        _all_are_told(callers)
        _accept(rotating, "second")
        assert _in_server(rotating, ASK, "first").strip() == "401"
        assert _in_server(rotating, ASK, "second").strip() != "401"
        for caller in callers:
            caller.wait_calls(50)
            print(f"{caller.name}: {caller.check()} calls")
        # Both clients have the sessions that they began with, over all of it.
        sessions = {text.split()[2] for text in legacy.tally()["seen"]}
        assert len(sessions) == 2
        assert {text.split()[2] for text in modern.tally()["seen"]} == {"-"}
    assert _identities(rotating) == before
    assert rotating.backend(NAME, SERVER)["state"] == "Healthy"


def _all_are_told(callers: list[Caller]) -> None:
    """Everything is the second value within the time, and nothing the first any more."""
    rotated = time.monotonic()
    for caller in callers:
        left = ROTATED_SECONDS - (time.monotonic() - rotated)

        def told(caller: Caller = caller) -> bool:
            return _told(caller.tally(), "second") > 0

        eventually(f"{caller.name} is told the second value", told, max(left, 1))
        print(f"{caller.name}: rotated within {time.monotonic() - rotated:.0f} s")
    for caller in callers:
        caller.wait_calls(20)
        first = _token_told(caller.tally(), "first")
        caller.wait_calls(20)
        assert _token_told(caller.tally(), "first") == first


@pytest.mark.parametrize("there", [{}, {"other": "key"}], ids=["no-secret", "no-key"])
def test_a_missing_secret_or_key_is_named_and_heals_when_it_appears(
    rotating: World, there: dict[str, str]
) -> None:
    name = f"missing-{'key' if there else 'secret'}"
    secret = f"{name}-token"
    _accept(rotating, "second", "late")
    if there:
        _write(rotating, "Secret", secret, **there)
    rotating.apply(_proxy(name, secret))
    eventually("a condition names it", lambda: _names(rotating, name, secret), 120)
    assert _condition(rotating, name, "Ready")["status"] == "False"
    _write(rotating, "Secret", secret, value="late")
    rotating.wait_ready(name, seconds=150)
    assert not _names(rotating, name, secret)
    with calling(rotating, name, f"{SERVER}_tell") as caller:
        tally = caller.tally()
        assert _token_told(tally, "late") == sum(tally["seen"].values()), tally


def _names(world: World, proxy: str, secret: str) -> bool:
    """Return True if a failing condition names the Secret."""
    conditions = world.status(proxy).get("conditions", [])
    return any(
        secret in condition["message"] for condition in conditions if condition["status"] == "False"
    )


def _condition(world: World, proxy: str, kind: str) -> Object:
    conditions: list[Object] = world.status(proxy)["conditions"]
    return next(condition for condition in conditions if condition["type"] == kind)


def _identities(world: World) -> list[tuple[str, int]]:
    return [
        (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        for pod in pods_of(world, NAME)
    ]

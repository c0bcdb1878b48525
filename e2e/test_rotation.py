"""Credentials that change while calls run, and one that is not there yet."""

import time
from collections.abc import Callable, Iterator

import pytest

from e2e import pods
from e2e.pods import calling, pods_of
from e2e.world import Object, World, eventually

NAME = "rotating"
SECRET = "token"
ROTATED_SECONDS = 90


@pytest.fixture(scope="module")
def rotating(new_world: Callable[[str], World]) -> Iterator[World]:
    """A namespace with a server that tells the token it was called with."""
    world = new_world("rotation")
    pods.tellers(world, "teller")
    yield world
    world.remove()


def _proxy(name: str, secret: str) -> Object:
    found = pods.proxy(name, "teller", health={"interval": "5s"})
    source = {"secretKeyRef": {"name": secret, "key": "value"}}
    found["spec"]["backends"][0]["headers"] = [{"name": "X-Token", "valueFrom": source}]
    return found


def _secret(world: World, name: str, **values: str) -> None:
    world.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
    )


def test_a_rotated_secret_reaches_the_backend_with_no_restart_and_no_failed_call(
    rotating: World,
) -> None:
    _secret(rotating, SECRET, value="first")
    rotating.apply(_proxy(NAME, SECRET))
    rotating.wait_ready(NAME)
    before = _identities(rotating)
    with calling(rotating, NAME, "teller_tell") as caller:
        assert set(caller.tally()["seen"]) == {"first"}
        _secret(rotating, SECRET, value="second")
        rotated = time.monotonic()
        eventually("the second value", lambda: "second" in caller.tally()["seen"], ROTATED_SECONDS)
        print(f"rotated within {time.monotonic() - rotated:.0f} s")
        caller.wait_calls(20)
        first = caller.tally()["seen"]["first"]
        caller.wait_calls(50)
        assert caller.tally()["seen"]["first"] == first
        print(f"{caller.check()} calls")
    assert _identities(rotating) == before


@pytest.mark.parametrize("there", [{}, {"other": "key"}], ids=["no-secret", "no-key"])
def test_a_missing_secret_or_key_is_named_and_heals_when_it_appears(
    rotating: World, there: dict[str, str]
) -> None:
    name = f"missing-{'key' if there else 'secret'}"
    secret = f"{name}-token"
    if there:
        _secret(rotating, secret, **there)
    rotating.apply(_proxy(name, secret))
    eventually("a condition names it", lambda: _names(rotating, name, secret), 120)
    assert _condition(rotating, name, "Ready")["status"] == "False"
    _secret(rotating, secret, value="late")
    rotating.wait_ready(name, seconds=150)
    assert not _names(rotating, name, secret)
    with calling(rotating, name, "teller_tell") as caller:
        assert set(caller.tally()["seen"]) == {"late"}


def _names(world: World, proxy: str, secret: str) -> bool:
    """Whether a condition that is not well names the Secret."""
    conditions = world.status(proxy).get("conditions", [])
    return any(secret in one["message"] for one in conditions if one["status"] == "False")


def _condition(world: World, proxy: str, kind: str) -> Object:
    conditions: list[Object] = world.status(proxy)["conditions"]
    return next(one for one in conditions if one["type"] == kind)


def _identities(world: World) -> list[tuple[str, int]]:
    return [
        (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        for pod in pods_of(world, NAME)
    ]

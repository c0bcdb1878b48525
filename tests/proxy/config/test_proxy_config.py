"""The configuration of a process, which needs no pydantic."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mcpproxy.api.manifest import parse
from mcpproxy.proxy.config.proxy_config import PlainModel, ProxyConfig
from tests.support.good_manifests import GOOD


@pytest.mark.parametrize("name", GOOD)
def test_a_configuration_has_every_attribute_of_the_manifest(name: str) -> None:
    proxy = parse(GOOD[name])
    passed = pickle.dumps(ProxyConfig(proxy, "0", Path("/")))
    assert b"pydantic" not in passed
    config = pickle.loads(passed)
    assert config == ProxyConfig(config.proxy, "0", Path("/"))
    _compare(config.proxy, proxy)


def _compare(copy: Any, original: Any) -> None:
    if isinstance(original, list | tuple | Iterator):
        for inner, source in zip(copy, original, strict=True):
            _compare(inner, source)
        return
    if not isinstance(original, BaseModel):
        assert copy == original
        return
    assert isinstance(copy, PlainModel)
    assert copy.to_manifest() == original.to_manifest()  # type: ignore[attr-defined]
    assert copy.to_json() == original.to_json()  # type: ignore[attr-defined]
    for name in type(original).model_fields:
        _compare(getattr(copy, name), getattr(original, name))
    for definition in type(original).__mro__:
        if definition.__module__.startswith("mcpproxy"):
            for name, member in [*vars(definition).items()]:
                if isinstance(member, property):
                    _compare(getattr(copy, name), getattr(original, name))


def test_copies_are_equal_if_their_fields_are() -> None:
    first, same, other = (
        ProxyConfig(parse(GOOD[name]), "0", Path("/"))
        for name in ("one backend", "one backend", "64 backends")
    )
    assert first == same
    assert first != other

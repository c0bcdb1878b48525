"""Fixtures of all tests."""

import functools
import gc
import logging
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Final

import httpcore2
import pytest
from hypothesis import settings

from tests.support.authority import Authority
from tests.support.examples import examples, is_full, leave_out_constants_of_the_source
from tests.support.seeds import IS_SET, REPEAT, SEED
from tests.support.unselected import selects_none

# An example takes longer on a busy machine. A test that hangs ends at the timeout of all tests.
settings.register_profile("tests", deadline=None, max_examples=examples(100))
settings.load_profile("tests")
if not is_full():
    leave_out_constants_of_the_source()

GC_THRESHOLD: Final = 20_000
"""As in the runtime, which sets it for the tests that start one."""
# Modules and tests live until the end. The collector would visit all of them again and again.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give the seed to property tests if it is set. Without, they also try earlier failures."""
    if IS_SET and not hasattr(config, "workerinput"):
        config.option.hypothesis_seed = str(SEED)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Name the seed in every failure."""
    report = yield
    if report.failed:
        report.sections.append(("seed", REPEAT))
    return report


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files of which `-m` selects no test, unless the command line names them."""
    words = (word.partition("::")[0] for word in config.args)
    asked = [config.invocation_params.dir / word for word in words]
    if any(path.is_relative_to(collection_path) for path in asked):
        return None
    is_test = collection_path.is_dir() or collection_path.match("test_*.py")
    return (is_test and selects_none(config.option.markexpr, collection_path)) or None


def pytest_collection_finish() -> None:
    """Let the garbage collector see only the objects of tests."""
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    gc.enable()


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Refuse tests that would need an API server in `make test`, which selects by markers."""
    unmarked = [
        item.nodeid
        for item in items
        if "bare_apiserver" in getattr(item, "fixturenames", ())
        and item.get_closest_marker("apiserver") is None
    ]
    if unmarked:
        raise pytest.UsageError(f"mark tests with an API server as apiserver: {unmarked}")


@pytest.fixture(autouse=True, scope="session")
def trusted_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One certificate authority in place of the machine's, in one TLS context of all HTTP clients.

    Each HTTP client loads them all, which takes longer than most of what it is made for.
    """
    bundle = tmp_path_factory.mktemp("authorities") / "ca.crt"
    bundle.write_text(Authority("nobody").pem, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.fspath(bundle))
        patch.delenv("SSL_CERT_DIR", raising=False)
        contexts = functools.cache(httpcore2.default_ssl_context)
        patch.setattr(httpcore2, "default_ssl_context", contexts)
        yield


@pytest.fixture(autouse=True, scope="session")
def objects_are_collected() -> Iterator[None]:
    """Garbage of all tests is collected, however many runtimes a process starts.

    Each of them would freeze what earlier tests have left, such as tasks. All tasks of the process
    are visited whenever a loop is closed.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "freeze", lambda: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def last_requests_are_not_awaited() -> Iterator[None]:
    """A runtime that stops closes idle connections immediately, which clients of tests may keep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mcpproxy.proxy.runtime.LAST_REQUESTS", 0.0)
        yield


@pytest.fixture(autouse=True)
def level_of_the_log() -> Iterator[None]:
    """The level of the log, whatever the commands set that a test runs."""
    root = logging.getLogger()
    level = root.level
    yield
    if root.level != level:
        # Every logger of the process then forgets which levels it is enabled for.
        root.setLevel(level)

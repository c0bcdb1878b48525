"""Fixtures of tests against real servers."""

from tests.proxy.runtime.conftest import peer as peer
from tests.proxy.runtime.conftest import proxy as proxy
from tests.proxy.runtime.conftest import stack as stack

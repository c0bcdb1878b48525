"""Errors of the HTTP client become errors of backends."""

import pytest

from mcpproxy.proxy.core.errors import (
    BackendError,
    ProtocolError,
    TimedOut,
    TooManySessions,
    Unreachable,
)
from mcpproxy.proxy.http1 import errors
from mcpproxy.proxy.upstream.http_errors import BACKEND_ERRORS, to_backend_error

CLASSES = {
    errors.ConnectError: (Unreachable, False),
    errors.ConnectTimeout: (TimedOut, False),
    errors.TooManyConnections: (TooManySessions, False),
    errors.ConnectionLost: (Unreachable, True),
    errors.InvalidRedirect: (Unreachable, True),
    errors.InvalidResponse: (ProtocolError, True),
}


def test_each_error_of_the_client_has_a_backend_error() -> None:
    assert set(errors.HttpClientError.__subclasses__()) == set(CLASSES)
    for kind, (expected, reached) in CLASSES.items():
        mapped = to_backend_error(kind("refused", detail="127.0.0.1:1: refused"))
        assert (type(mapped), mapped.reached) == (expected, reached)
        assert (str(mapped), mapped.finding) == ("refused", "127.0.0.1:1: refused")
        assert to_backend_error(kind("refused")).finding == "refused"


def test_errors_of_the_client_are_raised_as_backend_errors_in_the_context() -> None:
    with pytest.raises(Unreachable, match="broke off"), BACKEND_ERRORS:
        raise errors.ConnectionLost("it broke off")


@pytest.mark.parametrize("error", [BackendError("b"), TimeoutError(), KeyboardInterrupt()])
def test_other_errors_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, BACKEND_ERRORS:
        raise error
    assert caught.value is error

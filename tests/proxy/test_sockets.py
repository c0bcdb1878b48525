"""The ports of a pod are open for either family of addresses."""

import errno
import socket

import pytest

from mcpproxy.proxy import sockets

FAMILIES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


@pytest.mark.parametrize(("family", "address"), FAMILIES, ids=["IPv4", "IPv6"])
def test_a_port_for_all_addresses_answers_either_family(
    family: socket.AddressFamily, address: str
) -> None:
    with sockets.listen("::", 0) as listening:
        port = listening.getsockname()[1]
        with socket.socket(family) as client:
            client.settimeout(5)
            client.connect((address, port))


def test_without_ipv6_in_the_kernel_the_port_is_open_for_ipv4(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = socket.socket

    def without_ipv6(family: int, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return make(family, *rest)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    with sockets.listen("::", 0) as listening:
        assert listening.family == socket.AF_INET


def test_a_port_in_use_is_an_error_in_either_family() -> None:
    with sockets.listen("::", 0) as listening, pytest.raises(OSError, match="in use"):
        sockets.listen("::", listening.getsockname()[1])

"""Replies are compared with what was asked for."""

from bench.replies import Checker, Reply, is_right

LIST = b'{"jsonrpc":"2.0","id":%d,"result":{"tools":[{"name":"a","inputSchema":{}}]}}'


def test_an_event_stream_counts_by_its_last_message() -> None:
    body = (
        b'event: message\r\nid: 1\r\ndata:\r\n\r\ndata: {"id":4,"result":{"serverInfo":{}}}\r\n\r\n'
    )
    assert is_right("initialize", 4, Reply(200, body), 0)
    assert not is_right("initialize", 5, Reply(200, body), 0)


def test_text_that_is_not_json_is_invalid() -> None:
    assert not is_right("echo", 1, Reply(200, b"{nonsense"), 0)
    assert not is_right("echo", 1, Reply(200, b""), 0)


def test_an_error_of_json_rpc_is_wrong() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"said in call 1."}}'
    assert not is_right("echo", 1, Reply(200, body), 0)


def test_lists_after_the_first_are_compared_whole() -> None:
    checker = Checker("list", 1)
    assert checker.is_right(1, Reply(200, LIST % 1))
    assert checker.is_right(2, Reply(200, LIST % 2))
    assert not checker.is_right(3, Reply(200, LIST % 2))
    assert not checker.is_right(3, Reply(500, LIST % 3))
    assert not checker.is_right(4, Reply(200, (LIST % 4).replace(b"inputSchema", b"schema")))

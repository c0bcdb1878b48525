"""Text of the API server's objects, which anybody may have written, cannot control the terminal."""

from typing import Any

from mcpproxy.terminal.kubectl.status_text import render_overview, render_status

ESCAPES = "\x1b[2J\x1b]52;c;aGk=\x07\nforged line\u202e\x9b"


def _operator() -> dict[str, Any]:
    container = {"image": f"operator{ESCAPES}"}
    return {
        "metadata": {"namespace": f"team{ESCAPES}", "name": f"x{ESCAPES}"},
        "spec": {"template": {"spec": {"containers": [container]}}},
        "status": {"readyReplicas": ESCAPES},
    }


def _proxy() -> dict[str, Any]:
    metadata = {"namespace": f"team{ESCAPES}", "name": f"x{ESCAPES}"}
    condition = {"type": "Ready", "status": ESCAPES, "reason": ESCAPES, "message": ESCAPES}
    return {"metadata": metadata, "status": {"url": ESCAPES, "conditions": [condition]}}


def test_no_escape_of_an_operator_or_a_proxy_reaches_the_terminal() -> None:
    overview = render_overview([_proxy()], [_operator()])
    status = render_status(_proxy(), [_proxy()], [{"message": ESCAPES}], [_operator()])
    for text in (overview, status):
        assert not any(letter in text for letter in "\x1b\x07\x9b\u202e\r")
        assert not any(line.startswith("forged") for line in text.splitlines())


def test_the_status_of_a_proxy_that_was_never_ready_explains_its_missing_url() -> None:
    text = render_status({"metadata": {"namespace": "a", "name": "b"}}, [], [], [])
    assert "URL      none yet: it is set once the proxy is Ready for the first time" in text
    ready = {"metadata": {"namespace": "a", "name": "b"}, "status": {"url": "http://b.a.svc/mcp"}}
    assert "URL      http://b.a.svc/mcp" in render_status(ready, [], [], [])

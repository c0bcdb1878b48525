"""A program on standard streams that tells its variable, its process and its number of calls."""

import json
from typing import Any

from tests.differential.client import Client

PROGRAM = """
import json, os, sys, threading

TOKEN, told = os.environ["TOKEN"], 0
with open(sys.argv[1], "a") as starts:
    starts.write(json.dumps([os.getpid(), TOKEN]) + chr(10))

def say(own, result):
    line = json.dumps({"jsonrpc": "2.0", "id": own, "result": result})
    sys.stdout.write(line + chr(10))
    sys.stdout.flush()

def tell(own):
    text = json.dumps({"token": TOKEN, "pid": os.getpid(), "told": told})
    say(own, {"content": [{"type": "text", "text": text}]})

def wait(own, path):
    open(path + "-awaited", "w").close()
    open(path).close()  # A pipe: somebody opens its other end.
    tell(own)

for line in sys.stdin:
    got = json.loads(line)
    method, own = got.get("method"), got.get("id")
    if method == "initialize":
        say(own, {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "p", "version": "1"}})
    elif method == "tools/list":
        names = "tell", "is-" + TOKEN
        say(own, {"tools": [{"name": n, "inputSchema": {"type": "object"}} for n in names]})
    elif method == "tools/call":
        told += 1
        path = got["params"]["arguments"].get("until")
        if path:
            threading.Thread(target=wait, args=(own, path), daemon=True).start()
        else:
            tell(own)
    elif own is not None:
        say(own, {})
"""
"""Its argument is a file that each process of it adds a line to."""


async def called(client: Client, tool: str, number: object = 1, **arguments: Any) -> str:
    """The text of the result of a call, which has to succeed."""
    params = {"name": tool, "arguments": arguments}
    message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    *_, last = await client.exchange(json.dumps(message).encode())
    answer = json.loads(last)
    assert "result" in answer, last
    text: str = answer["result"]["content"][0]["text"]
    return text


async def told(client: Client, number: object = 1, **arguments: Any) -> dict[str, Any]:
    """Return the replies of the program, as the backend p."""
    document: dict[str, Any] = json.loads(await called(client, "p_tell", number, **arguments))
    return document

"""Calls URL without credentials, and reads the metadata that the challenge names. Runs in a pod.

    python stranger.py URL

Prints a line of JSON: the `status` and `challenge` of the response, and the `metadata`.
"""

import json
import re
import sys
import urllib.request
from urllib.error import HTTPError

PING = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def main(url: str) -> None:
    try:
        urllib.request.urlopen(urllib.request.Request(url, PING, HEADERS), timeout=20)
    except HTTPError as refused:
        status, challenge = refused.code, refused.headers["WWW-Authenticate"]
    named = re.search('resource_metadata="([^"]+)"', challenge)
    assert named is not None, challenge
    with urllib.request.urlopen(named[1], timeout=20) as response:
        metadata = json.load(response)
    print(json.dumps({"status": status, "challenge": challenge, "metadata": metadata}))


if __name__ == "__main__":
    main(*sys.argv[1:])

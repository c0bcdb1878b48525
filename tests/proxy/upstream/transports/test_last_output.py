"""The message about a program that exited quotes the line that explains it."""

import pytest

from mcpproxy.proxy.upstream.processes.last_output import KEPT, LastOutput

NPM = """npm error code E404
npm error 404 Not Found - GET https://registry.example/nope - Not found
npm error 404
npm error 404  'nope@*' is not in this registry.
npm error 404
npm error 404 Note that you can also install from a
npm error 404 tarball, folder, http url, or git folder.
npm error A complete log of this run can be found in: /tmp/npm/_logs/2026-debug-0.log"""
OLD_NPM = """npm ERR! code ENOTFOUND
npm ERR! network request to https://registry.example/nope failed, reason: getaddrinfo ENOTFOUND
npm ERR! network This is a problem related to network connectivity.

npm ERR! A complete log of this run can be found in:
npm ERR!     /tmp/npm/_logs/2026-debug-0.log"""
NODE = """node:internal/modules/cjs/loader:1143
  throw err;
  ^
Error: Cannot find module '/srv/server.js'
    at Module._resolveFilename (node:internal/modules/cjs/loader:1140:15)
    at node:internal/main/run_main_module:23:47 {
  code: 'MODULE_NOT_FOUND',
  requireStack: []
}
Node.js v20.5.1"""
PYTHON = """Traceback (most recent call last):
  File "/srv/server.py", line 1, in <module>
    import nope
ModuleNotFoundError: No module named 'nope'"""
GO = """panic: TOKEN is not set
goroutine 1 [running]:
main.main()
exit status 2"""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (NPM, "npm error 404 Not Found - GET https://registry.example/nope - Not found"),
        (
            OLD_NPM,
            (
                "npm ERR! network request to https://registry.example/nope failed, reason:"
                " getaddrinfo ENOTFOUND"
            ),
        ),
        (NODE, "Error: Cannot find module '/srv/server.js'"),
        (PYTHON, "ModuleNotFoundError: No module named 'nope'"),
        (GO, "panic: TOKEN is not set"),
        (
            "usage: server [--port N]\nserver: error: unrecognized arguments: --prot",
            "server: error: unrecognized arguments: --prot",
        ),
        ("one\nno licence", "no licence"),
        ("Node.js v20.5.1", "Node.js v20.5.1"),
        ("", ""),
    ],
    ids=["npm", "old npm", "Node.js", "Python", "Go", "argparse", "other", "nothing else", "none"],
)
def test_the_line_that_names_the_fault_is_quoted(output: str, expected: str) -> None:
    said = LastOutput()
    for line in output.splitlines():
        if line.strip():
            said.add_error(line.strip())
    assert said.fault() == expected


def test_only_the_last_lines_are_kept() -> None:
    said = LastOutput()
    said.add_error("error: long ago")
    for number in range(KEPT):
        said.add_error(f"line {number}")
    assert said.fault() == f"line {KEPT - 1}"

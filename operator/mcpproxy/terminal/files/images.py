"""Explanation of the images that stdio servers need in a cluster. Pure."""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

RUNTIME: Final = "mcpproxy/runtime"
_PRESENT: Final = re.compile(
    r"(/bin/|/usr/bin/|/usr/local/bin/|/opt/mcpproxy/bin/)?(python3?|mcpproxy|sh|bash|env)"
)
"""Programs of every image that contains the runtime."""
_VENV: Final = re.compile(
    r"(?![/\\]|[A-Za-z]:)(.*[/\\])?\.?venv[/\\](bin|Scripts)[/\\]python3?(\.exe)?"
)
_NODE: Final = frozenset({"npx", "node", "npm", "bunx", "bun", "pnpm", "yarn", "deno"})
_PYTHON: Final = frozenset({"uvx", "uv", "pipx"})
_IN_VARIANTS: Final = frozenset({"npx", "node", "npm", "uvx", "uv"})
"""Programs of the variants of the runtime's image."""
_RUNNERS: Final = frozenset({"npx", "bunx", "uvx", "pipx"})
"""Programs with the name of a package among their arguments, such as `chart.js`."""
_CONTAINERS: Final = frozenset({"docker", "podman", "nerdctl"})
_PACKAGE: Final = re.compile(r"@?[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@[\w.^~<>=-]+|==[\w.]+)?")
_SEPARATOR: Final = re.compile(r"[/\\]")
_LOCAL: Final = re.compile(
    # relative to a folder of this machine
    r"(\.{1,2}|~)([/\\].*)?"
    # of its users
    r"|(/(home(?!/mcp(/|$))|Users|root|mnt|media|private|Volumes)/|[A-Za-z]:[/\\]).*"
    r"|(?!@|\w+://)[^\s:]*\.([mc]?js|py|ts|sh|rb|jar|json5?|ya?ml|toml|db|sqlite3?|csv|txt|md)"
)
"""Paths that the user's machine has and an image probably lacks."""


def program_in_image(command: str) -> str:
    """Return the command to use in an image: python for that of a virtual environment at a
    relative path, otherwise the same command."""
    return "python" if _VENV.fullmatch(command) else command


def choose_variant(servers: Iterable[dict[str, Any]]) -> str:
    """Return the image of the runtime with the package runners that these stdio servers use."""
    programs = {_program(_unwrap(stdio["command"], stdio.get("args", ()))[0]) for stdio in servers}
    node = "-node" if programs & _NODE else ""
    return f"{RUNTIME}{node}{'-uv' if programs & _PYTHON else ''}"


def explain_image(
    name: str,
    stdio: dict[str, Any],
    version: str,
    image: str | None = None,
    variant: str | None = None,
) -> Iterator[str]:
    """Yield lines about the image for a stdio server; none if the runtime's image suffices.

    `image` is the one that the reader has chosen. `variant` is that of all servers of the proxy,
    which have one image.
    """
    args, cwd = stdio.get("args", ()), stdio.get("cwd")
    if image is not None:
        if needed := ", ".join(lacks(stdio["command"], args, cwd)):
            yield f"{name}: {image} must contain {needed}; a relative path begins at its WORKDIR."
        return
    command, args = _unwrap(stdio["command"], args)
    if not _PRESENT.fullmatch(command):
        base = f"{variant or choose_variant([stdio])}:{version}"
        yield from _about_program(name, command, args, base)
    for path in _paths(command, args):
        yield f"{name}: args name a file of this machine, {path}. Copy it to an image that is FROM"
        base = f"{variant or choose_variant([stdio])}:{version}"
        yield f"  {base}, set spec.image to that image, and write the path in it."
    if cwd:
        yield f"{name}: cwd {cwd} must be a folder of the image; write one, or remove cwd."


def lacks(command: str, args: Sequence[str], cwd: str | None) -> list[str]:
    """Return what a stdio server needs and the runtime's image lacks: programs, files, folders."""
    command, args = _unwrap(command, args)
    programs = [] if _PRESENT.fullmatch(command) else [command]
    return [*programs, *_paths(command, args), *([cwd] if cwd else [])]


def _about_program(name: str, command: str, args: Sequence[str], base: str) -> Iterator[str]:
    program = _program(command)
    if program in _NODE or program in _PYTHON:
        if program in _IN_VARIANTS:
            yield f"{name}: {RUNTIME} has no {program}. Set spec.image to {base},"
            yield "  which downloads the package when a pod starts, or to one that contains it:"
        else:
            yield f"{name}: {RUNTIME} has no {program}. Set spec.image to an image like this:"
        yield f"  FROM {base}"
        yield "  USER root"
        yield from _node(args) if program in _NODE else _python(program, args)
    elif program in _CONTAINERS:
        yield f"{name}: pods cannot run {program}. Deploy the image {_image(args)} with a Service"
        yield "  that serves MCP over HTTP, and replace stdio with service; or set spec.image to an"
        yield "  image with the runtime and the server's program, and command to that program."
    elif _SEPARATOR.search(command):
        remedy = "to its path there"
        if program.startswith("python"):
            remedy = "to python if its modules are installed for that"
        yield f"{name}: {command} is a program of this machine. Set spec.image to an image with it"
        yield f"  (FROM {base}), and command {remedy}."
    else:
        yield f"{name}: {RUNTIME} has no {program}. Set spec.image to an image with it"
        yield f"  (FROM {base})."


def _program(command: str) -> str:
    return _SEPARATOR.split(command)[-1].removesuffix(".exe").removesuffix(".cmd")


def _unwrap(command: str, args: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the program that `sh -c 'exec PROGRAM ...'` runs, as `convert` writes it."""
    if command != "sh" or len(args) != 2 or args[0] != "-c" or not args[1].startswith("exec "):
        return command, args
    try:
        words = shlex.split(args[1])[1:]
    except ValueError:
        return command, args
    return (words[0], words[1:]) if words else (command, args)


def _paths(command: str, args: Sequence[str]) -> Iterator[str]:
    """Yield the arguments, and values of options, that are paths of this machine."""
    if _program(command) in _CONTAINERS:
        return
    for arg in args:
        value = arg.partition("=")[2] if arg.startswith("-") else arg
        is_package = _program(command) in _RUNNERS and not _SEPARATOR.search(value)
        if value and _LOCAL.fullmatch(value) and not is_package:
            yield value


def _node(args: Sequence[str]) -> Iterator[str]:
    yield f"  RUN npm install --global {_package(args) or 'PACKAGE'}"
    yield "  USER 65532"


def _python(program: str, args: Sequence[str]) -> Iterator[str]:
    package = _package(args) or "PACKAGE"
    script = re.split(r"[@=]", package)[0]
    yield "  ENV UV_TOOL_DIR=/opt/tools UV_TOOL_BIN_DIR=/opt/uv/bin"
    yield f"  RUN uv tool install {package}"
    yield "  USER 65532"
    yield f"  and command to {script} without the arguments of {program}."


def _package(args: Sequence[str]) -> str | None:
    """Return the first argument that names a package."""
    words = (
        word for word in args if not word.startswith("-") and word not in ("dlx", "exec", "tool")
    )
    return next((word for word in words if word != "run" and _PACKAGE.fullmatch(word)), None)


def _image(args: Sequence[str]) -> str:
    """Return the image in the arguments of `docker run`."""
    words = (word for word in args if "/" in word and not word.startswith(("-", "/", ".", "type=")))
    return next((word for word in words if "=" not in word), "of the server")

"""Explanation of the images that stdio servers need in a cluster. Pure."""

import os.path
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

RUNTIME: Final = "mcpproxy/runtime"
_NODE: Final = frozenset({"npx", "node", "npm", "bunx", "bun", "pnpm", "yarn", "deno"})
_PYTHON: Final = frozenset({"uvx", "uv", "pipx"})
_CONTAINERS: Final = frozenset({"docker", "podman", "nerdctl"})
_PACKAGE: Final = re.compile(r"@?[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@[\w.^~<>=-]+|==[\w.]+)?")
_SCRIPT: Final = re.compile(r"^/.*\.(m?js|py|ts)$")


def explain_image(name: str, stdio: dict[str, Any], version: str) -> Iterator[str]:
    """Yield comment lines about the image for a stdio server; none if the runtime's image has its
    program."""
    command, args = stdio["command"], stdio.get("args", ())
    program = os.path.basename(command).removesuffix(".exe").removesuffix(".cmd")
    if program in _NODE or program in _PYTHON:
        yield f"{name}: {RUNTIME} has no {program}. Set spec.image to an image like this:"
        yield f"  FROM {RUNTIME}:{version}"
        yield "  USER root"
        yield from _node(args) if program in _NODE else _python(program, args)
    elif program in _CONTAINERS:
        yield f"{name}: pods cannot run {program}. Deploy the image {_image(args)} with a Service"
        yield "  that serves MCP over HTTP, and replace stdio with service; or set spec.image to an"
        yield "  image with the runtime and the server's program, and command to that program."
    elif os.path.isabs(command):
        yield f"{name}: {command} is a program of this machine. Set spec.image to an image with it."
    elif any(_SCRIPT.search(word) for word in args):
        yield f"{name}: args name a file of this machine. Set spec.image to an image with it."


def _node(args: Sequence[str]) -> Iterator[str]:
    yield "  RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm"
    yield f"  RUN npm install --global {_package(args) or 'PACKAGE'}"
    yield "  USER 65532"
    yield "  ENV npm_config_cache=/tmp/npm"


def _python(program: str, args: Sequence[str]) -> Iterator[str]:
    package = _package(args) or "PACKAGE"
    script = re.split(r"[@=]", package)[0]
    yield "  RUN python -m venv /opt/server"
    yield f"  RUN /opt/server/bin/pip install {package}"
    yield "  USER 65532"
    yield f"  and command to /opt/server/bin/{script} without the arguments of {program}."


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

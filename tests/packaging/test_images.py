"""The Dockerfile, the health check in images, and the command that builds them."""

import itertools
import re
import runpy
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from scripts import images, machine

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
HEALTHCHECK = runpy.run_path(str(ROOT / "scripts" / "image-healthcheck"))


def stage(name: str) -> str:
    """The lines of a stage and of those that it stands on."""
    bases = {own: base for base, own in STAGES}
    start = DOCKERFILE.index(f" AS {name}\n")
    text = DOCKERFILE[start:].partition("\nFROM ")[0]
    return text + (stage(bases[name]) if bases[name] in bases else "")


def test_every_target_is_a_stage() -> None:
    assert {*images.TARGETS, *images.VARIANTS} <= {name for _, name in STAGES}


def test_stages_of_variants_come_after_all_others() -> None:
    names = [name for _, name in STAGES]
    last = max(names.index(target) for target in images.TARGETS)
    variants = {*images.VARIANTS, "node-files", "uv-files"}
    assert set(names[last + 1 :]) == variants


@pytest.mark.parametrize("target", [*images.TARGETS, *images.VARIANTS])
def test_every_image_has_labels_a_health_check_and_a_user_without_rights(target: str) -> None:
    text = stage(target)
    for label in ("title", "licenses", "version", "revision", "created", "source", "base.name"):
        assert f"org.opencontainers.image.{label}=" in text
    assert "HEALTHCHECK --interval=30s" in text
    assert "USER 65532:65532" in text
    assert "USER 0" not in text


def test_the_base_of_all_stages_is_the_build_argument() -> None:
    names = {name for _, name in STAGES}
    assert {base for base, _ in STAGES} - names == {"${BASE_IMAGE}"}


@pytest.mark.parametrize(
    ("arguments", "port"),
    [
        (["mcpproxy", "run", "--admin-port", "8081"], 8081),
        (["mcpproxy", "run", "--admin-port=8081", "x"], 8081),
        (["mcpproxy", "operator", "--health-port=9"], 9),
        (["mcpproxy", "run", "http://server/mcp"], None),
    ],
)
def test_the_health_check_finds_the_port_of_the_first_process(
    arguments: list[str], port: int | None
) -> None:
    assert HEALTHCHECK["port"](arguments) == port


class Livez(BaseHTTPRequestHandler):
    """Answers with the status that the path of the server's class says."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def check(tmp_path: Path) -> Iterator[Callable[[list[str], int], int]]:
    """The exit code of the health check for a command line, if /livez has this status."""
    server = HTTPServer(("127.0.0.1", 0), Livez)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    main = HEALTHCHECK["main"]

    def run(arguments: list[str], status: int) -> int:
        Livez.status = status
        file = tmp_path / "cmdline"
        text = "\0".join(arguments).replace("PORT", str(server.server_port))
        file.write_text(f"{text}\0", encoding="utf-8")
        main.__globals__["COMMAND_LINE"] = str(file)
        result: int = main()
        return result

    yield run
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_health_check_passes_on_what_livez_says(
    check: Callable[[list[str], int], int],
) -> None:
    command = ["mcpproxy", "run", "--admin-port", "PORT"]
    assert check(command, 200) == 0
    assert check(command, 503) == 1
    assert check(["mcpproxy", "run", "--admin-port", "1"], 200) == 1
    assert check(["mcpproxy", "run", "server.py"], 503) == 0


def test_images_are_built_under_the_given_name_with_the_given_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(machine, "run", lambda command, *_, **__: commands.append(command))
    env = {"BASE_IMAGE": "python:3@sha256:1"}
    built = images.build(
        env, ("runtime-uv",), ROOT, "2.0.0", "registry.test/team", {"REVISION": "abc"}
    )
    assert built == ["registry.test/team/runtime-uv:2.0.0"]
    (command,) = commands
    pairs = set(itertools.pairwise(command))
    for argument in ("VERSION=2.0.0", "REVISION=abc", "BASE_IMAGE=python:3@sha256:1"):
        assert ("--build-arg", argument) in pairs
    assert ("--target", "runtime-uv") in pairs


def test_an_unknown_target_is_refused_with_those_that_exist(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert images.main(["runtime-ruby"]) == 2
    assert "no target runtime-ruby; targets: runtime, demo" in capsys.readouterr().err


def test_a_failed_build_names_the_setting_of_the_base_image(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise machine.CommandFailed(["docker", "build"], 1, "no such host")

    monkeypatch.setattr(machine, "environment", lambda: {"BASE_IMAGE": "mirror.example/python:3"})
    monkeypatch.setattr(machine, "run", fail)
    assert images.main([]) == 1
    printed = capsys.readouterr().err
    assert "docker build: exit code 1\nno such host" in printed
    assert "The base image is mirror.example/python:3; set BASE_IMAGE" in printed

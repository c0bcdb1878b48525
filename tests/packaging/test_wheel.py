"""The wheel installs with pip into an empty environment, and its programs work there."""

import json
import subprocess
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.packaging.wheels import ROOT, build_wheel, install_wheel, run, without_tree
from tests.proxy.runtime.serving import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment with the wheel."""
    return install_wheel(wheel, tmp_path_factory.mktemp("installed") / "venv")


def test_the_wheel_has_the_package_its_license_and_its_programs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        fields = Parser().parsestr(archive.read(metadata).decode())
        (entries,) = (name for name in names if name.endswith("entry_points.txt"))
        programs = archive.read(entries).decode()
    top = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert top == {"mcpproxy"}
    assert "mcpproxy/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {"runtime", "controller"} <= set(fields.get_all("Provides-Extra") or ())
    assert "mcpproxy = mcpproxy.cli:main" in programs
    assert "kubectl-mcpproxy = mcpproxy.cli:plugin" in programs


def test_the_programs_are_those_of_the_wheel(programs: Path, tmp_path: Path) -> None:
    python = programs / "python"
    place = run(python, "-c", "import mcpproxy; print(mcpproxy.__file__)", cwd=tmp_path)
    assert place.startswith(str(programs.parent))
    versions = json.loads(run(programs / "mcpproxy", "version", "-o", "json"))
    assert versions["mcpproxy"] == "0.1.0"
    assert "status" in run(programs / "kubectl-mcpproxy", "--help")


def test_a_server_is_listed_called_and_served_over_http(programs: Path, tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    notes = {
        "command": str(programs / "python"),
        "args": [str(ROOT / "samples" / "servers" / "notes.py")],
    }
    path.write_text(json.dumps({"mcpServers": {"notes": notes}}))
    command = programs / "mcpproxy"
    assert "add_note title=string" in run(command, "list", path, "tools", "--timeout", "60")
    url, port = "http://127.0.0.1:{}/mcp", free_port()
    serving = [str(command), "run", str(path), "--transport", "http", "--port", str(port)]
    with subprocess.Popen(
        serving, env=without_tree(), stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stderr is not None
        try:
            assert any("notes is healthy" in line for line in process.stderr)
            words = ("call", url.format(port), "add_note", "title=a", "text=b")
            assert run(command, *words) == "noted: a (5 notes)\n"
        finally:
            process.terminate()
            process.stderr.read()
    assert process.returncode == 0

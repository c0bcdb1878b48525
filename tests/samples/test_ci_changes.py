"""samples/ci/changed.sh, as the workflow runs it on a pull request of a real git repository."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.yaml_files import parse_yaml
from tests.plan.planning import ROOT
from tests.support.builders import a_manifest
from tests.support.commands import COMMAND, Ended, run_process

pytestmark = pytest.mark.slow

CI = ROOT / "samples" / "ci"
ENV = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
NO_SERVER = {"name": "p", "url": "http://127.0.0.1:1/mcp"}


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository with manifests and lists, as the workflow finds it."""

    path: Path

    def git(self, *arguments: str) -> str:
        """Run git; its output."""
        settings = ("user.name=a", "user.email=a@example.com", "commit.gpgsign=false")
        command = ["git", *(word for setting in settings for word in ("-c", setting)), *arguments]
        done = subprocess.run(
            command, cwd=self.path, env=ENV, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self) -> str:
        """Commit all that there is; the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "a change")
        return self.git("rev-parse", "HEAD")

    def lists(self, proxy: str, *tools: str) -> None:
        """Save that the server of a proxy lists these tools."""
        status = {"name": "p", "state": "Healthy", "protocolVersion": "2026-07-28"}
        items = [{"name": tool, "inputSchema": {"type": "object"}} for tool in tools]
        content = {
            "version": 1,
            "status": {**status, "transport": "streamable-http", "session": "Stateless"},
            "greeting": {"capabilities": {"tools": {}}},
            "lists": {"tools": [{"tools": items}]},
        }
        self.write(f"catalogs/default/{proxy}/p.json", json.dumps(content))

    def proxy(self, file: str, name: str, **fields: Any) -> None:
        """Write a manifest of one backend."""
        manifest = a_manifest(name, None, backends=[{**NO_SERVER, **fields}])
        self.write(f"proxies/{file}", yaml.safe_dump(manifest))

    def write(self, file: str, text: str) -> None:
        """Write a file."""
        path = self.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def remove(self, file: str) -> None:
        """Delete a file."""
        (self.path / file).unlink()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two proxies with their lists, in two directories, and the scripts where they belong."""
    result = Repository(tmp_path / "the repository")
    result.path.mkdir()
    result.git("init", "--quiet", "--initial-branch", "main")
    (result.path / "ci").mkdir()
    for script in ("plan.sh", "changed.sh"):
        shutil.copy(CI / script, result.path / "ci")
    result.proxy("one.yaml", "one")
    result.lists("one", "echo")
    result.proxy("team a/two.yaml", "two")
    result.lists("two", "echo")
    result.write("proxies/kustomization.yaml", "resources: [one.yaml]\n")
    result.commit()
    return result


@dataclass(frozen=True, slots=True)
class Checked:
    """Exit code of a check, and the report that it wrote."""

    ended: Ended
    report: str

    def of(self, name: str) -> str:
        """Return the part of the report about one file."""
        return self.report.split(f"### {name}\n")[1].split("### ")[0]

    @property
    def names(self) -> list[str]:
        """The files that were checked."""
        return [line[4:] for line in self.report.splitlines() if line.startswith("### ")]


async def pull_request(repository: Repository, **env: str) -> Checked:
    """Commit what has changed since to a branch, and run the step of the workflow there."""
    repository.git("checkout", "--quiet", "-b", "change")
    repository.commit()
    workflow = parse_yaml((CI / "github-workflow.yaml").read_text(encoding="utf-8"))
    step = workflow["jobs"]["plan"]["steps"][-1]
    assert step["env"] == {"BASE": "${{ github.event.pull_request.base.sha }}"}
    report = repository.path.parent / "report.md"
    report.touch()
    value = {"BASE": "main", "GITHUB_STEP_SUMMARY": str(report), "MCPPROXY": COMMAND, **env}
    script = 'cd "$0" && eval "$1"'
    ended = await run_process(
        *("bash", "-e", "-c", script, repository.path, step["run"]), env={**ENV, **value}
    )
    return Checked(ended, report.read_text(encoding="utf-8"))


async def test_a_manifest_that_changes_is_compared_with_itself(repository: Repository) -> None:
    repository.proxy("one.yaml", "one", prefix="q")
    result = await pull_request(repository)
    assert (result.ended.code, result.names) == (0, ["proxies/one.yaml"])
    assert "  + tools: q_echo\n  - tools: p_echo\n" in result.report


async def test_a_pull_request_that_changes_only_lists_shows_the_difference_for_clients(
    repository: Repository,
) -> None:
    repository.lists("one", "echo", "fresh")
    result = await pull_request(repository)
    assert (result.ended.code, result.names) == (0, ["proxies/one.yaml"])
    assert "  + tools: p_fresh\n" in result.report
    assert "- tools" not in result.report


async def test_if_manifest_and_lists_change_each_side_uses_its_own_lists(
    repository: Repository,
) -> None:
    repository.lists("one", "fresh")
    repository.proxy("one.yaml", "one", prefix="q")
    result = await pull_request(repository)
    assert (result.ended.code, result.names) == (0, ["proxies/one.yaml"])
    assert "  + tools: q_fresh\n  - tools: p_echo\n" in result.report
    assert "p_fresh" not in result.report


async def test_a_deleted_proxy_loses_all_its_children(repository: Repository) -> None:
    repository.remove("proxies/team a/two.yaml")
    repository.remove("catalogs/default/two/p.json")
    result = await pull_request(repository, PLAN_STRICT="1")
    assert (result.ended.code, result.names) == (2, ["proxies/team a/two.yaml"])
    assert "MCPProxy two is removed\n" in result.report
    assert "  - tools: p_echo\n" in result.report


async def test_a_proxy_that_is_taken_out_of_a_file_is_shown_as_gone(repository: Repository) -> None:
    both = [a_manifest(name, None, backends=[NO_SERVER]) for name in ("one", "two")]
    repository.write("proxies/one.yaml", yaml.safe_dump_all(both))
    repository.remove("proxies/team a/two.yaml")
    repository.commit()
    repository.proxy("one.yaml", "one")
    result = await pull_request(repository)
    assert "no differences" in result.report
    assert "MCPProxy two is removed\n" in result.report


async def test_a_moved_manifest_is_compared_with_its_earlier_version(
    repository: Repository,
) -> None:
    repository.git("mv", "proxies/one.yaml", "proxies/team a/first.yaml")
    result = await pull_request(repository, PLAN_STRICT="1")
    assert (result.ended.code, result.names) == (0, ["proxies/team a/first.yaml"])
    assert "no differences" in result.report


async def test_a_new_manifest_is_planned_and_other_kinds_are_passed_over(
    repository: Repository,
) -> None:
    repository.proxy("new.yaml", "new")
    repository.lists("new", "echo")
    repository.write("proxies/kustomization.yaml", "resources: [one.yaml, new.yaml]\n")
    result = await pull_request(repository)
    assert (result.ended.code, result.names) == (0, ["proxies/new.yaml"])
    assert "difference" not in result.report


async def test_the_first_lists_of_a_repository_are_compared_with_none(
    repository: Repository,
) -> None:
    shutil.rmtree(repository.path / "catalogs")
    repository.commit()
    for name in ("one", "two"):
        repository.lists(name, "echo")
    result = await pull_request(repository)
    assert (result.ended.code, len(result.names)) == (0, 2)
    assert result.report.count("  + tools: p_echo\n") == 2
    assert "not all that is served now is known" in result.ended.err


async def test_later_commits_of_the_base_branch_are_not_attributed_to_the_pull_request(
    repository: Repository,
) -> None:
    repository.git("checkout", "--quiet", "-b", "elsewhere")
    repository.proxy("team a/two.yaml", "two", prefix="later")
    repository.commit()
    repository.git("checkout", "--quiet", "main")
    repository.proxy("one.yaml", "one", prefix="q")
    result = await pull_request(repository, BASE="elsewhere")
    assert result.names == ["proxies/one.yaml"]


async def test_one_manifest_that_fails_hides_no_other(repository: Repository) -> None:
    overrides = [{"name": "echo", "rename": "x" * 63}]
    for number in (1, 3):
        repository.proxy(f"{number}.yaml", "one", tools={"overrides": overrides})
    repository.proxy("2.yaml", "one", wrong=1)
    result = await pull_request(repository)
    assert result.ended.code == 1, "what can't be known comes before a name that is too long"
    assert result.names == [f"proxies/{number}.yaml" for number in (1, 2, 3)]
    assert "names over 64 characters" in result.of("proxies/1.yaml")
    assert "unknown field" in result.of("proxies/2.yaml")
    assert "names over 64 characters" in result.of("proxies/3.yaml")


async def test_a_pull_request_of_other_things_passes(repository: Repository) -> None:
    repository.write("README.md", "Proxies.\n")
    result = await pull_request(repository)
    assert (result.ended.code, result.report) == (0, "")
    assert "nothing of an MCPProxy has changed" in result.ended.out


async def test_a_missing_base_file_fails(repository: Repository) -> None:
    repository.write("README.md", "Proxies.\n")
    result = await pull_request(repository, BASE="0" * 40)
    assert result.ended.code not in (0, 2)


async def test_the_script_prints_its_usage() -> None:
    result = await run_process(CI / "changed.sh")
    assert (result.code, result.err) == (1, "usage: changed.sh BASE\n")


def test_the_workflow_may_read_and_nothing_else() -> None:
    workflow = parse_yaml((CI / "github-workflow.yaml").read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    # YAML 1.1 takes the key `on` for true.
    assert workflow[True]["pull_request"]["paths"] == ["proxies/**.yaml", "catalogs/**"]

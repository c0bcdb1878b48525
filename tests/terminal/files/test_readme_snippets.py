"""Configurations in READMEs of popular servers are served, or one sentence says what to write."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mcpproxy.api.manifest import load
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.config.targets import from_target
from mcpproxy.terminal.files.conversion import convert_file
from mcpproxy.terminal.files.convert_command import render_conversion
from scripts.yaml_files import parse_yaml
from tests.terminal.files.readme_snippets import SNIPPETS


def _file(name: str, directory: Path) -> Path:
    snippet = SNIPPETS[name]
    path = directory / f"snippet{snippet.suffix}"
    path.write_text(snippet.text, encoding="utf-8")
    return path


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and _contains(whole[key], value) for key, value in part.items()
        )
    return bool(whole == part)


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_readme_snippet_is_served_or_refused_with_the_text_to_write(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_PAT_TOKEN", raising=False)
    snippet, path = SNIPPETS[name], _file(name, tmp_path)
    if snippet.error:
        with pytest.raises(ManifestError) as raised:
            from_target(str(path))
        (line,) = raised.value.lines("mcpproxy run")
        assert snippet.error in line
        assert str(path) in line
        return
    (backend,) = from_target(str(path)).proxy.to_manifest()["spec"]["backends"]
    expected = parse_yaml(yaml.safe_dump(snippet.expected).replace("CWD", str(tmp_path)))
    assert _contains(backend, expected), backend


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_readme_snippet_becomes_a_manifest_without_its_secrets(name: str, tmp_path: Path) -> None:
    snippet = SNIPPETS[name]
    text = render_conversion(convert_file(_file(name, tmp_path)), "snippet.json")
    assert len(load(text).spec.backends) == 1
    if snippet.secret or snippet.error:
        assert "kind: Secret" in text
        assert "secretKeyRef" in text
    if snippet.secret:
        assert snippet.secret in snippet.text
        assert snippet.secret not in text
        assert snippet.secret[5:] not in text


def test_there_are_at_least_nineteen_snippets_of_five_servers() -> None:
    assert len(SNIPPETS) >= 19
    assert len({name.partition(",")[0] for name in SNIPPETS}) == 5

"""Access of `mcpproxy run` to a target without a manifest."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mcpproxy import command_line
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.config.from_arguments import start_reading

PUBLIC_URL = "https://mcp.example.com/tools"
RULES = {
    "rules": [
        {"name": "developers", "who": {"groups": ["dev"]}, "may": [{"tools": ["get_*"]}]},
    ]
}


def test_the_command_line_takes_access_from_a_file(tmp_path: Path) -> None:
    def configuration(*words: str) -> Any:
        args, _ = command_line.parse_command_line(("run", *words))
        return start_reading(args, None)()

    file = tmp_path / "access.yaml"
    content = {"authentication": {"serviceAccounts": {"audience": "x"}}, "authorization": RULES}
    file.write_text(yaml.safe_dump(content))
    url = "http://localhost/mcp"
    spec = configuration(url, "--access", str(file), "--public-url", PUBLIC_URL).proxy.spec
    assert spec.public_url == PUBLIC_URL
    assert [rule.name for rule in spec.authorization.rules] == ["developers"]
    file.write_text(yaml.safe_dump({**content, "replicas": 2}))
    with pytest.raises(ManifestError, match="replicas: unknown field; the fields are publicUrl"):
        configuration(url, "--access", str(file))
    file.write_text(yaml.safe_dump({"authorization": RULES}))
    with pytest.raises(ManifestError, match=r"access\.yaml: .*without authentication"):
        configuration(url, "--access", str(file))
    file.write_text("[]")
    with pytest.raises(ManifestError, match="expected one mapping"):
        configuration(url, "--access", str(file))
    with pytest.raises(ManifestError, match="the manifest of -f has these fields"):
        configuration("-f", "x.yaml", "--public-url", PUBLIC_URL)

"""`mcpproxy plan --approve` changes the approval in a file, and nothing else."""

import json
from pathlib import Path

import pytest
import yaml

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.plan.local.approve_in_place import Approvals, approve, write_approvals

DIGESTS = {"tools": {"a_b": "1" * 64}, "resources": {"x://{y}\\u202e": "2" * 64}}
HASH = "3" * 64
APPROVALS: Approvals = {"tools": (DIGESTS, HASH)}
SECRET = """\
# A secret
apiVersion: v1
kind: Secret
metadata: {name: tools}
---
"""
PROXY = """\
apiVersion: mcpproxy.dev/v1alpha1
kind: MCPProxy   # the proxy
metadata:
    name: tools
spec:   # its spec
    # what it serves
    backends:
      - name: a
        url: http://a/mcp
# the end
"""
REST = PROXY.partition("spec:   # its spec\n")[2]
FORMS = {
    "none": "",
    "empty": "    catalog:\n",
    "empty flow": "    catalog: {}   # none yet\n",
    "policy": "    catalog:   # later\n        onDrift: Withhold\n",
    "policy in flow": "    catalog: {onDrift: Withhold}   # later\n",
    "approved": (
        "    catalog:\n        onDrift: Withhold   # hide\n        approved:\n            tools:\n"
        f"                old: {'4' * 64}\n\n    # after\n"
    ),
    "approved first": (
        f"    catalog:\n        approved:\n            tools: {{old: {'4' * 64}}}\n"
        "        # why\n        onDrift: Withhold\n"
    ),
    "approved in flow": f"    catalog: {{approved: {{tools: {{old: {'4' * 64}}}}}}}\n",
    "hash": f"    catalog:\n        approvedHash: {'5' * 64}   # checked\n",
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("form", FORMS)
def test_an_approval_keeps_all_other_lines(form: str, newline: str) -> None:
    head = PROXY.removesuffix(REST)
    text = (SECRET + head + FORMS[form] + REST).replace("\n", newline)
    result = approve(text, APPROVALS)
    assert result.startswith((SECRET + head).replace("\n", newline))
    assert result.endswith(REST.replace("\n", newline))
    assert ("\r" in result) == ("\r" in newline)
    secret, manifest = yaml.safe_load_all(result)
    assert secret["kind"] == "Secret"
    catalog = manifest["spec"]["catalog"]
    assert catalog["approved"] == DIGESTS
    assert catalog.get("approvedHash") == (HASH if form == "hash" else None)
    assert catalog.get("onDrift") == ("Withhold" if "Withhold" in FORMS[form] else None)
    comments = ("# none yet", "# later", "# hide", "# why", "# after", "# checked")
    assert all((comment in result) == (comment in text) for comment in comments)
    assert approve(result, APPROVALS) == result


def test_a_manifest_in_json_stays_json() -> None:
    content = {**yaml.safe_load(PROXY)}
    result = json.loads(approve(json.dumps(content, indent=2), APPROVALS))
    assert result["spec"]["catalog"] == {"approved": DIGESTS}


def test_a_text_that_cannot_be_changed_in_place_is_refused() -> None:
    shared = "    catalog: &c {onDrift: Withhold}\n    names: {<<: *c}\n"
    with pytest.raises(ManifestError, match="cannot be changed in place"):
        approve(PROXY.removesuffix(REST) + shared + REST, APPROVALS)


def test_a_file_that_has_changed_since_the_plan_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(PROXY)
    with pytest.raises(ManifestError, match="has changed since the plan began"):
        write_approvals(path, SECRET + PROXY, APPROVALS)
    assert path.read_text() == PROXY

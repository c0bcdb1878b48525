"""Every mutation that is taken shows in what is made of it, or says the same in other words."""

from typing import Final

import pytest

from mcpproxy.api import manifest
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.v1alpha1 import MCPProxy
from tests.acto import mutations
from tests.acto.campaign import rendering
from tests.acto.mutations import Mutation, Spec
from tests.acto.test_campaign import bases
from tests.support.builders import a_manifest
from tests.support.crd import spec_schema

SAME: Final = {"is reversed", "has its first twice"}
"""Lists whose order and repetitions mean nothing; those in which they do are told apart below."""
DEFAULTS: Final = {
    ".autoscaling.scaleDownAfter",
    ".imagePullPolicy",
    ".networkPolicy.egress[].ports[].protocol",
    ".podTemplate.schedulerName",
    ".service.port",
    ".service.type",
}
"""Fields that a sample gives the value which they have without it."""
JUDGED: Final = {".catalog.approvedHash", ".suspend"}
"""Fields that shape no child: what the operator does and says shows them."""
ORDERED: Final = {".backends[].stdio.args"}


def parsed(spec: Spec) -> MCPProxy | None:
    """The model of a spec; None if it can't be used."""
    try:
        return manifest.parse(a_manifest(**spec))
    except ManifestError:
        return None


def explained(mutation: Mutation) -> bool:
    """Return True if a mutation may have no visible effect."""
    if mutation.field in JUDGED:
        return True
    if mutation.field in DEFAULTS:
        return mutation.what in {"removed", "is null", "added"}
    # Entries have no name: many of them are the same one.
    peers = (".networkPolicy.egress", ".networkPolicy.clients")
    repeated = mutation.field in peers and mutation.what == "is at its bound"
    return repeated or (mutation.what in SAME and mutation.field not in ORDERED)


@pytest.mark.slow
def test_an_accepted_mutation_changes_the_children_or_is_equivalent() -> None:
    good = bases()
    made = {name: rendering(spec) for name, spec in good.items()}
    meant = {name: parsed(spec) for name, spec in good.items()}
    taken = [
        mutation
        for mutation in mutations.mutations(spec_schema(), good)
        if (model := parsed(mutation.spec)) is not None and model != meant[mutation.base]
    ]
    silent = [item for item in taken if rendering(item.spec) == made[item.base]]
    assert [str(entry) for entry in silent if not explained(entry)] == []
    assert len(taken) > 1500
    assert len(silent) < 100

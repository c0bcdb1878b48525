"""Every mutation that is taken shows in what is made of it, or says the same in other words."""

from typing import Final

import pytest

from mcpproxy.api import manifest
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.v1alpha1 import MCPProxy
from tests.acto import mutations
from tests.acto.campaign import rendering
from tests.acto.mutations import Mutation, Spec
from tests.acto.test_campaign import bases, schema
from tests.support.builders import a_manifest

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


def explained(one: Mutation) -> bool:
    """Whether a mutation may show in nothing."""
    if one.field in JUDGED:
        return True
    if one.field in DEFAULTS:
        return one.what in {"removed", "is null", "added"}
    # Entries have no name: many of them are the same one.
    peers = (".networkPolicy.egress", ".networkPolicy.clients")
    repeated = one.field in peers and one.what == "is at its bound"
    return repeated or (one.what in SAME and one.field not in ORDERED)


@pytest.mark.slow
def test_an_accepted_mutation_changes_the_children_or_is_equivalent() -> None:
    good = bases()
    made = {name: rendering(spec) for name, spec in good.items()}
    meant = {name: parsed(spec) for name, spec in good.items()}
    taken = [
        one
        for one in mutations.mutations(schema(), good)
        if (model := parsed(one.spec)) is not None and model != meant[one.base]
    ]
    silent = [one for one in taken if rendering(one.spec) == made[one.base]]
    assert [str(one) for one in silent if not explained(one)] == []
    assert len(taken) > 1500
    assert len(silent) < 100

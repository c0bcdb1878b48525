"""Comparing what we want with what is ours."""

import json

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster import managed_fields
from mcpproxy.cluster.errors import (
    Conflict,
    FieldNotDeclared,
    Forbidden,
    Invalid,
    InvalidFields,
    NamespaceTerminating,
    NotFound,
    Unavailable,
    error_of,
)
from mcpproxy.cluster.managed_fields import applied_fields, intended_fields, semantically_equal


def test_an_object_that_was_never_applied_has_no_owned_fields() -> None:
    assert applied_fields({"metadata": {"name": "x"}}, "we") == {}


def test_identity_is_not_compared() -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {}}
    assert intended_fields(manifest) == {"data": {}}


def test_an_item_of_a_set_is_taken_by_its_value() -> None:
    fields: Object = {"f:metadata": {"f:finalizers": {".": {}, 'v:"ours"': {}}}}
    entry = {"manager": "we", "operation": "Apply", "fieldsV1": fields}
    live = {"metadata": {"finalizers": ["theirs", "ours"], "managedFields": [entry]}}
    assert applied_fields(live, "we") == {"metadata": {"finalizers": ["ours"]}}


def test_quantities_are_compared_by_amount_only_below_limits_and_requests() -> None:
    assert semantically_equal({"limits": {"cpu": "0.5"}}, {"limits": {"cpu": "500m"}})
    assert not semantically_equal({"limits": {"cpu": "0.5"}}, {"limits": {"cpu": "501m"}})
    assert not semantically_equal({"data": {"cpu": "0.5"}}, {"data": {"cpu": "500m"}})


def test_previously_applied_values_are_detected_in_atomic_fields() -> None:
    """A port that a rule no longer has must go; nothing says that it was us who wanted it."""
    result = {"egress": [{"to": ["a"], "ports": [1]}]}
    entry = {"manager": "we", "operation": "Apply", "fieldsV1": {"f:egress": {}}}
    ours = applied_fields({"metadata": {"managedFields": [entry]}, **result}, "we")
    assert semantically_equal(result, ours)
    assert not semantically_equal({"egress": [{"to": ["a"]}]}, ours)


def test_the_order_of_objects_in_a_list_is_ignored_and_that_of_strings_is_not() -> None:
    assert semantically_equal([{"name": "a"}, {"name": "b"}], [{"name": "b"}, {"name": "a"}])
    assert not semantically_equal([{"name": "a"}, {"name": "a"}], [{"name": "a"}, {"name": "b"}])
    assert not semantically_equal(["-f", "x"], ["x", "-f"])


def test_one_and_true_are_not_the_same() -> None:
    assert not semantically_equal({"a": 1}, {"a": True})


def test_answers_become_errors_with_the_servers_own_words() -> None:
    body = b'{"kind":"Status","message":"deployments.apps is forbidden"}'
    assert isinstance(error_of(403, body), Forbidden)
    assert str(error_of(403, body)) == "deployments.apps is forbidden"
    kinds = {409: Conflict, 404: NotFound, 422: Invalid, 429: Unavailable, 503: Unavailable}
    for status, kind in kinds.items():
        assert isinstance(error_of(status, b"plain words"), kind)
    assert str(error_of(500, b"")) == "HTTP 500"


NO_PERMISSION = (
    'deployments.apps "tools" is forbidden: User "system:serviceaccount:mcpproxy-system:operator"'
    ' cannot patch resource "deployments" in API group "apps" in the namespace "team"'
)
QUOTA = 'secrets "a" is forbidden: exceeded quota: few, requested: secrets=1, used: 9, limited: 9'
UNDECLARED = (
    "failed to create typed patch object (team/tools; mcpproxy.dev/v1alpha1, Kind=MCPProxy):"
    " errors:\n  .status.backendsCounted: field not declared in schema\n"
    '  .status.backends[name="a"].session: field not declared in schema'
)
ENDING = {
    "message": 'secrets "a" is forbidden: unable to create new content in namespace team because'
    " it is being terminated",
    "details": {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]},
}


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (403, NO_PERMISSION, Forbidden),
        (403, QUOTA, Invalid),
        (403, 'admission webhook "a.example" denied the request: no', Invalid),
        (500, 'failed calling webhook "a.example": connection refused', Invalid),
        (500, "etcdserver: request timed out", Unavailable),
        (504, "request did not complete within the allotted timeout", Unavailable),
    ],
)
def test_a_refused_write_names_the_component_that_refused_it(
    status: int, message: str, kind: type[Exception]
) -> None:
    error = error_of(status, json.dumps({"message": message}).encode(), writing=True)
    assert type(error) is kind
    assert str(error) == message


def test_fields_that_an_older_crd_lacks_are_named() -> None:
    error = error_of(500, json.dumps({"message": UNDECLARED}).encode(), writing=True)
    assert isinstance(error, FieldNotDeclared)
    assert error.fields == {"status.backendsCounted", "status.backends.session"}


def test_a_namespace_that_is_being_deleted_is_a_separate_cause() -> None:
    assert isinstance(
        error_of(403, json.dumps(ENDING).encode(), writing=True), NamespaceTerminating
    )


def test_a_refused_read_is_a_missing_permission() -> None:
    assert isinstance(error_of(403, b"no"), Forbidden)


def test_long_selectors_are_not_kept() -> None:
    """Anybody who may apply a child as this field manager chooses them."""
    long = "x" * 10_000
    fields: Object = {"f:items": {f'k:{{"name":"{long}"}}': {}, 'k:{"name":"short"}': {}}}
    entry = {"manager": "we", "operation": "Apply", "fieldsV1": fields}
    items = [{"name": long}, {"name": "short"}, {"name": "other"}]
    managed_fields._read_once.cache_clear()
    live = {"metadata": {"managedFields": [entry]}, "items": items}
    assert applied_fields(live, "we") == {"items": items[:2]}
    assert managed_fields._read_once.cache_info().currsize == 1


CAUSES = [{"field": "spec.ports[0].nodePort", "reason": "FieldValueInvalid"}]


@pytest.mark.parametrize(
    ("status", "message", "causes", "lasts"),
    [
        (422, 'Service "tools" is invalid: metadata.annotations: Invalid value', CAUSES, True),
        (422, 'Deployment.apps "tools" is invalid: [spec.a: x, spec.b: y]', CAUSES, True),
        (422, 'Service "tools" is invalid: spec.ports: 30080 is already allocated', CAUSES, False),
        (422, 'admission webhook "a.example.com" denied the request: no', CAUSES, False),
        (422, "ValidatingAdmissionPolicy 'a' denied request: \"x\" is invalid: y", CAUSES, False),
        (422, 'Service "tools" is invalid: metadata.annotations: Invalid value', [], False),
        (403, 'Service "tools" is invalid: metadata.annotations: Invalid value', CAUSES, False),
    ],
)
def test_validation_differs_from_refusals_that_may_end_by_themselves(
    status: int, message: str, causes: list[dict[str, str]], lasts: bool
) -> None:
    body = json.dumps({"message": message, "details": {"causes": causes}}).encode()
    error = error_of(status, body, writing=True)
    assert isinstance(error, Invalid)
    assert isinstance(error, InvalidFields) is lasts

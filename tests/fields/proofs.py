"""Field of the contract → the test that shows that changing it changes what runs.

Fields that the pods heed have a test of a real runtime in front of real servers; that each of
these fails where the runtime does not heed the field is a test of its own (`make fields`). The
others have one of a running operator at a real API server.
"""

from typing import Final

_RUNTIME: Final = "tests/proxy/runtime"
_REACH: Final = f"{_RUNTIME}/test_reach.py"
_TLS: Final = f"{_RUNTIME}/test_tls_fields.py"
_PROGRAM: Final = f"{_RUNTIME}/test_programs.py::test_a_stdio_server_runs_as_the_spec_defines"
_SERVICE: Final = f"{_REACH}::test_a_service_is_called_by_its_name_namespace_port_and_path"
_HEADERS: Final = f"{_REACH}::test_headers_are_those_of_the_spec_of_secrets_and_of_config_maps"
_CIRCUIT: Final = f"{_RUNTIME}/test_circuit.py"
_WAITS: Final = f"{_RUNTIME}/test_waits.py"
_LISTED: Final = (
    f"{_RUNTIME}/test_selection.py::test_only_selected_components_are_listed_with_their_overrides"
)
_ASKED: Final = (
    f"{_RUNTIME}/test_forward.py"
    "::test_a_withdrawn_capability_is_neither_declared_nor_requested_from_the_client"
)
_APPROVED: Final = (
    f"{_RUNTIME}/test_withheld.py::test_only_approved_components_of_every_kind_can_be_used"
)
_TRACING: Final = f"{_RUNTIME}/test_tracing.py"
_SERVER: Final = "tests/apiserver/test_fields.py"
_CHANGE: Final = f"{_SERVER}::test_a_changed_field_changes_the_pods"

_AUTH: Final = f"{_RUNTIME}/test_authentication_fields.py"
_ISSUER: Final = f"{_AUTH}::test_tokens_are_those_of_the_named_issuer_audience_and_key_set"
_ISSUER_CA: Final = f"{_AUTH}::test_authorities_of_an_issuer_may_lie_in_a_secret_or_a_config_map"
_CLAIMS: Final = f"{_AUTH}::test_an_identity_is_made_of_the_named_claims"
_API_KEY: Final = (
    f"{_AUTH}::test_an_api_key_has_its_hash_in_the_named_secret_and_its_name_in_the_spec"
)
_PUBLISHED: Final = f"{_AUTH}::test_the_metadata_has_the_scopes_and_the_page_of_the_spec"
_REFUSED: Final = "test_weaker_authentication_is_accepted_only_if_a_field_states_it"

_OUT: Final = f"{_RUNTIME}/test_identity_fields.py"
_REQUEST: Final = (
    f"{_OUT}::test_a_token_request_has_the_client_its_secret_and_the_target_of_the_spec"
)
_ASSERTION: Final = f"{_OUT}::test_an_assertion_is_signed_with_the_key_of_the_spec_and_names_it"
_TOKEN_URL: Final = f"{_OUT}::test_the_token_url_needs_no_metadata"
_SERVER_CA: Final = (
    f"{_OUT}::test_authorities_of_an_authorization_server_may_lie_in_a_secret_or_a_config_map"
)


def _client_proofs(kind: str) -> dict[str, str]:
    """Return the proofs of the fields that all clients of authorization servers have."""
    proofs = {
        "issuer": f"{_REQUEST}[secret-{kind}]",
        "tokenUrl": f"{_TOKEN_URL}[{kind}]",
        "insecureHttp": f"{_TOKEN_URL}[{kind}]",
        "clientId": f"{_REQUEST}[secret-{kind}]",
        "keyId": f"{_ASSERTION}[secret-{kind}]",
        "scopes": f"{_REQUEST}[secret-{kind}]",
        "audience": f"{_REQUEST}[secret-{kind}]",
        "resource": f"{_REQUEST}[secret-{kind}]",
    }
    sources = {"clientSecretFrom": _REQUEST, "privateKeyFrom": _ASSERTION, "caFrom": _SERVER_CA}
    for field, test in sources.items():
        for reference, source in (("secretKeyRef", "secret"), ("configMapKeyRef", "configmap")):
            for part in ("name", "key"):
                proofs[f"{field}.{reference}.{part}"] = f"{test}[{source}-{kind}]"
    return {f".backends[].auth.{kind}.{field}": test for field, test in proofs.items()}


_JAG: Final = f"{_RUNTIME}/test_id_jag_fields.py"
_JAG_CLIENT: Final = f"{_JAG}::test_a_client_is_known_at_the_named_server_by_its_secret"
_JAG_TARGET: Final = f"{_JAG}::test_both_requests_have_the_target_of_the_spec"
_JAG_KEY: Final = f"{_JAG}::test_an_assertion_at_each_server_is_signed_with_its_key_and_names_it"
_JAG_URL: Final = f"{_JAG}::test_the_token_url_of_each_server_needs_no_metadata"
_JAG_CA: Final = f"{_JAG}::test_authorities_of_each_server_may_lie_in_a_secret_or_a_config_map"


def _id_jag_proofs() -> dict[str, str]:
    """Return the proofs of the fields of `idJag`, for its two servers."""
    proofs = {f"idJag.{field}": _JAG_TARGET for field in ("scopes", "audience", "resource")}
    for side in ("idJag", "idJag.identityProvider"):
        proofs |= {
            f"{side}.{field}": f"{_JAG_URL}[{side}]" for field in ("tokenUrl", "insecureHttp")
        }
        proofs |= {
            f"{side}.{field}": f"{_JAG_CLIENT}[secret-{side}]" for field in ("issuer", "clientId")
        }
        proofs[f"{side}.keyId"] = f"{_JAG_KEY}[secret-{side}]"
        sources = {"clientSecretFrom": _JAG_CLIENT, "privateKeyFrom": _JAG_KEY, "caFrom": _JAG_CA}
        for field, test in sources.items():
            for reference, source in (("secretKeyRef", "secret"), ("configMapKeyRef", "configmap")):
                for part in ("name", "key"):
                    proofs[f"{side}.{field}.{reference}.{part}"] = f"{test}[{source}-{side}]"
    return {f".backends[].auth.{field}": test for field, test in proofs.items()}


_AUTHZ: Final = f"{_RUNTIME}/test_authorization.py"
_LIMITS: Final = f"{_RUNTIME}/test_limit_fields.py"
_STORE_TLS: Final = f"{_LIMITS}::test_the_store_has_a_certificate_of_the_authority"
_STORE_PASSWORD: Final = f"{_LIMITS}::test_the_store_gets_its_password"
_AUDIT: Final = f"{_RUNTIME}/test_audit.py"
_RULES: Final = f"{_RUNTIME}/test_authorization_rules.py"
_EXTERNAL: Final = f"{_RUNTIME}/test_external_decisions.py"
_CALLERS: Final = f"{_RULES}::test_each_member_of_who_tells_callers_apart"
_GRANTS: Final = f"{_RULES}::test_each_member_of_may_tells_components_apart"
_HINTS: Final = f"{_RULES}::test_each_annotation_tells_tools_apart"

PROOFS: Final[dict[str, str]] = {
    ".publicUrl": f"{_AUTH}::test_the_public_url_is_a_path_a_host_and_the_audience",
    ".limits.rules[].name": f"{_LIMITS}::test_the_error_names_the_rule",
    ".limits.rules[].per": f"{_LIMITS}::test_rules_count_by_caller_by_backend_or_all_together",
    ".limits.rules[].tools": f"{_LIMITS}::test_a_rule_counts_calls_of_its_tools_only",
    ".limits.rules[].calls": f"{_LIMITS}::test_the_error_names_the_rule",
    ".limits.rules[].window": f"{_LIMITS}::test_the_error_names_the_rule",
    ".limits.rules[].burst": f"{_LIMITS}::test_a_burst_is_limited_to_less_than_a_window",
    ".limits.rules[].inFlight": f"{_LIMITS}::test_calls_in_flight_are_limited",
    ".limits.shared.mode": f"{_LIMITS}::test_without_sharing_each_instance_counts_for_itself",
    ".limits.shared.valkey.address": f"{_LIMITS}::test_a_server_counts_for_all_instances",
    ".limits.shared.valkey.tlsFrom.secretKeyRef.name": _STORE_TLS,
    ".limits.shared.valkey.tlsFrom.secretKeyRef.key": _STORE_TLS,
    ".limits.shared.valkey.tlsFrom.configMapKeyRef.name": _STORE_TLS,
    ".limits.shared.valkey.tlsFrom.configMapKeyRef.key": _STORE_TLS,
    ".limits.shared.valkey.passwordFrom.secretKeyRef.name": _STORE_PASSWORD,
    ".limits.shared.valkey.passwordFrom.secretKeyRef.key": _STORE_PASSWORD,
    ".limits.shared.valkey.passwordFrom.configMapKeyRef.name": _STORE_PASSWORD,
    ".limits.shared.valkey.passwordFrom.configMapKeyRef.key": _STORE_PASSWORD,
    ".limits.onStoreFailure": f"{_LIMITS}::test_the_failure_policy_decides_while_the_store_fails",
    ".backends[].circuitBreaker.failures": (
        f"{_CIRCUIT}::test_the_number_of_failures_is_that_of_the_spec"
    ),
    ".backends[].circuitBreaker.mode": (
        f"{_CIRCUIT}::test_a_disabled_circuit_breaker_refuses_nothing"
    ),
    ".backends[].results.maxBytes": f"{_LIMITS}::test_a_result_that_is_too_large_is_an_error",
    ".backends[].results.onLarger": f"{_LIMITS}::test_the_text_of_a_result_is_cut",
    ".audit.arguments": f"{_AUDIT}::test_a_denied_call_has_one_record",
    ".audit.lists": f"{_AUDIT}::test_lists_are_recorded_on_request",
    ".audit.onFull": (f"{_AUDIT}::test_calls_are_refused_while_their_records_cannot_be_written"),
    ".audit.otlp.endpoint": (
        f"{_AUDIT}::test_a_collector_gets_the_records_instead_of_standard_output"
    ),
    ".audit.redact": f"{_AUDIT}::test_redacted_arguments_are_not_recorded",
    ".authorization.default": (
        f"{_RULES}::test_with_the_default_allow_the_rules_restrict_the_components_they_mention"
    ),
    ".authorization.rules[].name": (
        f"{_RULES}::test_the_report_names_rules_that_cover_nothing_and_counts_the_others"
    ),
    ".authorization.rules[].who.issuers": _CALLERS,
    ".authorization.rules[].who.subjects": _CALLERS,
    ".authorization.rules[].who.groups": _CALLERS,
    ".authorization.rules[].who.clients": _CALLERS,
    ".authorization.rules[].who.serviceAccounts[].namespace": _CALLERS,
    ".authorization.rules[].who.serviceAccounts[].name": _CALLERS,
    ".authorization.rules[].who.apiKeys": _CALLERS,
    ".authorization.rules[].who.anonymous": _CALLERS,
    ".authorization.rules[].who.any": _CALLERS,
    ".authorization.rules[].scopes": (
        f"{_AUTHZ}::test_a_missing_scope_is_a_challenge_that_names_all_scopes"
    ),
    ".authorization.rules[].may[].backends": _GRANTS,
    ".authorization.rules[].may[].tools": _GRANTS,
    ".authorization.rules[].may[].prompts": _GRANTS,
    ".authorization.rules[].may[].resources": _GRANTS,
    ".authorization.rules[].may[].resourceTemplates": _GRANTS,
    ".authorization.rules[].may[].annotations.readOnly": _HINTS,
    ".authorization.rules[].may[].annotations.destructive": _HINTS,
    ".authorization.rules[].may[].annotations.idempotent": _HINTS,
    ".authorization.rules[].may[].annotations.openWorld": _HINTS,
    ".authorization.rules[].when": f"{_AUTHZ}::test_a_condition_decides_each_call_by_its_arguments",
    ".authorization.external.url": (
        f"{_EXTERNAL}::test_the_service_gets_the_call_and_the_caller_and_its_decision_counts"
    ),
    ".authorization.external.timeout": (
        f"{_EXTERNAL}::test_a_service_that_hangs_is_waited_for_until_the_timeout"
    ),
    ".authorization.external.onFailure": (
        f"{_EXTERNAL}::test_a_service_that_hangs_is_waited_for_until_the_timeout"
    ),
    ".authentication.mode": f"{_AUTH}::test_the_mode_decides_on_requests_without_credentials",
    ".authentication.jwt[].issuer": _ISSUER,
    ".authentication.jwt[].audiences": _ISSUER,
    ".authentication.jwt[].jwksUrl": _ISSUER,
    ".authentication.jwt[].caFrom.secretKeyRef.name": f"{_ISSUER_CA}[secret]",
    ".authentication.jwt[].caFrom.secretKeyRef.key": f"{_ISSUER_CA}[secret]",
    ".authentication.jwt[].caFrom.configMapKeyRef.name": f"{_ISSUER_CA}[configmap]",
    ".authentication.jwt[].caFrom.configMapKeyRef.key": f"{_ISSUER_CA}[configmap]",
    ".authentication.jwt[].insecureHttp": f"{_SERVER}::{_REFUSED}",
    ".authentication.jwt[].claims.subject": _CLAIMS,
    ".authentication.jwt[].claims.groups": _CLAIMS,
    ".authentication.jwt[].claims.client": _CLAIMS,
    ".authentication.jwt[].claims.scopes": _CLAIMS,
    ".authentication.serviceAccounts.audience": (
        f"{_AUTH}::test_tokens_of_service_accounts_have_the_audience_of_the_spec"
    ),
    ".authentication.apiKeys[].name": _API_KEY,
    ".authentication.apiKeys[].hashFrom.secretKeyRef.name": _API_KEY,
    ".authentication.apiKeys[].hashFrom.secretKeyRef.key": _API_KEY,
    ".authentication.resourceMetadata.scopesSupported": _PUBLISHED,
    ".authentication.resourceMetadata.documentation": _PUBLISHED,
    ".backends[].auth.passthrough": f"{_SERVER}::{_REFUSED}",
    ".backends[].auth.refreshBefore": (
        f"{_OUT}::test_a_token_is_renewed_the_stated_time_before_it_expires"
    ),
    ".backends[].auth.serviceAccount.audience": f"{_CHANGE}[audience of a mounted token]",
    ".backends[].auth.tokenExchange.actor.client": (
        f"{_OUT}::test_the_actor_is_the_one_of_the_spec"
    ),
    ".backends[].auth.tokenExchange.actor.serviceAccount.audience": (
        f"{_CHANGE}[audience of a mounted actor]"
    ),
    **_client_proofs("clientCredentials"),
    **_client_proofs("tokenExchange"),
    **_id_jag_proofs(),
    ".backends[].auth.idJag.identityProvider.subjectTokenType": (
        f"{_JAG}::test_the_type_of_the_tokens_of_callers_is_the_one_of_the_spec"
    ),
    ".backends[].name": f"{_REACH}::test_components_have_the_name_of_their_backend_or_its_prefix",
    ".backends[].url": f"{_REACH}::test_the_backend_is_the_server_at_its_url",
    ".backends[].service.name": _SERVICE,
    ".backends[].service.namespace": _SERVICE,
    ".backends[].service.port": _SERVICE,
    ".backends[].service.path": _SERVICE,
    ".backends[].stdio.command": _PROGRAM,
    ".backends[].stdio.args": _PROGRAM,
    ".backends[].stdio.env[].name": _PROGRAM,
    ".backends[].stdio.env[].value": _PROGRAM,
    ".backends[].stdio.env[].valueFrom.secretKeyRef.name": _PROGRAM,
    ".backends[].stdio.env[].valueFrom.secretKeyRef.key": _PROGRAM,
    ".backends[].stdio.env[].valueFrom.configMapKeyRef.name": _PROGRAM,
    ".backends[].stdio.env[].valueFrom.configMapKeyRef.key": _PROGRAM,
    ".backends[].stdio.cwd": _PROGRAM,
    ".backends[].transport": f"{_REACH}::test_the_transport_is_the_one_that_is_named",
    ".backends[].protocol": f"{_REACH}::test_a_backend_is_used_with_the_configured_protocol",
    ".backends[].headers[].name": _HEADERS,
    ".backends[].headers[].value": _HEADERS,
    ".backends[].headers[].valueFrom.secretKeyRef.name": _HEADERS,
    ".backends[].headers[].valueFrom.secretKeyRef.key": _HEADERS,
    ".backends[].headers[].valueFrom.configMapKeyRef.name": _HEADERS,
    ".backends[].headers[].valueFrom.configMapKeyRef.key": _HEADERS,
    ".backends[].names.bare": (
        f"{_RUNTIME}/test_extensions.py"
        "::test_an_app_calls_tools_by_the_names_that_its_backend_has_for_them"
    ),
    ".extensions.deny": (
        f"{_RUNTIME}/test_extensions.py::test_a_denied_extension_is_neither_advertised_nor_routed"
    ),
    ".backends[].forwardHeaders": (
        f"{_RUNTIME}/test_forward_headers.py::test_every_request_has_the_headers_of_the_requesting_client"
    ),
    ".backends[].tls.caFrom.secretKeyRef.name": f"{_TLS}::test_authorities_may_lie_in_a_secret",
    ".backends[].tls.caFrom.secretKeyRef.key": f"{_TLS}::test_authorities_may_lie_in_a_secret",
    ".backends[].tls.caFrom.configMapKeyRef.name": f"{_TLS}::test_only_a_known_authority_counts",
    ".backends[].tls.caFrom.configMapKeyRef.key": f"{_TLS}::test_only_a_known_authority_counts",
    ".backends[].tls.clientCertificateFrom.secretRef.name": (
        f"{_TLS}::test_a_backend_that_requests_a_certificate_gets_the_one_from_the_secret"
    ),
    ".backends[].tls.serverName": f"{_TLS}::test_the_certificate_has_the_name_of_the_spec",
    ".backends[].tls.insecureSkipVerify": (
        f"{_TLS}::test_insecure_skip_verify_disables_verification"
    ),
    ".backends[].timeouts.connect": (f"{_WAITS}::test_opening_a_connection_times_out"),
    ".backends[].timeouts.initialize": (f"{_WAITS}::test_opening_a_session_times_out"),
    ".backends[].timeouts.request": f"{_WAITS}::test_waiting_for_a_response_times_out",
    ".backends[].timeouts.idle": f"{_WAITS}::test_an_unused_session_ends_after_the_idle_time",
    ".backends[].session.mode": (
        f"{_RUNTIME}/test_isolation.py::test_s9_a_client_keeps_one_session_that_no_other_client_uses"
    ),
    ".backends[].session.stateless": (
        f"{_RUNTIME}/test_isolation.py::test_a_declared_stateless_backend_is_reused"
    ),
    ".backends[].cache.ttl": f"{_WAITS}::test_lists_are_cached_for_the_ttl_of_backend_or_proxy",
    ".backends[].prefix": f"{_REACH}::test_components_have_the_name_of_their_backend_or_its_prefix",
    ".backends[].tools.include": _LISTED,
    ".backends[].tools.exclude": _LISTED,
    ".backends[].tools.overrides[].name": _LISTED,
    ".backends[].tools.overrides[].title": _LISTED,
    ".backends[].tools.overrides[].description": _LISTED,
    ".backends[].tools.overrides[].enabled": _LISTED,
    ".backends[].tools.overrides[].rename": _LISTED,
    ".backends[].prompts.include": _LISTED,
    ".backends[].prompts.exclude": _LISTED,
    ".backends[].prompts.overrides[].name": _LISTED,
    ".backends[].prompts.overrides[].title": _LISTED,
    ".backends[].prompts.overrides[].description": _LISTED,
    ".backends[].prompts.overrides[].enabled": _LISTED,
    ".backends[].prompts.overrides[].rename": _LISTED,
    ".backends[].resources.include": _LISTED,
    ".backends[].resources.exclude": _LISTED,
    ".backends[].resources.overrides[].name": _LISTED,
    ".backends[].resources.overrides[].title": _LISTED,
    ".backends[].resources.overrides[].description": _LISTED,
    ".backends[].resources.overrides[].enabled": _LISTED,
    ".backends[].resourceTemplates.include": _LISTED,
    ".backends[].resourceTemplates.exclude": _LISTED,
    ".backends[].resourceTemplates.overrides[].name": _LISTED,
    ".backends[].resourceTemplates.overrides[].title": _LISTED,
    ".backends[].resourceTemplates.overrides[].description": _LISTED,
    ".backends[].resourceTemplates.overrides[].enabled": _LISTED,
    ".backends[].forward.roots": _ASKED,
    ".backends[].forward.sampling": _ASKED,
    ".backends[].forward.elicitation": _ASKED,
    ".backends[].forward.logging": (
        f"{_RUNTIME}/test_forward.py::test_withdrawn_logging_is_neither_requested_nor_forwarded"
    ),
    ".backends[].forward.progress": (
        f"{_RUNTIME}/test_forward.py::test_withdrawn_progress_is_neither_requested_nor_forwarded"
    ),
    ".backends[].optional": f"{_SERVER}::test_an_optional_backend_that_fails_leaves_a_proxy_ready",
    ".cache.ttl": f"{_WAITS}::test_lists_are_cached_for_the_ttl_of_backend_or_proxy",
    ".catalog.approved.tools": _APPROVED,
    ".catalog.approved.prompts": _APPROVED,
    ".catalog.approved.resources": _APPROVED,
    ".catalog.approved.resourceTemplates": _APPROVED,
    ".catalog.approvedHash": (
        f"{_SERVER}::test_an_approved_catalog_has_a_condition_and_withholding_one_reaches_the_pods"
    ),
    ".catalog.onDrift": _APPROVED,
    ".names.onClash": (
        f"{_RUNTIME}/test_clashes.py::test_a_conflicting_name_is_served_as_the_spec_defines"
    ),
    ".session.mode": f"{_RUNTIME}/test_isolation.py::test_the_mode_of_all_is_that_of_the_spec",
    ".health.interval": f"{_WAITS}::test_backends_are_checked_at_the_interval",
    ".health.timeout": f"{_WAITS}::test_a_check_times_out",
    ".health.unhealthyAfter": f"{_WAITS}::test_enough_equal_checks_in_a_row_change_the_state",
    ".health.healthyAfter": f"{_WAITS}::test_enough_equal_checks_in_a_row_change_the_state",
    ".allowedHosts": f"{_RUNTIME}/test_hosts.py::test_only_hosts_of_the_spec_are_served",
    ".allowedOrigins": (
        f"{_RUNTIME}/test_hosts.py::test_only_pages_of_origins_of_the_spec_are_served"
    ),
    ".principalFrom.header": (
        f"{_RUNTIME}/test_principals.py"
        "::test_a_client_whose_token_is_refreshed_keeps_its_session_and_state"
    ),
    ".monitoring.profiling": (
        f"{_RUNTIME}/test_profile.py::test_a_profile_shows_the_functions_that_serve_calls"
    ),
    ".monitoring.tracing.endpoint": (
        f"{_TRACING}::test_a_call_is_one_trace_through_client_proxy_and_backend"
    ),
    ".monitoring.tracing.samplingPercentage": (
        f"{_TRACING}::test_the_process_that_starts_a_trace_decides_whether_it_is_exported"
    ),
    ".replicas": f"{_CHANGE}[replicas]",
    ".image": f"{_CHANGE}[image]",
    ".imagePullPolicy": f"{_CHANGE}[imagePullPolicy]",
    ".imagePullSecrets[].name": f"{_CHANGE}[imagePullSecrets]",
    ".resources.limits": f"{_CHANGE}[resources.limits]",
    ".resources.requests": f"{_CHANGE}[resources.requests]",
    ".autoscaling.minReplicas": f"{_CHANGE}[autoscaling.minReplicas]",
    ".autoscaling.maxReplicas": f"{_CHANGE}[autoscaling.maxReplicas]",
    ".autoscaling.targetCPUUtilizationPercentage": (
        f"{_CHANGE}[autoscaling.targetCPUUtilizationPercentage]"
    ),
    ".autoscaling.targetMemoryUtilizationPercentage": (
        f"{_CHANGE}[autoscaling.targetMemoryUtilizationPercentage]"
    ),
    ".autoscaling.scaleDownAfter": f"{_CHANGE}[autoscaling.scaleDownAfter]",
    ".disruptionBudget.minAvailable": f"{_CHANGE}[disruptionBudget.minAvailable]",
    ".disruptionBudget.maxUnavailable": f"{_CHANGE}[disruptionBudget.maxUnavailable]",
    ".monitoring.podMonitor.labels": f"{_CHANGE}[monitoring.podMonitor.labels]",
    ".monitoring.podMonitor.interval": f"{_CHANGE}[monitoring.podMonitor.interval]",
    ".monitoring.podMonitor.scrapeTimeout": f"{_CHANGE}[monitoring.podMonitor.scrapeTimeout]",
    ".expose.parentRefs[].name": f"{_CHANGE}[expose.parentRefs.name]",
    ".expose.parentRefs[].namespace": f"{_CHANGE}[expose.parentRefs.namespace]",
    ".expose.parentRefs[].sectionName": f"{_CHANGE}[expose.parentRefs.sectionName]",
    ".expose.parentRefs[].port": f"{_CHANGE}[expose.parentRefs.port]",
    ".expose.ingress.className": f"{_CHANGE}[expose.ingress.className]",
    ".expose.ingress.tlsSecretName": f"{_CHANGE}[expose.ingress.tlsSecretName]",
    ".expose.ingress.annotations": f"{_CHANGE}[expose.ingress.annotations]",
    ".service.type": f"{_CHANGE}[service.type]",
    ".service.port": f"{_CHANGE}[service.port]",
    ".service.annotations": f"{_CHANGE}[service.annotations]",
    ".suspend": f"{_SERVER}::test_a_suspended_proxy_is_left_unchanged_until_it_continues",
}

AS_THEY_ARE: Final[dict[str, str]] = {
    ".podTemplate.": f"{_SERVER}::test_every_field_that_places_pods_is_theirs_as_it_is",
    ".networkPolicy.": f"{_SERVER}::test_every_field_of_the_doors_is_in_the_policy_as_it_is",
}
"""Prefixes of the fields of Kubernetes' own objects, and the test of all below them."""

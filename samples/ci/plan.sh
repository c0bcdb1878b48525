#!/bin/sh
# The pre-merge check of MCPProxy manifests: what would change for clients, and may it?
#
#   plan.sh FILE [BASE]
#
# FILE holds the MCPProxies as they would become, BASE as they are now; without BASE there is
# nothing to compare with. Both are planned with the same servers, so the difference is the
# manifests' own.
#
#   MCPPROXY       the command (mcpproxy)
#   PLAN_OPTIONS   more options of `mcpproxy plan`, such as "--offline catalogs"
#   PLAN_STRICT    1: a difference fails the check, too
#   PLAN_REPORT    the report is added to this file, too (GitHub: "$GITHUB_STEP_SUMMARY")
#
# Exit codes are those of `mcpproxy plan`: 1 it can't be known, 3 names clash or are too long;
# 2 (a difference, or a drift from spec.catalog) only with PLAN_STRICT=1, else 0.
set -u

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: plan.sh FILE [BASE]" >&2
    exit 1
fi
file=$1
base=${2:-}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

plan() {
    # Options are words.
    # shellcheck disable=SC2086
    "${MCPPROXY:-mcpproxy}" plan ${PLAN_OPTIONS:-} "$@"
}

set -- -f "$file"
if [ -n "$base" ]; then
    plan -f "$base" -o json >"$work/base.json" 2>"$work/base.err"
    # What is there now may clash; it is compared with all the same.
    if [ ! -s "$work/base.json" ]; then
        echo "plan.sh: $base can't be planned, so there is nothing to compare with:" >&2
        cat "$work/base.err" >&2
    else
        set -- "$@" --against "$work/base.json"
    fi
fi

plan "$@" >"$work/report"
code=$?
cat "$work/report"
if [ -n "${PLAN_REPORT:-}" ]; then
    {
        echo "### $file"
        echo '```'
        cat "$work/report"
        echo '```'
    } >>"$PLAN_REPORT"
fi
if [ "$code" -eq 2 ] && [ "${PLAN_STRICT:-0}" != 1 ]; then
    echo "plan.sh: clients would see a difference; review it"
    exit 0
fi
exit "$code"

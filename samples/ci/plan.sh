#!/bin/sh
# The pre-merge check of MCPProxy manifests: what would change for clients, and may it?
#
#   plan.sh FILE [BASE [NAME]]
#
# FILE holds the MCPProxies as they would become, BASE as they are now; without BASE there is
# nothing to compare with, and where FILE is /dev/null all of BASE is gone. Both are planned with the
# same servers, or each with its own saved lists. NAME is what the report calls FILE.
#
#   MCPPROXY             the command (mcpproxy)
#   PLAN_OPTIONS         more options of `mcpproxy plan`, such as "--timeout 60"
#   PLAN_CATALOGS        read what the servers list in this directory (--offline)
#   PLAN_BASE_CATALOGS   the same for BASE (PLAN_CATALOGS)
#   PLAN_STRICT          1: a difference fails the check, too
#   PLAN_REPORT          the report is added to this file, too (GitHub: "$GITHUB_STEP_SUMMARY")
#
# Exit codes are those of `mcpproxy plan`: 1 it can't be known, 3 names clash or are too long;
# 2 (a difference, or a drift from spec.catalog) only with PLAN_STRICT=1, else 0.
set -u

if [ $# -lt 1 ] || [ $# -gt 3 ]; then
    echo "usage: plan.sh FILE [BASE [NAME]]" >&2
    exit 1
fi
file=$1
base=${2:-}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# plan CATALOGS ARGUMENTS
plan() {
    lists=$1
    shift
    # Options are words.
    # shellcheck disable=SC2086
    "${MCPPROXY:-mcpproxy}" plan ${PLAN_OPTIONS:-} ${lists:+--offline "$lists"} "$@"
}

name=${3:-$file}

set -- -f "$file"
if [ -n "$base" ]; then
    plan "${PLAN_BASE_CATALOGS:-${PLAN_CATALOGS:-}}" -f "$base" -o json \
        >"$work/base.json" 2>"$work/base.err"
    code=$?
    # What is there now may clash or be without a server; it is compared with all the same.
    if [ -s "$work/base.json" ] && [ "$code" -eq 1 ]; then
        echo "plan.sh: not all that is served now is known, as a server failed" >&2
    fi
    if [ ! -s "$work/base.json" ]; then
        echo "plan.sh: $name as it is now can't be planned, so there is nothing to compare with:" >&2
        cat "$work/base.err" >&2
        if [ "$file" = /dev/null ]; then exit 0; fi
    else
        set -- "$@" --against "$work/base.json"
    fi
fi

plan "${PLAN_CATALOGS:-}" "$@" >"$work/report" 2>"$work/err"
code=$?
cat "$work/report"
cat "$work/err" >&2
if [ -n "${PLAN_REPORT:-}" ]; then
    {
        echo "### $name"
        echo '```'
        cat "$work/report" "$work/err"
        echo '```'
    } >>"$PLAN_REPORT"
fi
if [ "$code" -eq 2 ] && [ "${PLAN_STRICT:-0}" != 1 ]; then
    echo "plan.sh: clients would see a difference; review it"
    exit 0
fi
exit "$code"

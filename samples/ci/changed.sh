#!/usr/bin/env bash
# The pre-merge check of a pull request: plan.sh for every manifest that it changes.
#
#   changed.sh BASE
#
# BASE is the commit that the pull request wants to be merged into; what would be merged is checked
# out, and the working directory is the repository's root. A manifest is compared with what it was
# where the two branches part. One that has moved is compared with itself, and one that is deleted
# loses all it served. Each side is planned with the servers' lists that its own commit holds, so
# that a pull request which changes the lists alone shows what clients will see of that.
#
#   PROXIES    the directory of the manifests (proxies): its *.yaml, below it, too
#   CATALOGS   the directory of the servers' lists (catalogs); where the repository has none, the
#              servers are connected to
#
# and those of plan.sh, which lies beside this script. Of several exit codes the first of 1, 3, 2
# and 0 counts.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: changed.sh BASE" >&2
    exit 1
fi
proxies=${PROXIES:-proxies}
catalogs=${CATALOGS:-catalogs}
here=$(cd "$(dirname "$0")" && pwd)
base=$(git merge-base "$1" HEAD)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The manifests and the lists as they were.
mkdir -p "$work/was/$catalogs"
git ls-tree -r -z --name-only "$base" -- "$proxies" "$catalogs" >"$work/names"
if [ -s "$work/names" ]; then
    xargs -0 git --literal-pathspecs archive "$base" -- <"$work/names" | tar -x -C "$work/was"
fi
if [ -d "$catalogs" ]; then
    export PLAN_CATALOGS=$catalogs PLAN_BASE_CATALOGS=$work/was/$catalogs
fi

worst=0
checked=()

# check FILE [WAS]: FILE as it is, WAS as it was; either need not be there.
check() {
    local file=$1 was="$work/was/${2:-$1}" code=0
    # Files of other kinds, such as a kustomization, are none of ours.
    grep -qsw MCPProxy "$file" "$was" || return 0
    checked+=("$file")
    set -- "$file"
    if [ ! -e "$file" ]; then set -- /dev/null; fi
    if [ -e "$was" ]; then set -- "$1" "$was" "$file"; fi
    "$here/plan.sh" "$@" </dev/null || code=$?
    case "$worst$code" in
        ?0 | 1? | 32 | ?"$worst") ;;
        *) worst=$code ;;
    esac
}

is_checked() {
    local one
    for one in ${checked[@]+"${checked[@]}"}; do
        [ "$one" != "$1" ] || return 0
    done
    return 1
}

git diff -z --name-status -M "$base" HEAD -- "$proxies/*.yaml" >"$work/manifests"
while IFS= read -r -d '' status; do
    IFS= read -r -d '' file
    was=$file
    if [[ $status == R* ]]; then IFS= read -r -d '' file; fi
    check "$file" "$was"
done <"$work/manifests"

# Lists lie in CATALOGS/NAMESPACE/PROXY/BACKEND.json.
git diff -z --name-only --no-renames "$base" HEAD -- "$catalogs" >"$work/lists"
while IFS= read -r -d '' list; do
    proxy=$(basename "$(dirname "$list")")
    while IFS= read -r -d '' file; do
        is_checked "$file" || check "$file"
    done < <(git grep -lzwF -e "$proxy" -- "$proxies/*.yaml" || true)
done <"$work/lists"

if [ ${#checked[@]} -eq 0 ]; then echo "changed.sh: nothing of an MCPProxy has changed"; fi
exit "$worst"

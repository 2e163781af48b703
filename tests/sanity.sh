#!/usr/bin/env bash
# ansible-test sanity on a copy of the checkout in a canonical tree, without ignores.
#
# ansible-test makes isolated environments and bootstraps pip from a script it downloads; where that is not reachable it
# takes the script from its cache, so one that uses the standard library's pip is put there first.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree="$work/ansible_collections/confidential/containers"
mkdir -p "$tree"
git ls-files -co --exclude-standard -z -- . ':!lab' ':!tests' \
    | while IFS= read -r -d '' file; do [ -e "$file" ] && printf '%s\0' "$file"; done \
    | tar --null -T - -cf - | tar -xf - -C "$tree"
# ansible-test keeps its environments and that cache below HOME: the checkout's own, not the user's.
export PIP_CACHE_DIR="${PIP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/pip}"
export HOME="$PWD/.ansible/home"
cache="$HOME/.ansible/test/cache"
mkdir -p "$cache"
for version in 23_1_2 24_2 25_2; do
    script="$cache/get_pip_$version.py"
    [ -e "$script" ] || cat > "$script" <<'PY'
import ensurepip
import os
import subprocess
import sys

ensurepip.bootstrap()
os.environ.pop("PIP_CONFIG_FILE", None)
wanted = [a for a in sys.argv[1:] if not a.startswith("-")]
subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", *wanted])
PY
done
cd "$tree"
git init -q && git add -A >/dev/null
python_version=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# Every sanity test ansible-test has for this core; a run in which all targets are skipped is no run.
output="$work/output"
ansible-test sanity --python "$python_version" --color no "$@" 2>&1 | tee "$output"
if grep -q "All targets skipped" "$output"; then
    echo "sanity: no target was tested; the tree given to ansible-test is wrong"
    exit 1
fi

#!/usr/bin/env bash
# Draws the pictures in docs/screens/ from what the program really shows, at 80 and 120 columns,
# dark and light. Needs python3 with venv and the network for pyte.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
cargo build --quiet --release -p rustci
PATH="$(cd "$target/release" && pwd):$PATH"
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
if ! python3 -c "import pyte" 2>/dev/null; then
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet pyte
    PATH="$work/venv/bin:$PATH"
fi
export XDG_STATE_HOME="$work/state" XDG_CONFIG_HOME="$work/config"
cp -r docs/screens/project "$work/shop"
out=$PWD/docs/screens
script=$PWD/scripts/screens.py
cd "$work/shop"

# draw NAME TITLE [--at SECONDS] COMMAND...
draw() {
    local name=$1 title=$2 at=()
    shift 2
    if [ "$1" = --at ]; then
        at=(--at "$2")
        shift 2
    fi
    for columns in 80 120; do
        python3 "$script" --columns "$columns" --theme dark --theme light --title "$title" \
            "${at[@]}" "$out/$name-$columns-{theme}.svg" -- "$@"
    done
}

draw progress "a run in progress" --at 2.3 rustci run
draw failed "a run that failed" rustci run
draw diagnostics "mistakes in a pipeline file" rustci lint mistakes.yaml

rustci serve --http 127.0.0.1:0 --valkyrie "valkyrie+unix://$work/socket" --json \
    >"$work/ready" 2>/dev/null &
until grep -q http "$work/ready"; do sleep 0.1; done
url=$(python3 -c "import json; print(json.loads(open('$work/ready').readline())['http'])")
rustci runner --connect "valkyrie+unix://$work/socket" --name builder-1 --label gpu=a100 \
    --state-dir "$work/runner" >/dev/null 2>&1 &
sleep 1
rustci run --server "$url" --file waits.yaml >/dev/null 2>&1 &
sleep 2
draw explain "why jobs wait" rustci explain 1 --server "$url"

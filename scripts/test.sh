#!/usr/bin/env bash
# Everything that can be tested here. What a test needs is installed below; a test that misses
# something fails with the line that installs it.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
need() { command -v "$1" >/dev/null || packages+=("$2"); }
need cc gcc
need make make
need python3 python3
python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv python3-pip)
need git git
need bash bash
need ps procps
need curl curl
if [ "${#packages[@]}" -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "missing: install with: sudo apt-get install -y ${packages[*]}" >&2
        exit 1
    fi
    apt-get update -q && apt-get install -y -q --no-install-recommends "${packages[@]}"
fi

# The product itself: tests of the command line drive this binary.
cargo build --quiet -p rustci
cargo test --workspace --exclude rustci-bench --quiet
# Without its peers: other projects' software, which takes long to compile.
cargo test -p rustci-bench --no-default-features --quiet

# Random and wrong requests against a real server, for 40 seconds.
scripts/api-fuzz.sh

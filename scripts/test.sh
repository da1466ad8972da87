#!/usr/bin/env bash
# Everything that can be tested here. What a test needs is installed below; a test that misses
# something fails with the line that installs it.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
need() { command -v "$1" >/dev/null || packages+=("$2"); }
need cc gcc
need clang clang
need ip iproute2
need make make
need python3 python3
python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv python3-pip)
need git git
need bash bash
need ps procps
need curl curl
need tshark tshark
need redis-cli redis-tools
need redis-server redis-server
need node nodejs
need openssl openssl
need strace strace
need mount mount
[ -d /usr/share/nodejs/redis ] || packages+=(node-redis)
/usr/bin/python3 -c 'import redis' 2>/dev/null || packages+=(python3-redis)
if [ "${#packages[@]}" -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "missing: install with: sudo apt-get install -y ${packages[*]}" >&2
        exit 1
    fi
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
fi

scripts/install-valkey.sh

# The products themselves: tests of documents and command lines drive these binaries.
cargo build --quiet -p rustci -p valkyrie-cli -p yggdrasil-cli
cargo test --workspace --exclude rustci-bench --quiet
# Without its peers: other projects' software, which takes long to compile.
cargo test -p rustci-bench --no-default-features --quiet

# In this machine's kernel, so only for root.
cargo test -p yggdrasil-xdp --features xdp --quiet
cargo test -p yggdrasil-cli --features xdp --test xdp --quiet

# Random and wrong requests against a real server, for 40 seconds.
scripts/api-fuzz.sh

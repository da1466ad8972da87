#!/usr/bin/env bash
# Benchmarks by name, or all: scripts/bench.sh NAME... [--json | --markdown]. What the peers need is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
need() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || packages+=("$1"); }
need nats-server
need redis-server
need strace
if [ "${#packages[@]}" -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "missing: install with: sudo apt-get install -y ${packages[*]}" >&2
        exit 1
    fi
    apt-get update -q && apt-get install -y -q --no-install-recommends "${packages[@]}"
fi >&2

exec cargo run --release --quiet -p rustci-bench -- run "${@:-all}"

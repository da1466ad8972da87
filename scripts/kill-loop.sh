#!/usr/bin/env bash
# kill -9 of server and runners under load: scripts/kill-loop.sh [ROUNDS] [SEED]
set -euo pipefail
cd "$(dirname "$0")/.."
export KILL_ROUNDS="${1:-200}"
[ -n "${2:-}" ] && export KILL_SEED="$2"
exec cargo test -p rustci --test kill_loop -- --nocapture

#!/usr/bin/env bash
# Formatting, lints with warnings denied, documentation without warnings, dependency rules.
set -euo pipefail
cd "$(dirname "$0")/.."

deny_version=0.20

echo "== formatting"
cargo fmt --all --check

echo "== lock file"
cargo metadata --locked --format-version 1 >/dev/null

# The bench is built without the peers: other projects' software, which takes long to compile.
echo "== lints"
cargo clippy --workspace --exclude rustci-bench --all-targets --quiet -- -D warnings
cargo clippy -p rustci-bench --no-default-features --all-targets --quiet -- -D warnings
# With the program for the kernel, which clang compiles.
if ! command -v clang >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends clang
fi
cargo clippy -p yggdrasil-xdp -p yggdrasil-cli --features yggdrasil-cli/xdp --all-targets --quiet -- -D warnings

echo "== documentation"
export RUSTDOCFLAGS="-D warnings"
cargo doc --workspace --exclude rustci-bench --no-deps --quiet
cargo doc -p rustci-bench --no-default-features --no-deps --quiet

echo "== dependencies"
if ! command -v cargo-deny >/dev/null; then
    cargo install cargo-deny --version "^$deny_version" --locked --quiet
fi
cargo deny --log-level error check bans licenses sources
echo "checks passed"

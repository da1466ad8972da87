#!/usr/bin/env bash
# Formatting, lints with warnings denied, documentation without warnings, dependency rules.
set -euo pipefail
cd "$(dirname "$0")/.."

deny_version=0.20

echo "== formatting"
cargo fmt --all --check

echo "== lock file"
cargo metadata --locked --format-version 1 >/dev/null

echo "== lints"
cargo clippy --workspace --all-targets --quiet -- -D warnings

echo "== documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

echo "== dependencies"
if ! command -v cargo-deny >/dev/null; then
    cargo install cargo-deny --version "^$deny_version" --locked --quiet
fi
cargo deny --log-level error check bans licenses sources
echo "checks passed"

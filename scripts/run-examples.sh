#!/usr/bin/env bash
# Builds RustCI and lets it run the pipelines of examples/, the way a person would.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "building rustci (release) ..."
cargo build --release --quiet -p rustci
rustci="${CARGO_TARGET_DIR:-target}/release/rustci"

for project in tour c-program python-package rust-crate site; do
    printf '\n\033[1m== rustci run examples/%s\033[0m\n' "$project" | { [ -t 1 ] && cat || sed 's/\x1b\[[0-9]*m//g'; }
    "$rustci" run "examples/$project"
done

cat <<END

All example pipelines passed. Try next:
  $rustci runs list --project examples/tour   the runs of that project
  $rustci plan examples/tour                  the plan a run follows, and its digest
  $rustci lint examples                       every mistake of a file at once
  $rustci serve                               a server; it prints how to start a runner and submit
END

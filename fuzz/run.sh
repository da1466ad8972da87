#!/bin/sh
# Fuzzes one target for a time: fuzz/run.sh TARGET SECONDS
#
# Needs cargo and a C++ compiler, nothing else: libFuzzer is built from source, and rustc has the
# coverage pass. A failing input is left in fuzz/artifacts and how to replay it is printed; inputs
# that reach new code are added to fuzz/corpus/TARGET.
set -eu
cd "$(dirname "$0")/.."

if [ $# -ne 2 ]; then
    echo "usage: fuzz/run.sh TARGET SECONDS; targets: $(ls fuzz/corpus | tr '\n' ' ')" >&2
    exit 2
fi
target=$1
seconds=$2
corpus=fuzz/corpus/$target
artifacts=fuzz/artifacts/$target
triple=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-target}/fuzz
mkdir -p "$corpus" "$artifacts"

# Coverage of edges and compared values. The target triple keeps build scripts out of it.
RUSTFLAGS="-Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares \
-Cdebug-assertions -Coverflow-checks -Ccodegen-units=1 -Clink-dead-code" \
    cargo build -q --release -p rustci-fuzz --bin fuzz --features libfuzzer \
    --target "$triple" --target-dir "$build"
fuzz=$build/$triple/release/fuzz

export FUZZ_TARGET="$target"
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
# New inputs go to the first folder.
if ! "$fuzz" "$fresh" "$corpus" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
    -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$artifacts/"; then
    echo "$target failed; the input is in $artifacts" >&2
    echo "again: FUZZ_TARGET=$target $fuzz $artifacts/FILE" >&2
    exit 1
fi
# By edges alone: one input for each count of loop turns would make thousands of files.
"$fuzz" -set_cover_merge=1 -use_counters=0 "$corpus" "$fresh" -max_len=4096 2>/dev/null
echo "$target: clean for $seconds s, $(ls "$corpus" | wc -l) inputs kept"

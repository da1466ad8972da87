#!/usr/bin/env bash
# Random and wrong requests against a real server, held against its OpenAPI document:
#   scripts/api-fuzz.sh                    the short form of `make test`
#   scripts/api-fuzz.sh SECONDS            for so long
#   scripts/api-fuzz.sh --max-examples N   so many requests per operation and kind
# A failing request is printed with the curl command that sends it again, and the seed.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
"") budget=(--max-examples 12 --max-time 40) ;;
--max-examples) budget=(--max-examples "${2:?a number}") ;;
*) budget=(--max-examples 1000000 --max-time "$1") ;;
esac

target="${CARGO_TARGET_DIR:-$PWD/target}"
cargo build --quiet -p rustci
rustci="$target/debug/rustci"

# The fuzzer, in a place of its own beside what cargo builds.
venv="$target/api-fuzz"
if ! cmp -s scripts/api-fuzz/requirements.txt "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r scripts/api-fuzz/requirements.txt
    cp scripts/api-fuzz/requirements.txt "$venv/installed.txt"
fi

dir="$(mktemp -d)"
pids=()
finish() {
    local status=$?
    # Only what was started here.
    [ "${#pids[@]}" = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait || true
    if [ "$status" != 0 ]; then
        echo "--- the server's log, its last lines" >&2
        tail -n 20 "$dir/serve.log" >&2 || true
    fi
    rm -rf "$dir"
    exit "$status"
}
trap finish EXIT

export RUSTCI_LOG=warn
socket="valkyrie+unix://$dir/runners.sock"
"$rustci" serve --http 127.0.0.1:0 --valkyrie "$socket" --data-dir "$dir/data" --sync os \
    >"$dir/serve.out" 2>"$dir/serve.log" &
pids+=($!)
"$rustci" runner --connect "$socket" --name fuzzed --state-dir "$dir/runner" >"$dir/runner.log" 2>&1 &
pids+=($!)
server=""
for _ in $(seq 200); do
    server="$(sed -n 's/^ *http  *//p' "$dir/serve.out")"
    [ -z "$server" ] || break
    sleep 0.05
done
[ -n "$server" ] || { cat "$dir/serve.log" >&2; exit 1; }
token="$(cat "$dir/data/token")"

# Something to find: runs that are over, with logs, and a secret.
request() {
    curl --silent --show-error --fail-with-body --output /dev/null \
        -H "Authorization: Bearer $token" "$@"
}
for _ in 1 2; do
    request "$server/api/v1/runs" --json '{
        "project": "demo", "event": { "name": "manual" },
        "pipeline": { "file": ".rustci.yaml", "text": "version: 1\nname: ci\non: { manual: {} }\njobs:\n  a: { runs-on: [executor=dummy], env: { DUMMY_OUTPUT_BYTES: 6400 }, steps: [{ run: x }] }\n" }
    }'
done
request -X PUT "$server/api/v1/secrets/deploy" --json '{ "value": "hunter2" }'
request --max-time 20 "$server/api/v1/runs/2/events"

SCHEMATHESIS_HOOKS=hooks PYTHONPATH=scripts/api-fuzz "$venv/bin/schemathesis" --config-file scripts/api-fuzz/schemathesis.toml run \
    "$server/api/v1/openapi.json" -H "Authorization: Bearer $token" \
    --checks all --request-timeout 10 --workers 1 --continue-on-failure \
    --suppress-health-check all --warnings off --output-truncate false \
    "${budget[@]}" ${FUZZ_SEED:+--seed "$FUZZ_SEED"}

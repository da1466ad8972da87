#!/usr/bin/env python3
"""Writes the first inputs of each target's corpus, from the test vectors and the examples."""

import hashlib
import json
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
VECTORS = ROOT / "spec" / "vectors"
CORPUS = ROOT / "fuzz" / "corpus"
# The first byte of an input of `payloads` chooses the reader.
KINDS = ["error", "close", "ping", "stream_close", "stream_reset", "stream_ack", "compressed",
         "file_start", "file_chunk", "file_complete", "log_entry", "trace_context"]
# Longer inputs only slow a fuzzer down; the vectors' tests read them.
BYTES_MAX = 4096
EXPRESSIONS = [
    "success() && github.ref == 'refs/heads/main'",
    "always() || cancelled()",
    "contains(needs.*.result, 'failure')",
    "format('{0} of {1} {{}}', matrix.os, 1.5e3)",
    "toJSON(inputs)[0].name != null",
    "fromJSON('[1, 2, {\"a\": true}]')[2].a",
    "startsWith(env.CI_TAG, 'v') && !endsWith(env.CI_TAG, '-rc')",
    "join(matrix.list, ', ') == 'a, b' || (1 < 2 && 0x1F >= -3)",
    "hashFiles('**/Cargo.lock')",
    "steps['a b'].outputs.x == 'it''s'",
]


def vectors(name):
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def save(target, data):
    if len(data) > BYTES_MAX:
        return
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def raw(kind, body):
    if kind in KINDS:
        save("payloads", bytes([KINDS.index(kind)]) + body)


def main():
    handshake = b""
    for vector in vectors("hello"):
        for key in ("hello_frame", "ack_frame"):
            save("frame", bytes.fromhex(vector[key]))
        handshake = handshake or bytes.fromhex(vector["hello_frame"])
        save("session_acceptor", b"\0" + bytes.fromhex(vector["hello_frame"]))
    for vector in vectors("headers"):
        frame = bytes.fromhex(vector["frame"])
        save("frame", frame)
        save("session_acceptor", b"\0" + frame)
        save("session_acceptor", b"\1" + frame)
    for vector in vectors("extensions"):
        save("extensions", bytes.fromhex(vector["payload"]))
    for vector in vectors("payloads"):
        raw(vector["kind"], bytes.fromhex(vector["body"]))
    for vector in vectors("log_records"):
        save("log_records", bytes.fromhex(vector["bytes"]))
    for vector in vectors("invalid"):
        data = bytes.fromhex(vector["bytes"])
        if vector["input"] == "frame":
            save("frame", data)
            save("session_acceptor", b"\1" + data)
        elif vector["input"] == "extensions":
            save("extensions", data)
        else:
            raw(vector["input"], data)
    for path in sorted(ROOT.glob("examples/**/*.y*ml")) + sorted(ROOT.glob("examples/**/.rustci*")):
        if path.is_file():
            save("pipeline_yaml", path.read_bytes())
    for text in EXPRESSIONS:
        save("expression", text.encode())


if __name__ == "__main__":
    main()

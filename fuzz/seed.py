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


def short(kind, stream, body=b"", flags=0, correlation=0):
    """A short frame of the target `session_acceptor`; `stream` is an index into its table."""
    return bytes([kind, flags, stream, correlation, len(body)]) + body


def manifests():
    """Trees of an artifact and of a cache, and forms that are refused."""
    chunk = bytes(32)
    yield b"RCTM\x01\x00\x00"
    yield b"RCTM\x01\x00\x02\x02\x05empty\x01\x06run.sh\x07\x01" + chunk + b"\x07"
    large = b"\x00\x08sub/data\xe0\xc6\x5b\x02" + chunk + b"\xc0\x84\x3d" + chunk + b"\xa0\xc2\x1e"
    yield b"RCTM\x01\x00\x01" + large
    time = bytes(8)
    yield b"RCTM\x01\x01\x02\x00\x0bworkspace/a" + time + b"\x00\x00\x03\x0bworkspace/b\x01a"
    yield b"RCTM\x01\x01\x01\x03\x0dhome/.cargo/b\x0a../../../x"
    yield b"RCTM\x01\x00\x01\x02\x04../a"
    yield b"RCTM\x01\x00\x81\x00\x02\x01d"
    yield b"RCTM\x02\x00\x00"


def dialogues():
    """Conversations of an initiator with an acceptor, after HELLO."""
    method = bytes([0, 8, 9, 0, 5]) + b"a.B/C"
    opened = b"\x0a\x05a.B/C"
    token = b"\x0a\x06\x08\x07\x10\x02\x18\x09"
    record = bytes([0, 0, 0, 2]) + bytes(8) + bytes([0, 1, 0]) + b"hi"
    end, more, ack = 4, 32, 2
    yield short(0x60, 1, method + b"ping", 0x80, 1) + short(0x62, 1, b"", 0, 1)
    yield short(0x60, 1, method + b"half", 0x80 | more, 2) + short(0x60, 1, b"rest", 0, 2)
    yield short(0x63, 2, method + b"note", 0x80)
    yield short(0x30, 8, opened) + short(0x31, 8, b"data") + short(0x31, 8, b"last", end)
    yield short(0x30, 8, opened) + short(0x34, 8, bytes(10))
    yield short(0x30, 8, opened) + short(0x32, 8, bytes(10)) + short(0x33, 8, bytes(16))
    yield short(0x30, 10, opened) + short(0x41, 10, bytes(8) + record, end)
    yield short(0x30, 9, opened) + short(0x35, 9, bytes(56)) + short(0x36, 9, bytes(8) + b"x") \
        + short(0x37, 9, bytes(32), end | 1)
    yield short(0x20, 6, token) + short(0x27, 6, token) + short(0x25, 6, b"", ack | end)
    yield short(0x30, 6, opened) + short(0x24, 6, token) + short(0x25, 6, token, end | 1)
    yield short(0x02, 0, bytes(8)) + short(0x05, 0, bytes(6))
    yield short(0x04, 1, bytes(8) + b"text", 0, 1) \
        + short(0x04, 0, bytes([1, 244, 2, 0]) + bytes(4))


def conversations():
    """Steps of two sides that talk: what (bit 7 says which side), to what, how much."""
    deliver, both = bytes([17, 0, 0]), bytes([17, 0, 0, 145, 0, 0])
    for number in range(4):
        opened = bytes([0, 0, number]) + both
        for tail in (
            bytes([1, 0, 9]) + deliver + bytes([141, 0, 0]) + both,
            bytes([1, 0x40, 9]) + both + bytes([130, 0, 0]) + both,
            bytes([10, 0, 9]) + deliver + bytes([10, 0, 200]) + both,
            bytes([11, 0, 40]) + both + bytes([12, 0, 40]) + both,
            bytes([3, 0, 5]) + both + bytes([14, 0, 255]),
        ):
            yield opened + tail
            # The same with one frame changed in each way.
            for change in range(64, 72):
                yield opened + tail[:3] + bytes([change, 0, 0x25]) + tail[3:]
    yield bytes([4, 1, 50]) + deliver + bytes([134, 0, 60]) + both
    yield bytes([4, 1, 255]) + bytes([7, 0, 0]) + both + bytes([134, 0, 9]) + both
    yield bytes([5, 2, 255]) + both + bytes([16, 0, 0]) + both
    yield bytes([8, 0, 0]) + deliver + bytes([137, 0, 2]) + both + bytes([137, 0x40, 4]) + both
    for what in range(16):
        yield bytes([18, what, 9]) + both + bytes([19, what, 255]) + both
        yield bytes([19, what, 4, 147, what, 9]) + both + both + bytes([1, 0, 9]) + both
    yield bytes([15, 0, 5]) + both + bytes([128, 0, 1]) + both + bytes([14, 0, 255])


def shm_hello(version=1, ring=65536):
    return b"VSHM" + bytes([version, 0, 0, 0]) + ring.to_bytes(4, "big") + bytes(4)


def handovers():
    # Turns, then for each: descriptors, their kinds, bytes and those.
    yield bytes([0, 1, 2, 16]) + shm_hello()
    yield bytes([0, 1, 2, 16]) + shm_hello(version=2)
    yield bytes([0, 1, 2, 16]) + shm_hello(ring=65535)
    yield bytes([0, 0, 16]) + shm_hello()
    yield bytes([0, 1, 8, 16]) + shm_hello()
    yield bytes([0, 2, 2, 2, 16]) + shm_hello()
    yield bytes([0, 1, 4, 3, 16]) + shm_hello()
    yield bytes([1, 1, 2, 5]) + shm_hello()[:5] + bytes([0, 11]) + shm_hello()[5:]


def rings():
    # The side, then turns: a word, a byte, a read, a write, sleeping.
    for side in (0, 1):
        for word in range(8):
            for near in (0, 1, 255):
                set_word = bytes([1, word, near, 8])
                yield bytes([side]) + set_word + bytes([3, 17, 128, 4, 17, 128, 5, 6])
        yield bytes([side, 4, 17, 255, 4, 17, 255, 6, 0, 2, *[255] * 8, 3, 17, 255])
        yield bytes([side, 2, *[9] * 9, 5, 7, 4, 1, 1, 3, 1, 1])


def main():
    for ring in rings():
        save("shm_ring", ring)
    for handover in handovers():
        save("shm_handover", handover)
    for conversation in conversations():
        save("session_ready", conversation)
    for dialogue in dialogues():
        for mode in (4, 5, 6, 14):
            save("session_initiator", bytes([mode]) + dialogue)
    for dialogue in dialogues():
        save("session_acceptor", b"\3" + dialogue)
        save("session_acceptor", b"\x0b" + dialogue)
    for vector in vectors("hello"):
        for key in ("hello_frame", "ack_frame"):
            save("frame", bytes.fromhex(vector[key]))
        save("session_acceptor", b"\0" + bytes.fromhex(vector["hello_frame"]))
        save("session_initiator", b"\0" + bytes.fromhex(vector["ack_frame"]))
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
    for folder in ("examples", "crates/rustci-pipeline/tests"):
        for path in (ROOT / folder).glob("**/*.y*ml"):
            save("pipeline_yaml", path.read_bytes())
    for text in EXPRESSIONS:
        save("expression", text.encode())
    for manifest in manifests():
        save("manifest", manifest)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes the test vectors beside this file, from the words of ../protocol.md alone.

It shares no code with any implementation: every layout is spelled out here a second time.
`generate.py` writes the files, `generate.py --check` fails when one of them differs.
Bytes are lower-case hexadecimal. Values of 64 bits are decimal strings, because not every JSON
reader keeps them exact.
"""

import hashlib
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).parent

TYPES = {
    "hello": 0x00, "hello_ack": 0x01, "ping": 0x02, "pong": 0x03, "error": 0x04, "close": 0x05,
    "upgrade": 0x06, "negotiate": 0x07, "auth_challenge": 0x10, "auth_response": 0x11,
    "auth_success": 0x12, "auth_failure": 0x13, "key_exchange": 0x14, "cert_request": 0x15,
    "job_request": 0x20, "job_accept": 0x21, "job_reject": 0x22, "job_start": 0x23,
    "job_progress": 0x24, "job_complete": 0x25, "job_failed": 0x26, "job_cancel": 0x27,
    "job_migrate": 0x28, "job_pause": 0x29, "job_resume": 0x2A, "stream_open": 0x30,
    "stream_data": 0x31, "stream_close": 0x32, "stream_ack": 0x33, "stream_reset": 0x34,
    "file_transfer_start": 0x35, "file_transfer_chunk": 0x36, "file_transfer_complete": 0x37,
    "metrics_report": 0x40, "log_entry": 0x41, "trace_span": 0x42, "health_check": 0x43,
    "status_update": 0x44, "alert_notification": 0x45, "call": 0x60, "reply": 0x61,
    "cancel": 0x62, "message": 0x63,
}
FLAGS = ["ack_requested", "ack", "end_of_stream", "compressed", "end_to_end_sealed",
         "more_fragments", "urgent", "extensions"]


def u8(n): return n.to_bytes(1, "big")
def u16(n): return n.to_bytes(2, "big")
def u32(n): return n.to_bytes(4, "big")
def u64(n): return n.to_bytes(8, "big")


def flags(*names): return sum(1 << FLAGS.index(name) for name in names)


def header(kind, stream, length, flag=0, priority=128, trace=0, correlation=0, timestamp=0,
           magic=b"RC", version=2, reserved=0):
    """Chapter 3."""
    return (magic + u8(version) + u8(kind) + u8(flag) + u8(priority) + u8(trace) + u8(reserved)
            + u32(stream) + u32(length) + u32(correlation) + u32(timestamp))


def frame(kind, stream, payload=b"", **fields):
    return header(kind, stream, len(payload), **fields) + payload


def entry(number, value, critical=False):
    """Chapter 5."""
    return u8(number | (0x80 if critical else 0)) + u16(len(value)) + value


def metadata(*pairs):
    """Extension 10."""
    return b"".join(u8(len(name)) + name + u16(len(value)) + value for name, value in pairs)


def block(*entries):
    joined = b"".join(entries)
    return u16(len(joined)) + joined


def record(text, unix_ns=1_700_000_000_000_000_000, step=0, channel=0):
    """Chapter 12."""
    return u32(len(text)) + u64(unix_ns) + u16(step) + u8(channel) + text


def varint(n):
    out = b""
    while n > 0x7F:
        out += u8(n & 0x7F | 0x80)
        n >>= 7
    return out + u8(n)


def pb(*fields):
    """A Protocol Buffers message: (number, kind, value), in order of number."""
    out = b""
    for number, kind, value in fields:
        if kind == "uint" and value:
            out += varint(number << 3) + varint(value)
        elif kind == "fixed64" and value:
            out += varint(number << 3 | 1) + value.to_bytes(8, "little")
        elif kind == "double" and value:
            out += varint(number << 3 | 1) + struct.pack("<d", value)
        elif kind == "doubles" and value:
            joined = struct.pack(f"<{len(value)}d", *value)
            out += varint(number << 3 | 2) + varint(len(joined)) + joined
        elif kind == "bytes" and value:
            out += varint(number << 3 | 2) + varint(len(value)) + value
        elif kind == "message":
            out += varint(number << 3 | 2) + varint(len(value)) + value
        elif kind == "packed" and value:
            joined = b"".join(varint(item) for item in value)
            out += varint(number << 3 | 2) + varint(len(joined)) + joined
    return out


def attempt(job, number, fence):
    return pb((1, "uint", job), (2, "uint", number), (3, "uint", fence))


def limits(frame_max, message_max, connection, classes, streams, calls):
    return pb((1, "uint", frame_max), (2, "uint", message_max), (3, "uint", connection),
              (4, "packed", classes), (5, "uint", streams), (6, "uint", calls))


# headers.json

def header_vector(name, kind, stream, body=b"", **fields):
    read = {"type": kind, "flags": fields.get("flag", 0), "priority": fields.get("priority", 128),
            "trace": fields.get("trace", 0), "stream": stream, "length": len(body),
            "correlation": fields.get("correlation", 0), "timestamp": fields.get("timestamp", 0)}
    names = [flag for bit, flag in enumerate(FLAGS) if read["flags"] >> bit & 1]
    return {"name": name, "frame": frame(kind, stream, body, **fields).hex(), **read,
            "flag_names": names, "body": body.hex(), "canonical": not fields.get("reserved", 0)}


def headers():
    every = [header_vector(f"{name} without body", kind, 0) | {"type_name": name}
             for name, kind in TYPES.items()]
    flag = [header_vector(f"flag {name}", 0x31, 1001, b"x", flag=flags(name))
            for name in FLAGS if name != "extensions"]
    every_field = dict(flag=flags("ack_requested", "end_of_stream", "urgent"), priority=255,
                       trace=0x90, correlation=0x12345678, timestamp=0xFEDCBA98)
    return every + flag + [
        header_vector("ping with its eight bytes", 0x02, 0, bytes(range(1, 9))),
        header_vector("every field at once", 0x25, 999, b"result", **every_field),
        header_vector("highest stream and values", 0xFF, 0xFFFFFFFF, b"", flag=0x7F, priority=0,
                      trace=0xFF, correlation=0xFFFFFFFF, timestamp=0xFFFFFFFF),
        header_vector("a type without meaning", 0x7F, 3, b"??"),
        header_vector("a type of the application", 0x80, 3, b"app"),
        header_vector("the reserved byte is ignored", 0x31, 1001, b"x", reserved=0xAB),
        header_vector("body of 64 bytes", 0x60, 1, bytes(range(64)), correlation=0x1000),
        header_vector("body of 16,384 bytes", 0x31, 1001, b"\xA5" * 16_384),
    ]


# extensions.json

TRACEPARENT = b"\0" + bytes(range(1, 17)) + bytes(range(0x21, 0x29)) + b"\x03"


def extension_vector(name, entries, body=b"body", **values):
    listed = [{"number": number, "critical": critical, "value": value.hex()}
              for number, value, critical in entries]
    payload = block(*(entry(*e) for e in entries)) + body
    unknown = [number for number, _, critical in entries if critical and not 1 <= number <= 10]
    read = {"unknown_critical": unknown[0] if unknown else None, "method": None,
            "deadline_ms": None, "idempotency_key": None, "trace_context": False,
            "content_type": None, "metadata": []}
    return {"name": name, "payload": payload.hex(), "entries": listed, "body": body.hex()} \
        | read | values


def metadata_vector(name, *pairs):
    listed = [{"name": key.decode(), "value": value.hex()} for key, value in pairs]
    return extension_vector(name, [(10, metadata(*pairs), False)], metadata=listed)


def extensions():
    method = (9, b"demo.Echo/Say", False)
    return [
        extension_vector("empty block", []),
        extension_vector("method", [method], method="demo.Echo/Say"),
        extension_vector("method, no body", [method], b"", method="demo.Echo/Say"),
        extension_vector("deadline and key", [(4, u32(1500), True), (7, bytes(range(16)), False)],
                         deadline_ms=1500, idempotency_key=bytes(range(16)).hex()),
        extension_vector("trace context", [(1, TRACEPARENT, False)], trace_context=True),
        extension_vector("trace context with a zero id is dropped",
                         [(1, b"\0" + b"\0" * 16 + b"\1" * 8 + b"\1", False)]),
        extension_vector("trace context of another version is dropped",
                         [(1, b"\1" + TRACEPARENT[1:], False)]),
        extension_vector("trace context of 25 bytes is dropped", [(1, TRACEPARENT[:-1], False)]),
        extension_vector("unknown, not critical", [(77, b"?", False), method],
                         method="demo.Echo/Say"),
        extension_vector("unknown and critical", [method, (78, b"", True), (77, b"?", True)],
                         method="demo.Echo/Say"),
        extension_vector("known and critical", [(9, b"a.B/C", True)], method="a.B/C"),
        extension_vector("an empty value", [(3, b"", False)]),
        extension_vector("number 0 and number 127", [(0, b"", False), (127, b"\xFF", False)]),
        extension_vector("64 entries", [(n, b"", False) for n in range(10, 74)]),
        extension_vector("block of 8,192 bytes", [(3, b"b" * 8189, False)]),
        extension_vector("method of 255 bytes", [(9, b"m" * 255, False)], method="m" * 255),
        extension_vector("content type", [method, (8, b"application/json", False)],
                         method="demo.Echo/Say", content_type="application/json"),
        metadata_vector("metadata of no entry"),
        metadata_vector("metadata", (b"retries", b"3"), (b"tenant", b"blue")),
        metadata_vector("every character of a name", (b"-.0123456789_abcdefghijklmnopqrstuvwxyz", b"")),
        metadata_vector("a value of any bytes", (b"a", bytes(range(256)))),
        metadata_vector("names where one begins the other", (b"a", b""), (b"a-b", b""), (b"ab", b"")),
        metadata_vector("64 entries of metadata", *((b"n%02d" % n, b"v") for n in range(64))),
        metadata_vector("metadata of 7,168 bytes", (b"n" * 255, b"v" * (7168 - 258))),
    ]


# payloads.json

def payload_vector(name, kind, body, /, **fields):
    return {"name": name, "kind": kind, "body": body.hex(), "fields": fields}


def control_payloads():
    yield payload_vector("an error", "error", u16(401) + b"\0\0" + u32(0) + b"old fence",
                         code=401, flags=0, retry_after_ms=0, text="old fence")
    yield payload_vector("a retryable error", "error", u16(501) + b"\1\0" + u32(250),
                         code=501, flags=1, retry_after_ms=250, text="")
    text = "d\u00e9j\u00e0 vu " + "x" * 1014
    yield payload_vector("text of 1,024 bytes", "error",
                         u16(100) + b"\2\0" + u32(0) + text.encode(),
                         code=100, flags=2, retry_after_ms=0, text=text)
    yield payload_vector("an orderly close", "close", u16(0) + u32(30_000), code=0, drain_ms=30_000,
                         served=None)
    served = [0, 17, 2**64 - 1, 3]
    yield payload_vector("a close with what is served", "close",
                         u16(0) + u32(5_000) + b"".join(map(u64, served)), code=0, drain_ms=5_000,
                         served=[str(count) for count in served])
    yield payload_vector("a close at once", "close", u16(703) + u32(0), code=703, drain_ms=0,
                         served=None)
    yield payload_vector("ping", "ping", bytes(range(8)), token=bytes(range(8)).hex())
    yield payload_vector("trace context", "trace_context", TRACEPARENT,
                         trace_id=TRACEPARENT[1:17].hex(), parent_id=TRACEPARENT[17:25].hex(),
                         flags=3)
    yield payload_vector("lz4", "compressed", b"\1" + u32(70_000) + b"data",
                         algorithm=1, raw_bytes=70_000, data=b"data".hex())
    yield payload_vector("zstd of nothing", "compressed", b"\2" + u32(0), algorithm=2, raw_bytes=0,
                         data="")


def stream_payloads():
    for name, offset, code in [("ended well", 1234, 0), ("failed", 2**64 - 1, 502)]:
        body = u64(offset) + u16(code)
        yield payload_vector(name, "stream_close", body, final_offset=str(offset), status=code)
        yield payload_vector(name, "stream_reset", body, final_offset=str(offset), code=code)
    for consumed, limit in [(0, 65_536), (70_000, 70_000), (2**63, 2**64 - 1)]:
        yield payload_vector(f"credit to {limit}", "stream_ack", u64(consumed) + u64(limit),
                             consumed=str(consumed), limit=str(limit))
    yield payload_vector("a file", "file_start",
                         b"\x11" * 16 + u64(5_000_000_000) + b"\x22" * 32
                         + "gr\u00f6\u00dfe.tar".encode(),
                         id="11" * 16, size="5000000000", digest="22" * 32,
                         name="gr\u00f6\u00dfe.tar")
    yield payload_vector("a file without a name", "file_start", b"\0" * 56,
                         id="00" * 16, size="0", digest="00" * 32, name="")
    yield payload_vector("a chunk", "file_chunk", u64(65_536) + b"bytes", offset="65536",
                         bytes=b"bytes".hex())
    yield payload_vector("an empty chunk at the end", "file_chunk", u64(2**64 - 1),
                         offset=str(2**64 - 1), bytes="")
    yield payload_vector("a whole file", "file_complete", b"\x33" * 32, digest="33" * 32)
    records = record(b"one") + record(b"two", channel=1)
    yield payload_vector("two records", "log_entry", u64(4096) + records, offset="4096",
                         records=records.hex())
    yield payload_vector("no record", "log_entry", u64(0), offset="0", records="")


def message_payloads():
    token = attempt(7, 2, 901)
    fields = {"job": "7", "attempt": 2, "fence": "901"}
    yield payload_vector("job_request", "job_request",
                         pb((1, "message", token), (2, "bytes", b"text/plain"),
                            (3, "bytes", b"spec"),
                            (4, "message", pb((1, "uint", 2000), (2, "uint", 1 << 30))),
                            (5, "uint", 60_000), (6, "uint", 15_000)),
                         **fields, content_type="text/plain", spec=b"spec".hex(), cpu_millis=2000,
                         memory_bytes=str(1 << 30), timeout_ms="60000", lease_ms=15_000)
    yield payload_vector("job_accept", "job_accept", pb((1, "message", token)), **fields)
    yield payload_vector("job_reject", "job_reject",
                         pb((1, "message", token), (2, "uint", 400), (3, "bytes", b"no space")),
                         **fields, code=400, reason="no space")
    yield payload_vector("job_complete", "job_complete",
                         pb((1, "message", token), (3, "bytes", b"ok"), (4, "uint", 1 << 40)),
                         **fields, result=b"ok".hex(), log_bytes=str(1 << 40))
    yield payload_vector("job_failed", "job_failed",
                         pb((1, "message", token), (2, "bytes", b"source"),
                            (3, "bytes", b"no commit")),
                         **fields, cause="source", message="no commit")
    yield payload_vector("job_cancel", "job_cancel",
                         pb((1, "message", token), (2, "bytes", b"canceled"), (3, "uint", 10_000)),
                         **fields, reason="canceled", grace_ms=10_000)
    metadata = [("attempt", u64(2)), ("fence", u64(901)), ("job", u64(7))]
    pairs = [(2, "message", pb((1, "bytes", key.encode()), (2, "bytes", value)))
             for key, value in metadata]
    yield payload_vector("stream_open", "stream_open",
                         pb((1, "bytes", b"rustci.v1.Log/Append"), *pairs, (3, "uint", 65_536)),
                         method="rustci.v1.Log/Append", window=65_536,
                         metadata={key: value.hex() for key, value in metadata})
    proposal = pb((1, "uint", 3), (3, "fixed64", 4), (4, "uint", 5_000),
                  (5, "message", limits(65_536, 0, 0, [], 2_000, 0)))
    yield payload_vector("other terms", "negotiate", proposal, number=3, answer=0, features="4",
                         keepalive_ms=5_000, frame_max=65_536, streams_max=2_000, text="")
    yield payload_vector("refused", "negotiate",
                         pb((1, "uint", 3), (2, "uint", 2), (6, "bytes", b"no")), number=3,
                         answer=2, features=None, keepalive_ms=None, frame_max=None,
                         streams_max=None, text="no")
    yield payload_vector("an offer", "upgrade",
                         pb((1, "bytes", b"valkyrie+unix:///run/v.sock"), (2, "bytes", b"\x5A" * 32),
                            (3, "uint", 10_000)),
                         endpoint="valkyrie+unix:///run/v.sock", token="5a" * 32, valid_ms=10_000,
                         code=0, text="")
    yield payload_vector("an offer declined", "upgrade",
                         pb((4, "uint", 600), (5, "bytes", b"no such socket")), endpoint="",
                         token="", valid_ms=0, code=600, text="no such socket")
    yield payload_vector("auth_success", "auth_success",
                         pb((1, "bytes", b"runner-1"), (2, "uint", 1_800_000_000_000)),
                         identity="runner-1", expires_unix_ms="1800000000000")
    yield payload_vector("auth_success of plaintext", "auth_success", b"", identity="",
                         expires_unix_ms="0")


def pairs(number, labels):
    """A map of texts, in order of its keys."""
    return [(number, "message", pb((1, "bytes", key.encode()), (2, "bytes", value.encode())))
            for key, value in sorted(labels.items())]


def family(name, help, unit, kind, bounds, series):
    rows = [(6, "message", pb(*pairs(1, labels), (2, "double", value), (3, "packed", counts)))
            for labels, value, counts in series]
    body = pb((1, "bytes", name.encode()), (2, "bytes", help.encode()),
              (3, "bytes", unit.encode()), (4, "uint", kind), (5, "doubles", bounds), *rows)
    fields = {"name": name, "help": help, "unit": unit, "kind": kind, "bounds": bounds,
              "series": [{"labels": labels, "value": value, "counts": [str(n) for n in counts]}
                         for labels, value, counts in series]}
    return body, fields


def span(trace_id, span_id, parent_id, name, kind, start, end, attributes, status, text):
    kinds = {str: (2, "bytes"), int: (3, "uint"), bool: (4, "uint")}
    rows = []
    for key, value in attributes:
        number, wire = kinds[type(value)]
        item = value.encode() if isinstance(value, str) else int(value)
        rows.append((8, "message", pb((1, "bytes", key.encode()), (number, wire, item))))
    body = pb((1, "bytes", trace_id), (2, "bytes", span_id), (3, "bytes", parent_id),
              (4, "bytes", name.encode()), (5, "uint", kind), (6, "fixed64", start),
              (7, "fixed64", end), *rows, (9, "uint", status), (10, "bytes", text.encode()))
    fields = {"trace_id": trace_id.hex(), "span_id": span_id.hex(), "parent_id": parent_id.hex(),
              "name": name, "kind": kind, "start_unix_ns": str(start), "end_unix_ns": str(end),
              "attributes": [{"key": key, "value": value} for key, value in attributes],
              "status": status, "status_text": text}
    return body, fields


def observe_payloads():
    """Chapter 19."""
    instance = bytes(range(16))
    made = [family("demo_requests", "Requests", "", 1, [],
                   [({"code": "200", "method": "GET"}, 12.0, []), ({}, 2.5, [])]),
            family("demo_queue", "", "", 2, [], [({}, -1.5, [])]),
            family("demo_latency_seconds", "Time", "seconds", 3, [0.001, 0.1],
                   [({"class": "data"}, 0.75, [3, 0, 1])])]
    yield payload_vector("metrics", "metrics_report",
                         pb((1, "bytes", instance), *((2, "message", body) for body, _ in made)),
                         instance=instance.hex(), families=[fields for _, fields in made])
    t = 1_700_000_000_000_000_000
    root = span(b"\x11" * 16, b"\x22" * 8, b"", "run", 2, t, t + 5_000, [], 0, "")
    call = span(b"\x11" * 16, b"\x33" * 8, b"\x22" * 8, "demo.Echo/Say", 3, t + 1, t + 4,
                [("rpc.system", "valkyrie"), ("rpc.code", 500), ("retried", True)], 2, "broke")
    yield payload_vector("spans", "trace_span", pb(*((1, "message", body) for body, _ in
                                                     (root, call))),
                         spans=[root[1], call[1]])
    for name, id, service, status, watch in [("asked", 7, "demo.Echo", 0, 1),
                                             ("not serving", 7, "demo.Echo", 2, 0),
                                             ("the program asked", 0, "", 0, 0)]:
        yield payload_vector(name, "health_check",
                             pb((1, "uint", id), (2, "bytes", service.encode()),
                                (3, "uint", status), (4, "uint", watch)),
                             id=id, service=service, status=status, watch=watch == 1)
    yield payload_vector("busy", "status_update",
                         pb((1, "uint", 3), (2, "bytes", b"disk slow"), (3, "uint", 850),
                            (4, "uint", 17), (5, "uint", 20)),
                         state=3, text="disk slow", load_permille=850, active=17, capacity=20)
    labels = {"device": "sda", "mount": "/srv"}
    yield payload_vector("a full disk", "alert_notification",
                         pb((1, "uint", 4), (2, "bytes", b"disk.full"),
                            (3, "bytes", b"no space left"), (4, "uint", 1_700_000_000_000),
                            *pairs(5, labels)),
                         severity=4, name="disk.full", text="no space left",
                         unix_ms="1700000000000", labels=labels)


def payloads():
    return [*control_payloads(), *stream_payloads(), *message_payloads(), *observe_payloads()]


# hello.json

def hello_vector(name, hello, ack):
    hello_frame = frame(0x00, 0, hello["body"])
    digest = hashlib.sha256(hello_frame).digest()
    ack_body = pb((1, "uint", ack["version"]), (2, "uint", ack["mode"]),
                  (3, "fixed64", ack["features"]), (4, "bytes", digest), (5, "bytes", b"\xBB" * 32),
                  (6, "packed", ack["modes"]), (7, "message", limits(*ack["limits"])),
                  (8, "uint", ack["role"]), (9, "bytes", ack["node"].encode()),
                  (10, "bytes", b"\xCC" * 16))
    ack_frame = frame(0x01, 0, ack_body)
    th0 = hashlib.sha256(b"VLK2" + hello_frame + ack_frame).digest()
    hello_fields = {key: value for key, value in hello.items() if key != "body"}
    ack_fields = ack | {"hello_sha256": digest.hex(), "random": "bb" * 32, "session": "cc" * 16}
    return {"name": name, "hello_frame": hello_frame.hex(), "hello": hello_fields,
            "ack_frame": ack_frame.hex(), "ack": ack_fields, "th0": th0.hex()}


def hello(version_min, version_max, modes, features, limit, role, node, keepalive_ms, authority,
          resume):
    body = pb((1, "uint", version_min), (2, "uint", version_max), (3, "packed", modes),
              (4, "fixed64", features), (5, "bytes", b"\xAA" * 32), (6, "message", limits(*limit)),
              (7, "uint", role), (8, "bytes", node.encode()), (9, "uint", keepalive_ms),
              (10, "bytes", authority.encode()), (11, "bytes", resume))
    return {"body": body, "version_min": version_min, "version_max": version_max, "modes": modes,
            "features": features, "random": "aa" * 32, "limits": limit, "role": role, "node": node,
            "keepalive_ms": keepalive_ms, "authority": authority, "resume": resume.hex()}


DEFAULTS = [262_144, 67_108_864, 4_194_304, [65_536, 65_536, 262_144, 1_048_576], 1_024, 4_096]


def hellos():
    runner = hello(0x0200, 0x0200, [1], 0, DEFAULTS, 1, "runner-1", 10_000, "ci.example", b"")
    server = {"version": 0x0200, "mode": 1, "features": 0, "modes": [1], "limits": DEFAULTS,
              "role": 2, "node": "server"}
    small = [65_536, 65_536, 65_536, [4_096, 4_096, 4_096, 65_536], 1, 1]
    newer = hello(0x0200, 0x0203, [5, 4, 2], 3, small, 0, "caf\u00e9", 0, "", b"\xDD" * 16)
    older = {"version": 0x0200, "mode": 4, "features": 1, "modes": [4, 2], "limits": small,
             "role": 2, "node": ""}
    bare = hello(0x0200, 0x0200, [1], 0, [0, 0, 0, [], 0, 0], 0, "", 0, "", b"")
    defaults = server | {"limits": [0, 0, 0, [], 0, 0], "node": ""}
    return [hello_vector("runner and server in plaintext", runner, server),
            hello_vector("a newer client and an older server", newer, older),
            hello_vector("every limit left at its default", bare, defaults)]


# log_records.json

def log_vector(name, *lines):
    records = [{"unix_ns": str(ns), "step": step, "channel": channel, "source": source,
                "partial": channel >> 7 == 1, "bytes": text.hex()}
               for text, ns, step, channel, source in lines]
    joined = b"".join(record(text, ns, step, channel) for text, ns, step, channel, _ in lines)
    return {"name": name, "bytes": joined.hex(), "records": records}


def log_records():
    t = 1_700_000_000_123_456_789
    return [
        log_vector("nothing"),
        log_vector("an empty line", (b"", t, 0, 0, "stdout")),
        log_vector("every source", (b"out", t, 0, 0, "stdout"), (b"err", t + 1, 1, 1, "stderr"),
                   (b"Job starts", t, 0xFFFF, 2, "system"), (b"make test", t, 2, 3, "command"),
                   (b"later", t, 2, 9, "unknown")),
        log_vector("a line in two records", (b"half ", t, 0, 0x80, "stdout"),
                   (b"and half", t + 5, 0, 0x00, "stdout")),
        log_vector("bytes that are not text", (bytes([0xFF, 0, 0x0D, 0x1B]), t, 0, 0x81, "stderr")),
        log_vector("a record of 32,768 bytes", (b"y" * 32_768, 2**64 - 1, 0xFFFE, 0, "stdout")),
    ]


# invalid.json

def invalid_frame(name, data, code, rule, max_payload=262_144):
    return {"name": name, "input": "frame", "bytes": data.hex(), "code": code, "rule": rule,
            "payload_bytes_max": max_payload}


def invalid(name, kind, data, code, rule):
    return {"name": name, "input": kind, "bytes": data.hex(), "code": code, "rule": rule}


def invalid_frames():
    ok = header(0x02, 0, 8)
    yield invalid_frame("first byte of the magic, nothing else", b"\x51", 101, "R-3.1")
    yield invalid_frame("second byte of the magic", b"\x52\x44", 101, "R-3.1")
    yield invalid_frame("an HTTP request", b"GET / HTTP/1.1\r\n\r\n", 101, "R-3.1")
    yield invalid_frame("a TLS client", bytes.fromhex("1603010200010001fc0303"), 101, "R-3.1")
    yield invalid_frame("zeros", b"\0" * 24, 101, "R-3.1")
    yield invalid_frame("version 1, three bytes are enough", b"RC\1", 102, "R-3.2")
    yield invalid_frame("version 3", header(0x00, 0, 4, version=3) + b"body", 102, "R-3.2")
    yield invalid_frame("payload over 256 KiB", header(0x31, 1001, 262_145), 103, "R-3.3")
    yield invalid_frame("the length is enough", header(0x31, 1001, 0xFFFFFFFF)[:16], 103, "R-3.3")
    yield invalid_frame("payload over 64 KiB on stream 0", header(0x02, 0, 65_537), 103, "R-3.3")
    yield invalid_frame("over 16 KiB before authentication", header(0x00, 0, 16_385), 103, "R-3.3",
                        16_384)
    yield invalid_frame("garbage behind a ping", ok + b"12345678" + b"\xDE\xAD\xBE\xEF", 101,
                        "R-3.1")

    def extended(name, payload, rule):
        data = frame(0x60, 1, payload, flag=flags("extensions"), correlation=0x1000)
        return invalid_frame(name, data, 100, rule)
    yield extended("no room for the block length", b"", "R-5.1")
    yield extended("half a block length", b"\0", "R-5.1")
    yield extended("block longer than the payload", u16(5) + b"\x09\0\1a", "R-5.1")
    yield extended("entry without its length", u16(2) + b"\x09\0", "R-5.1")
    yield extended("value longer than the block", u16(4) + b"\x09\0\2a" + b"b", "R-5.1")
    yield extended("block of 8,193 bytes", block(entry(3, b"b" * 8_190)), "R-5.2")
    yield extended("65 entries", block(*(entry(n, b"") for n in range(10, 75))), "R-5.3")
    yield extended("a number twice", block(entry(9, b"a.B/C"), entry(9, b"a.B/D")), "R-5.4")
    yield extended("critical and not", block(entry(77, b""), entry(77, b"", True)), "R-5.4")


def invalid_payloads():
    yield invalid("deadline of 3 bytes", "extensions", block(entry(4, b"\0\0\1")), 100, "R-5.6")
    yield invalid("deadline of 5 bytes", "extensions", block(entry(4, b"\0" * 5)), 100, "R-5.6")
    yield invalid("key of 15 bytes", "extensions", block(entry(7, b"\0" * 15)), 100, "R-5.6")
    yield invalid("method that is not text", "extensions", block(entry(9, b"\xFF")), 100, "R-5.6")
    yield invalid("method of 256 bytes", "extensions", block(entry(9, b"m" * 256)), 103, "R-5.6")
    yield invalid("content type that is not text", "extensions", block(entry(8, b"\xFF")), 100,
                  "R-5.6")
    yield invalid("content type of 256 bytes", "extensions", block(entry(8, b"m" * 256)), 103,
                  "R-5.6")
    yield from invalid_metadata()
    yield invalid("error of 5 bytes", "error", u16(100) + b"\0\0\0", 100, "R-15.8")
    yield invalid("error text that is not text", "error", b"\0" * 8 + b"\xC3", 100, "R-15.8")
    yield invalid("error text of 1,025 bytes", "error", b"\0" * 8 + b"x" * 1025, 103, "R-15.8")
    yield invalid("ping of 7 bytes", "ping", b"\0" * 7, 100, "R-14.1")
    yield invalid("ping of 9 bytes", "ping", b"\0" * 9, 100, "R-14.1")
    yield invalid("close of 5 bytes", "close", b"\0" * 5, 100, "R-16.6")
    for length in (7, 37, 39):
        yield invalid(f"close of {length} bytes", "close", b"\0" * length, 100, "R-16.6")
    for kind in ("stream_close", "stream_reset"):
        yield invalid(f"{kind} of 9 bytes", kind, b"\0" * 9, 100, "R-8.11")
        yield invalid(f"{kind} of 11 bytes", kind, b"\0" * 11, 100, "R-8.11")
    yield invalid("credit of 15 bytes", "stream_ack", b"\0" * 15, 100, "R-9.5")
    yield invalid("credit of 17 bytes", "stream_ack", b"\0" * 17, 100, "R-9.5")
    yield invalid("limit below consumed", "stream_ack", u64(2) + u64(1), 100, "R-9.5")
    yield invalid("compressed body of 4 bytes", "compressed", b"\1\0\0\0", 100, "R-6.8")
    yield invalid("raw length over 64 MiB", "compressed", b"\1" + u32(67_108_865), 103, "R-6.8")
    yield invalid("file start of 55 bytes", "file_start", b"\0" * 55, 100, "R-13.6")
    yield invalid("file name of 1,025 bytes", "file_start", b"\0" * 56 + b"n" * 1025, 103, "R-13.6")
    yield invalid("file name that is not text", "file_start", b"\0" * 56 + b"\x80", 100, "R-13.6")
    yield invalid("chunk of 7 bytes", "file_chunk", b"\0" * 7, 100, "R-13.6")
    yield invalid("chunk past the last offset", "file_chunk", u64(2**64 - 1) + b"x", 100, "R-13.2")
    yield invalid("complete of 31 bytes", "file_complete", b"\0" * 31, 100, "R-13.6")
    yield invalid("complete of 33 bytes", "file_complete", b"\0" * 33, 100, "R-13.6")


def invalid_metadata():
    def broken(name, value):
        return invalid(name, "extensions", block(entry(10, value)), 100, "R-5.9")
    one = metadata((b"b", b"value"))
    for cut in range(1, len(one)):
        yield broken(f"metadata that ends after {cut} bytes", one[:cut])
    yield broken("a name of no character", metadata((b"", b"")))
    for byte in (b"A", b" ", b"/", b":", b"\0", b"\x7F", b"\xC3\xA9"):
        yield broken(f"a name with {byte.hex()}", metadata((b"a" + byte, b"")))
    yield broken("a name twice", metadata((b"b", b"1"), (b"b", b"2")))
    yield broken("names out of order", metadata((b"b", b""), (b"a", b"")))
    yield broken("65 entries of metadata",
                 metadata(*((b"n%02d" % n, b"") for n in range(65))))
    yield broken("metadata of 7,169 bytes", metadata((b"n", b"v" * 7165)))


def invalid_logs():
    whole = record(b"whole")
    yield invalid("log entry of 7 bytes", "log_entry", b"\0" * 7, 100, "R-12.3")
    yield invalid("half a record header", "log_entry", u64(0) + whole[:14], 100, "R-12.4")
    yield invalid("half a record", "log_entry", u64(0) + whole + whole[:-1], 100, "R-12.4")
    yield invalid("a record of 32,769 bytes", "log_entry", u64(0) + record(b"z" * 32_769), 103,
                  "R-12.4")
    yield invalid("a record length of 4 GiB", "log_entry",
                  u64(0) + u32(0xFFFFFFFF) + whole[4:], 103, "R-12.4")
    yield invalid("records past the last offset", "log_entry", u64(2**64 - 5) + whole, 100,
                  "R-12.3")


def write(name, vectors, check):
    text = json.dumps(vectors, indent=1, ensure_ascii=False) + "\n"
    path = HERE / name
    if not check:
        path.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        sys.exit(f"{path} differs from what generate.py writes; run it without --check")


def main():
    check = sys.argv[1:] == ["--check"]
    write("headers.json", headers(), check)
    write("extensions.json", extensions(), check)
    write("payloads.json", payloads(), check)
    write("hello.json", hellos(), check)
    write("log_records.json", log_records(), check)
    write("invalid.json", [*invalid_frames(), *invalid_payloads(), *invalid_logs()], check)


if __name__ == "__main__":
    main()

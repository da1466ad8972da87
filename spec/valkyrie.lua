-- Wireshark dissector for Valkyrie, version 2.0 (protocol.md).
--
--   wireshark -X lua_script:spec/valkyrie.lua capture.pcapng
--   tshark -X lua_script:spec/valkyrie.lua -r capture.pcapng -V
--
-- Frames are told by their first bytes on any TCP port, and expected on port 7443. Numbers like
-- R-3.1 are the rules of the specification that a frame breaks.

local valkyrie = Proto("valkyrie", "Valkyrie Protocol")

local PORT = 7443
local HEADER_BYTES = 24
local LENGTH_BYTES = 16 -- of the header, up to the payload length
local FRAME_PAYLOAD_BYTES_MAX = 262144
local CONTROL_PAYLOAD_BYTES_MAX = 65536
local EXTENSIONS_BYTES_MAX = 8192
local EXTENSIONS_MAX = 64
local LOG_RECORD_HEADER_BYTES = 15
local LOG_RECORD_BYTES_MAX = 32768

local TYPES = {
    [0x00] = "HELLO", [0x01] = "HELLO_ACK", [0x02] = "PING", [0x03] = "PONG", [0x04] = "ERROR",
    [0x05] = "CLOSE", [0x06] = "UPGRADE", [0x07] = "NEGOTIATE",
    [0x10] = "AUTH_CHALLENGE", [0x11] = "AUTH_RESPONSE", [0x12] = "AUTH_SUCCESS",
    [0x13] = "AUTH_FAILURE", [0x14] = "KEY_EXCHANGE", [0x15] = "CERT_REQUEST",
    [0x20] = "JOB_REQUEST", [0x21] = "JOB_ACCEPT", [0x22] = "JOB_REJECT", [0x23] = "JOB_START",
    [0x24] = "JOB_PROGRESS", [0x25] = "JOB_COMPLETE", [0x26] = "JOB_FAILED",
    [0x27] = "JOB_CANCEL", [0x28] = "JOB_MIGRATE", [0x29] = "JOB_PAUSE", [0x2A] = "JOB_RESUME",
    [0x30] = "STREAM_OPEN", [0x31] = "STREAM_DATA", [0x32] = "STREAM_CLOSE",
    [0x33] = "STREAM_ACK", [0x34] = "STREAM_RESET", [0x35] = "FILE_TRANSFER_START",
    [0x36] = "FILE_TRANSFER_CHUNK", [0x37] = "FILE_TRANSFER_COMPLETE",
    [0x40] = "METRICS_REPORT", [0x41] = "LOG_ENTRY", [0x42] = "TRACE_SPAN",
    [0x43] = "HEALTH_CHECK", [0x44] = "STATUS_UPDATE", [0x45] = "ALERT_NOTIFICATION",
    [0x60] = "CALL", [0x61] = "REPLY", [0x62] = "CANCEL", [0x63] = "MESSAGE",
}

local CODES = {
    [0] = "none",
    [100] = "malformed", [101] = "magic", [102] = "version_mismatch", [103] = "too_large",
    [104] = "unexpected", [105] = "timeout", [106] = "critical_extension",
    [200] = "auth", [201] = "mode_refused", [202] = "expired", [203] = "revoked",
    [300] = "wrong_range", [301] = "unknown_stream", [302] = "window", [303] = "limit",
    [306] = "draining",
    [400] = "rejected", [401] = "stale_fence", [402] = "lease_lost",
    [500] = "internal", [501] = "overloaded", [502] = "storage",
    [600] = "unreachable", [601] = "lost",
    [700] = "denied", [701] = "downgrade", [702] = "replay", [703] = "banned",
}

local EXTENSIONS = {
    [1] = "traceparent", [2] = "tracestate", [3] = "baggage", [4] = "deadline", [5] = "source",
    [6] = "destination", [7] = "idempotency_key", [8] = "content_type", [9] = "method",
    [10] = "metadata",
}

local MODES = {
    [1] = "plaintext", [2] = "token", [3] = "noise_xk", [4] = "mtls", [5] = "post_quantum",
    [6] = "zero_trust",
}

local ROLES = {
    [0] = "client", [1] = "runner", [2] = "control_plane", [3] = "relay", [4] = "bridge",
}

local TRACE_MODES = {
    [0] = "none", [1] = "that of the stream", [2] = "in this frame", [3] = "reserved",
}

local COMPRESSIONS = { [1] = "LZ4", [2] = "Zstandard" }

local CHANNELS = { [0] = "stdout", [1] = "stderr", [2] = "system", [3] = "command" }

-- Flags by their bits.
local ACK, COMPRESSED, SEALED, MORE_FRAGMENTS, HAS_EXTENSIONS = 1, 3, 4, 5, 7

-- Protocol Buffers messages by type: number = { name, kind, what }. Kinds are u32, u64, fixed64,
-- double, text, bytes, u32s and u64s (repeated), and message, whose `what` is its table.
local LIMITS = {
    [1] = { "frame_max", "u32" }, [2] = { "message_max", "u32" },
    [3] = { "connection_window", "u32" }, [4] = { "class_window", "u32s" },
    [5] = { "streams_max", "u32" }, [6] = { "calls_max", "u32" },
}
local ATTEMPT = { [1] = { "job", "u64" }, [2] = { "number", "u32" }, [3] = { "fence", "u64" } }
local RESOURCES = {
    [1] = { "cpu_millis", "u32" }, [2] = { "memory_bytes", "u64" }, [3] = { "disk_bytes", "u64" },
}
local ANSWERS = { [0] = "proposal", [1] = "accepted", [2] = "refused" }
local LABEL = { [1] = { "key", "text" }, [2] = { "value", "text" } }
local SERIES = {
    [1] = { "labels", "message", LABEL }, [2] = { "value", "double" }, [3] = { "counts", "u64s" },
}
local FAMILY = {
    [1] = { "name", "text" }, [2] = { "help", "text" }, [3] = { "unit", "text" },
    [4] = { "kind", "u32" }, [5] = { "bounds", "bytes" }, [6] = { "series", "message", SERIES },
}
local ATTRIBUTE = {
    [1] = { "key", "text" }, [2] = { "text", "text" }, [3] = { "number", "u64" },
    [4] = { "flag", "u32" },
}
local SPAN = {
    [1] = { "trace_id", "bytes" }, [2] = { "span_id", "bytes" }, [3] = { "parent_id", "bytes" },
    [4] = { "name", "text" }, [5] = { "kind", "u32" }, [6] = { "start_unix_ns", "fixed64" },
    [7] = { "end_unix_ns", "fixed64" }, [8] = { "attributes", "message", ATTRIBUTE },
    [9] = { "status", "u32" }, [10] = { "status_text", "text" },
}
local METADATA = { [1] = { "key", "text" }, [2] = { "value", "bytes" } }
local MESSAGES = {
    [0x00] = {
        [1] = { "version_min", "u32" }, [2] = { "version_max", "u32" },
        [3] = { "modes", "u32s", MODES }, [4] = { "features", "fixed64" },
        [5] = { "random", "bytes" }, [6] = { "limits", "message", LIMITS },
        [7] = { "role", "u32", ROLES }, [8] = { "node", "text" },
        [9] = { "keepalive_ms", "u32" }, [10] = { "authority", "text" },
        [11] = { "resume", "bytes" },
    },
    [0x01] = {
        [1] = { "version", "u32" }, [2] = { "mode", "u32", MODES },
        [3] = { "features", "fixed64" }, [4] = { "hello_sha256", "bytes" },
        [5] = { "random", "bytes" }, [6] = { "modes", "u32s", MODES },
        [7] = { "limits", "message", LIMITS }, [8] = { "role", "u32", ROLES },
        [9] = { "node", "text" }, [10] = { "session", "bytes" },
    },
    [0x06] = {
        [1] = { "endpoint", "text" }, [2] = { "token", "bytes" }, [3] = { "valid_ms", "u32" },
        [4] = { "code", "u32", CODES }, [5] = { "text", "text" },
    },
    [0x07] = {
        [1] = { "number", "u32" }, [2] = { "answer", "u32", ANSWERS },
        [3] = { "features", "fixed64" }, [4] = { "keepalive_ms", "u32" },
        [5] = { "limits", "message", LIMITS }, [6] = { "text", "text" },
    },
    [0x12] = { [1] = { "identity", "text" }, [2] = { "expires_unix_ms", "u64" } },
    [0x20] = {
        [1] = { "attempt", "message", ATTEMPT }, [2] = { "content_type", "text" },
        [3] = { "spec", "bytes" }, [4] = { "resources", "message", RESOURCES },
        [5] = { "timeout_ms", "u64" }, [6] = { "lease_ms", "u32" },
    },
    [0x21] = { [1] = { "attempt", "message", ATTEMPT } },
    [0x22] = {
        [1] = { "attempt", "message", ATTEMPT }, [2] = { "code", "u32", CODES },
        [3] = { "reason", "text" },
    },
    [0x23] = { [1] = { "attempt", "message", ATTEMPT }, [2] = { "unix_ms", "u64" } },
    [0x24] = {
        [1] = { "attempt", "message", ATTEMPT }, [2] = { "content_type", "text" },
        [3] = { "detail", "bytes" },
    },
    [0x25] = {
        [1] = { "attempt", "message", ATTEMPT }, [2] = { "content_type", "text" },
        [3] = { "result", "bytes" }, [4] = { "log_bytes", "u64" },
    },
    [0x26] = {
        [1] = { "attempt", "message", ATTEMPT }, [2] = { "cause", "text" },
        [3] = { "message", "text" }, [4] = { "log_bytes", "u64" },
    },
    [0x27] = {
        [1] = { "attempt", "message", ATTEMPT }, [2] = { "reason", "text" },
        [3] = { "grace_ms", "u32" },
    },
    [0x40] = { [1] = { "instance", "bytes" }, [2] = { "families", "message", FAMILY } },
    [0x42] = { [1] = { "spans", "message", SPAN } },
    [0x43] = {
        [1] = { "id", "u32" }, [2] = { "service", "text" }, [3] = { "status", "u32" },
        [4] = { "watch", "u32" },
    },
    [0x44] = {
        [1] = { "state", "u32" }, [2] = { "text", "text" }, [3] = { "load_permille", "u32" },
        [4] = { "active", "u32" }, [5] = { "capacity", "u32" },
    },
    [0x45] = {
        [1] = { "severity", "u32" }, [2] = { "name", "text" }, [3] = { "text", "text" },
        [4] = { "unix_ms", "u64" }, [5] = { "labels", "message", LABEL },
    },
    [0x30] = {
        [1] = { "method", "text" }, [2] = { "metadata", "message", METADATA },
        [3] = { "window", "u32" },
    },
}

local f = {
    magic = ProtoField.bytes("valkyrie.magic", "Magic", base.SPACE),
    version = ProtoField.uint8("valkyrie.version", "Version"),
    kind = ProtoField.uint8("valkyrie.type", "Type", base.HEX, TYPES),
    flags = ProtoField.uint8("valkyrie.flags", "Flags", base.HEX),
    priority = ProtoField.uint8("valkyrie.priority", "Priority"),
    trace = ProtoField.uint8("valkyrie.trace", "Trace", base.HEX),
    trace_sampled = ProtoField.bool("valkyrie.trace.sampled", "Sampled", 8, nil, 0x80),
    trace_random = ProtoField.bool("valkyrie.trace.random_id", "Random id", 8, nil, 0x40),
    trace_mode = ProtoField.uint8("valkyrie.trace.mode", "Context", base.DEC, TRACE_MODES, 0x30),
    reserved = ProtoField.uint8("valkyrie.reserved", "Reserved", base.HEX),
    stream = ProtoField.uint32("valkyrie.stream", "Stream"),
    class = ProtoField.string("valkyrie.class", "Class"),
    length = ProtoField.uint32("valkyrie.length", "Payload length"),
    correlation = ProtoField.uint32("valkyrie.correlation", "Correlation"),
    slot = ProtoField.uint16("valkyrie.correlation.slot", "Slot"),
    generation = ProtoField.uint32("valkyrie.correlation.generation", "Generation"),
    timestamp = ProtoField.absolute_time("valkyrie.timestamp", "Sent", base.UTC),
    reply_in = ProtoField.framenum("valkyrie.reply_in", "Answered in", base.NONE,
        frametype.RESPONSE),
    call_in = ProtoField.framenum("valkyrie.call_in", "Answers the call in", base.NONE,
        frametype.REQUEST),
    reply_time = ProtoField.relative_time("valkyrie.reply_time", "Time from call to answer"),

    extensions = ProtoField.uint16("valkyrie.extensions.length", "Extensions, bytes"),
    extension = ProtoField.uint8("valkyrie.extension", "Extension", base.DEC, EXTENSIONS, 0x7F),
    critical = ProtoField.bool("valkyrie.extension.critical", "Critical", 8, nil, 0x80),
    extension_length = ProtoField.uint16("valkyrie.extension.length", "Length"),
    extension_value = ProtoField.bytes("valkyrie.extension.value", "Value"),
    trace_id = ProtoField.bytes("valkyrie.trace_id", "Trace id"),
    parent_id = ProtoField.bytes("valkyrie.parent_id", "Parent id"),
    tracestate = ProtoField.string("valkyrie.tracestate", "Trace state"),
    baggage = ProtoField.string("valkyrie.baggage", "Baggage"),
    deadline = ProtoField.uint32("valkyrie.deadline_ms", "Deadline, ms"),
    source = ProtoField.string("valkyrie.source", "Source"),
    destination = ProtoField.string("valkyrie.destination", "Destination"),
    idempotency_key = ProtoField.bytes("valkyrie.idempotency_key", "Idempotency key"),
    content_type = ProtoField.string("valkyrie.content_type", "Content type"),
    method = ProtoField.string("valkyrie.method", "Method"),

    metadata = ProtoField.string("valkyrie.metadata", "Metadata"),

    body = ProtoField.bytes("valkyrie.body", "Body"),
    compression = ProtoField.uint8("valkyrie.compression", "Compression", base.DEC, COMPRESSIONS),
    raw_length = ProtoField.uint32("valkyrie.compression.raw_length", "Raw length"),
    token = ProtoField.bytes("valkyrie.ping", "Token"),
    code = ProtoField.uint16("valkyrie.error.code", "Code", base.DEC, CODES),
    error_flags = ProtoField.uint8("valkyrie.error.flags", "Flags", base.HEX),
    retryable = ProtoField.bool("valkyrie.error.retryable", "Retryable", 8, nil, 0x01),
    ends = ProtoField.bool("valkyrie.error.connection_ends", "Connection ends", 8, nil, 0x02),
    retry_after = ProtoField.uint32("valkyrie.error.retry_after_ms", "Retry after, ms"),
    error_text = ProtoField.string("valkyrie.error.text", "Text"),
    drain = ProtoField.uint32("valkyrie.close.drain_ms", "Drain, ms"),
    served = ProtoField.uint64("valkyrie.close.served", "streams served"),
    consumed = ProtoField.uint64("valkyrie.ack.consumed", "Consumed"),
    limit = ProtoField.uint64("valkyrie.ack.limit", "Limit"),
    final_offset = ProtoField.uint64("valkyrie.final_offset", "Final offset"),
    log_offset = ProtoField.uint64("valkyrie.log.offset", "Offset"),
    log_record = ProtoField.none("valkyrie.log.record", "Record"),
    log_length = ProtoField.uint32("valkyrie.log.length", "Length"),
    log_time = ProtoField.uint64("valkyrie.log.unix_ns", "Time, Unix ns"),
    log_step = ProtoField.uint16("valkyrie.log.step", "Step"),
    log_channel = ProtoField.uint8("valkyrie.log.channel", "Channel", base.DEC, CHANNELS, 0x0F),
    log_partial = ProtoField.bool("valkyrie.log.goes_on", "Goes on", 8, nil, 0x80),
    log_line = ProtoField.string("valkyrie.log.line", "Line"),
    file_id = ProtoField.bytes("valkyrie.file.id", "Id"),
    file_size = ProtoField.uint64("valkyrie.file.size", "Size"),
    file_digest = ProtoField.bytes("valkyrie.file.blake3", "BLAKE3"),
    file_name = ProtoField.string("valkyrie.file.name", "Name"),
    file_offset = ProtoField.uint64("valkyrie.file.offset", "Offset"),
    unknown_field = ProtoField.bytes("valkyrie.unknown_field", "Unknown field"),
    no_frame = ProtoField.bytes("valkyrie.no_frame", "No frame"),
}

local FLAGS = {
    [0] = "ack_requested", [1] = "ack", [2] = "end_of_stream", [3] = "compressed",
    [4] = "end_to_end_sealed", [5] = "more_fragments", [6] = "urgent", [7] = "extensions",
}
local flag_fields = {}
for bit = 0, 7 do
    local name = FLAGS[bit]
    local label = string.upper(name)
    flag_fields[bit] = ProtoField.bool("valkyrie.flags." .. name, label, 8, nil, 2 ^ bit)
end

-- Makes a field for every field of the messages: valkyrie.hello.version_min and the like.
local function declare(prefix, message, all)
    for _, field in pairs(message) do
        local name, kind, what = field[1], field[2], field[3]
        local path = prefix .. "." .. name
        if kind == "message" then
            field.field = ProtoField.none(path, name)
            field.inner = declare(path, what, all)
        elseif kind == "u32" or kind == "u32s" then
            field.field = ProtoField.uint32(path, name, base.DEC, what)
        elseif kind == "double" then
            field.field = ProtoField.double(path, name)
        elseif kind == "u64" or kind == "u64s" then
            field.field = ProtoField.uint64(path, name)
        elseif kind == "fixed64" then
            field.field = ProtoField.uint64(path, name, base.HEX)
        elseif kind == "text" then
            field.field = ProtoField.string(path, name)
        else
            field.field = ProtoField.bytes(path, name)
        end
        table.insert(all, field.field)
    end
    return message
end

-- Messages inside messages are declared once for each place, so their tables are copied.
local function copied(message)
    local copy = {}
    for number, field in pairs(message) do
        local what = field[3]
        if field[2] == "message" then what = copied(what) end
        copy[number] = { field[1], field[2], what }
    end
    return copy
end

local declared = {}
for kind, message in pairs(MESSAGES) do
    MESSAGES[kind] = declare("valkyrie." .. string.lower(TYPES[kind]), copied(message), declared)
end

local experts = {
    magic = ProtoExpert.new("valkyrie.expert.magic", "Not a frame: the magic is not 52 43 (R-3.1)",
        expert.group.MALFORMED, expert.severity.ERROR),
    version = ProtoExpert.new("valkyrie.expert.version", "Another major version (R-3.2)",
        expert.group.PROTOCOL, expert.severity.ERROR),
    length = ProtoExpert.new("valkyrie.expert.length", "Payload over the limit (R-3.3)",
        expert.group.MALFORMED, expert.severity.ERROR),
    extensions = ProtoExpert.new("valkyrie.expert.extensions", "Broken extension block",
        expert.group.MALFORMED, expert.severity.ERROR),
    critical = ProtoExpert.new("valkyrie.expert.critical",
        "Critical extension that is not known (R-5.5)",
        expert.group.PROTOCOL, expert.severity.ERROR),
    value = ProtoExpert.new("valkyrie.expert.value", "Extension value without its layout",
        expert.group.MALFORMED, expert.severity.ERROR),
    body = ProtoExpert.new("valkyrie.expert.body", "Body without the layout of its type",
        expert.group.MALFORMED, expert.severity.ERROR),
    place = ProtoExpert.new("valkyrie.expert.place", "Type on a stream where it does not belong",
        expert.group.PROTOCOL, expert.severity.ERROR),
    unknown = ProtoExpert.new("valkyrie.expert.unknown_type", "Type without a meaning (R-4.1)",
        expert.group.UNDECODED, expert.severity.NOTE),
    failed = ProtoExpert.new("valkyrie.expert.error", "The sender reports an error",
        expert.group.RESPONSE_CODE, expert.severity.WARN),
}

local fields = {}
for _, field in pairs(f) do table.insert(fields, field) end
for _, field in pairs(flag_fields) do table.insert(fields, field) end
for _, field in ipairs(declared) do table.insert(fields, field) end
valkyrie.fields = fields
valkyrie.experts = experts

local tcp_stream = Field.new("tcp.stream")

-- Which packet holds the call of an answer, and the answer of a call, by connection, direction,
-- stream and correlation. Filled on the first pass, when packets come in order.
local calls = {}
function valkyrie.init() calls = {} end

local function has_bit(value, bit) return math.floor(value / 2 ^ bit) % 2 == 1 end

local function class_of(stream)
    if stream == 0 then return "control" end
    if stream < 100 then return "system" end
    if stream < 1000 then return "jobs" end
    if stream < 10000 then return "data" end
    return "logs"
end

local function is_channel(stream)
    return stream == 1 or stream == 100 or stream == 1000 or stream == 10000
end

local function type_name(kind)
    if TYPES[kind] then return TYPES[kind] end
    if kind >= 0x80 then return string.format("application 0x%02x", kind) end
    return string.format("unknown 0x%02x", kind)
end

-- Bodies with a fixed layout. Each gets the bytes and the tree, and says which rule is broken when
-- the layout is not there.
local bodies = {}

local function ping(range, tree)
    if range:len() ~= 8 then return "PING and PONG are 8 bytes (R-14.1)" end
    tree:add(f.token, range)
end
bodies[0x02], bodies[0x03] = ping, ping

bodies[0x04] = function(range, tree, info)
    if range:len() < 8 then return "ERROR is at least 8 bytes (R-15.8)" end
    local code = range(0, 2):uint()
    tree:add(f.code, range(0, 2))
    local flags = tree:add(f.error_flags, range(2, 1))
    flags:add(f.retryable, range(2, 1))
    flags:add(f.ends, range(2, 1))
    tree:add(f.retry_after, range(4, 4))
    local text = ""
    if range:len() > 8 then
        tree:add(f.error_text, range(8), range(8):string(ENC_UTF_8))
        text = ": " .. range(8):string(ENC_UTF_8)
    end
    tree:add_proto_expert_info(experts.failed, (CODES[code] or tostring(code)) .. text)
    info.detail = string.format("%d %s", code, CODES[code] or "")
    if range:len() > 8 + 1024 then return "the text is over 1,024 bytes (R-15.8)" end
end

bodies[0x05] = function(range, tree)
    if range:len() ~= 6 and range:len() ~= 38 then
        return "CLOSE is 6 or 38 bytes (R-16.6)"
    end
    tree:add(f.code, range(0, 2))
    tree:add(f.drain, range(2, 4))
    if range:len() == 38 then
        for index, class in ipairs({ "system", "jobs", "data", "logs" }) do
            local item = tree:add(f.served, range(8 * index - 2, 8))
            item:prepend_text(class .. " ")
        end
    end
end

local function stream_end(range, tree)
    if range:len() ~= 10 then return "STREAM_CLOSE and STREAM_RESET are 10 bytes (R-8.11)" end
    tree:add(f.final_offset, range(0, 8))
    tree:add(f.code, range(8, 2))
end
bodies[0x32], bodies[0x34] = stream_end, stream_end

bodies[0x33] = function(range, tree, info)
    if range:len() ~= 16 then return "STREAM_ACK is 16 bytes (R-9.5)" end
    tree:add(f.consumed, range(0, 8))
    tree:add(f.limit, range(8, 8))
    info.detail = "limit " .. tostring(range(8, 8):uint64())
    if range(8, 8):uint64() < range(0, 8):uint64() then
        return "the limit lies before what was consumed (R-9.5)"
    end
end

bodies[0x35] = function(range, tree, info)
    if range:len() < 56 then return "FILE_TRANSFER_START is at least 56 bytes (R-13.6)" end
    tree:add(f.file_id, range(0, 16))
    tree:add(f.file_size, range(16, 8))
    tree:add(f.file_digest, range(24, 32))
    if range:len() > 56 then
        local name = range(56):string(ENC_UTF_8)
        tree:add(f.file_name, range(56), name)
        info.detail = name
    end
    if range:len() > 56 + 1024 then return "the name is over 1,024 bytes (R-13.6)" end
end

bodies[0x36] = function(range, tree)
    if range:len() < 8 then return "FILE_TRANSFER_CHUNK is at least 8 bytes (R-13.6)" end
    tree:add(f.file_offset, range(0, 8))
    if range:len() > 8 then tree:add(f.body, range(8)) end
end

bodies[0x37] = function(range, tree)
    if range:len() ~= 32 then return "FILE_TRANSFER_COMPLETE is 32 bytes (R-13.6)" end
    tree:add(f.file_digest, range)
end

bodies[0x41] = function(range, tree, info)
    if range:len() < 8 then return "LOG_ENTRY is at least 8 bytes (R-12.4)" end
    tree:add(f.log_offset, range(0, 8))
    local at, count = 8, 0
    while at < range:len() do
        local left = range:len() - at
        if left < LOG_RECORD_HEADER_BYTES then return "it ends inside a record (R-12.4)" end
        local length = range(at, 4):uint()
        if length > LOG_RECORD_BYTES_MAX then return "a record is over 32,768 bytes (R-12.4)" end
        if left < LOG_RECORD_HEADER_BYTES + length then
            return "it ends inside a record (R-12.4)"
        end
        local record = range(at, LOG_RECORD_HEADER_BYTES + length)
        local item = tree:add(f.log_record, record)
        item:add(f.log_length, record(0, 4))
        item:add(f.log_time, record(4, 8))
        local step = item:add(f.log_step, record(12, 2))
        if record(12, 2):uint() == 0xFFFF then step:append_text(" (the job itself)") end
        item:add(f.log_channel, record(14, 1))
        item:add(f.log_partial, record(14, 1))
        if length > 0 then
            local line = record(15):string(ENC_UTF_8)
            item:add(f.log_line, record(15), line)
            item:append_text(": " .. line)
        end
        at, count = at + LOG_RECORD_HEADER_BYTES + length, count + 1
    end
    info.detail = count .. (count == 1 and " record" or " records")
end

-- Reads a varint at `at`: its value as a number, the same as UInt64, and where it ends. The number
-- is exact up to 2^53, which is enough for tags, lengths and u32.
local function varint(range, at)
    local groups, value, scale = {}, 0, 1
    for count = 1, 10 do
        if at >= range:len() then return nil end
        local byte = range(at, 1):uint()
        at = at + 1
        groups[count] = byte % 128
        value = value + (byte % 128) * scale
        scale = scale * 128
        if byte < 128 then
            local low, high = 0, 0
            for index, group in ipairs(groups) do
                if index < 5 then
                    low = low + group * 2 ^ (7 * (index - 1))
                elseif index == 5 then
                    low = low + (group % 16) * 2 ^ 28
                    high = math.floor(group / 16)
                else
                    high = high + group * 2 ^ (7 * (index - 5) - 4)
                end
            end
            return value, UInt64.new(low, high % 2 ^ 32), at
        end
    end
    return nil
end

local MALFORMED = "it is not the Protocol Buffers message of its type (R-4.5)"

-- Adds the fields of a Protocol Buffers message to the tree; returns a broken rule, and the values
-- of text fields by name.
local function structured(range, tree, message)
    local at, texts = 0, {}
    while at < range:len() do
        local start = at
        local tag, _, after = varint(range, at)
        if not tag then return MALFORMED, texts end
        at = after
        local number, wire = math.floor(tag / 8), tag % 8
        local field = message[number]
        local value, value64, length, from
        if wire == 0 then
            value, value64, after = varint(range, at)
            if not value then return MALFORMED, texts end
            from, length, at = at, after - at, after
        elseif wire == 1 or wire == 5 then
            from, length = at, wire == 1 and 8 or 4
            at = at + length
        elseif wire == 2 then
            length, _, after = varint(range, at)
            if not length then return MALFORMED, texts end
            from, at = after, after + length
        else
            return MALFORMED, texts
        end
        if at > range:len() then return MALFORMED, texts end
        local kind = field and field[2]
        local content = length > 0 and range(from, length) or nil
        if not field then
            tree:add(f.unknown_field, range(start, at - start)):append_text(" (" .. number .. ")")
        elseif wire == 0 and (kind == "u32" or kind == "u32s") then
            local item = tree:add(field.field, content, value % 2 ^ 32)
            if string.find(field[1], "^version") then
                local version = string.format(" (%d.%d)", math.floor(value / 256), value % 256)
                item:append_text(version)
            end
        elseif wire == 0 and (kind == "u64" or kind == "u64s") then
            tree:add(field.field, content, value64)
        elseif wire == 1 and (kind == "fixed64" or kind == "double") then
            tree:add_le(field.field, content)
        elseif wire == 2 and kind == "message" then
            local item = tree:add(field.field, range(start, at - start))
            if content then
                local problem = structured(content, item, field.inner)
                if problem then return problem, texts end
            end
        elseif wire == 2 and (kind == "u32s" or kind == "u64s") then
            local inside = 0
            while inside < length do
                local one, one64, next = varint(content, inside)
                if not one then return MALFORMED, texts end
                local number = kind == "u64s" and one64 or one % 2 ^ 32
                tree:add(field.field, content(inside, next - inside), number)
                inside = next
            end
        elseif wire == 2 and kind == "text" then
            local text = content and content:string(ENC_UTF_8) or ""
            tree:add(field.field, content or range(start, at - start), text)
            texts[field[1]] = text
        elseif wire == 2 and kind == "bytes" then
            if content then tree:add(field.field, content) end
        else
            return MALFORMED, texts
        end
    end
    return nil, texts
end

-- Adds the entries of extension 10; returns the rule that they break.
local function metadata(value, tree)
    local at, last, count = 0, "", 0
    while value and at < value:len() do
        local left = value:len() - at
        local name_length = value(at, 1):uint()
        if left < 3 + name_length then return "metadata ends inside an entry (R-5.9)" end
        local length = value(at + 1 + name_length, 2):uint()
        if left < 3 + name_length + length then
            return "metadata ends inside an entry (R-5.9)"
        end
        local name = name_length > 0 and value(at + 1, name_length):string() or ""
        local item = tree:add(f.metadata, value(at, 3 + name_length + length), name)
        if length > 0 then item:add(f.extension_value, value(at + 3 + name_length, length)) end
        if not string.find(name, "^[a-z0-9._-]+$") then
            return "a name of metadata has other characters (R-5.9)"
        end
        if name <= last then return "the names of metadata do not ascend (R-5.9)" end
        last, count = name, count + 1
        at = at + 3 + name_length + length
    end
    if count > 64 then return "metadata has more than 64 entries (R-5.9)" end
    if value and value:len() > 7168 then return "metadata is over 7,168 bytes (R-5.9)" end
end

local EXTENSION_TEXTS = {
    [2] = "tracestate", [3] = "baggage", [5] = "source", [6] = "destination",
    [8] = "content_type", [9] = "method",
}

local function extension_value(number, value, tree, info)
    local length = value and value:len() or 0
    if number == 1 then
        -- One without this layout is dropped by its receiver (R-18.3).
        if length == 26 then
            tree:add(f.trace_id, value(1, 16))
            tree:add(f.parent_id, value(17, 8))
            return
        end
    elseif number == 4 then
        if length ~= 4 then return "a deadline is 4 bytes (R-5.6)" end
        tree:add(f.deadline, value)
        return
    elseif number == 7 then
        if length ~= 16 then return "an idempotency key is 16 bytes (R-5.6)" end
        tree:add(f.idempotency_key, value)
        return
    elseif number == 10 then
        return metadata(value, tree)
    elseif EXTENSION_TEXTS[number] then
        local text = value and value:string(ENC_UTF_8) or ""
        local field = f[EXTENSION_TEXTS[number]]
        if value then tree:add(field, value, text) end
        tree:append_text(": " .. text)
        if number == 9 then
            info.method = text
            if length > 255 then return "a method is at most 255 bytes (R-5.6)" end
        end
        return
    end
    if value then tree:add(f.extension_value, value) end
end

-- Adds the extension block; returns how many bytes it takes, or nil when it is broken.
local function extensions(payload, tree, info)
    local function broken(range, text)
        tree:add_proto_expert_info(experts.extensions, text)
        tree:add(f.body, range)
        return nil
    end
    if payload:len() < 2 then
        return broken(payload, "the payload ends inside the block length (R-5.1)")
    end
    local length = payload(0, 2):uint()
    local block = tree:add(f.extensions, payload(0, 2))
    if length > EXTENSIONS_BYTES_MAX then
        return broken(payload, "the block is over 8,192 bytes (R-5.2)")
    end
    if payload:len() < 2 + length then
        return broken(payload, "the payload ends inside the block (R-5.1)")
    end
    local at, seen, count = 2, {}, 0
    while at < 2 + length do
        local left = 2 + length - at
        if left < 3 or left < 3 + payload(at + 1, 2):uint() then
            return broken(payload(at), "the block ends inside an entry (R-5.1)")
        end
        local bytes = payload(at + 1, 2):uint()
        local byte = payload(at, 1):uint()
        local number = byte % 128
        local item = block:add(f.extension, payload(at, 1))
        item:set_len(3 + bytes)
        item:add(f.critical, payload(at, 1))
        item:add(f.extension_length, payload(at + 1, 2))
        if seen[number] then return broken(payload(at), "a number is there twice (R-5.4)") end
        seen[number], count = true, count + 1
        if count > EXTENSIONS_MAX then
            return broken(payload(at), "the block has more than 64 entries (R-5.3)")
        end
        if byte >= 128 and not EXTENSIONS[number] then
            item:add_proto_expert_info(experts.critical)
        end
        local value = bytes > 0 and payload(at + 3, bytes) or nil
        local problem = extension_value(number, value, item, info)
        if problem then
            item:add_proto_expert_info(experts.value, problem)
        end
        at = at + 3 + bytes
    end
    return 2 + length
end

-- The rule that a type breaks on a stream (R-4.2), if it does.
local function misplaced(kind, stream)
    local channel = is_channel(stream)
    if kind == 0x02 or kind == 0x03 or (kind >= 0x05 and kind <= 0x07) then
        if stream ~= 0 then return "it belongs on stream 0 (R-4.2)" end
    elseif kind >= 0x60 and kind <= 0x63 then
        if not channel then return "it belongs on a channel (R-4.2)" end
    elseif kind >= 0x20 and kind <= 0x2F then
        if class_of(stream) ~= "jobs" or channel then
            return "it belongs on a job stream (R-4.2)"
        end
    elseif kind == 0x40 or kind == 0x42 then
        if stream ~= 10000 then return "it belongs on channel 10000 (R-4.2)" end
    elseif kind >= 0x43 and kind <= 0x45 then
        if stream ~= 1 then return "it belongs on channel 1 (R-4.2)" end
    elseif kind == 0x34 and (stream == 0 or channel) then
        return "stream 0 and channels cannot be reset (R-8.7)"
    elseif kind >= 0x30 and kind <= 0x37 and kind ~= 0x33 and (stream == 0 or channel) then
        return "it belongs on a stream (R-4.2)"
    elseif kind >= 0x35 and kind <= 0x37 and class_of(stream) ~= "data" then
        return "it belongs on a data stream (R-4.2)"
    elseif kind == 0x41 and (class_of(stream) ~= "logs" or channel) then
        return "it belongs on a log stream (R-4.2)"
    end
end

local function body(kind, flags, range, tree, info)
    if has_bit(flags, COMPRESSED) and not has_bit(flags, SEALED) then
        if range:len() < 5 then return "a compressed body is at least 5 bytes (R-6.8)" end
        tree:add(f.compression, range(0, 1))
        tree:add(f.raw_length, range(1, 4))
        if range:len() > 5 then tree:add(f.body, range(5)) end
    elseif has_bit(flags, SEALED) or has_bit(flags, MORE_FRAGMENTS) then
        tree:add(f.body, range)
    elseif bodies[kind] then
        return bodies[kind](range, tree, info)
    elseif MESSAGES[kind] then
        local problem, texts = structured(range, tree, MESSAGES[kind])
        info.detail = texts.method or texts.node or texts.reason or texts.cause
        return problem
    else
        tree:add(f.body, range)
    end
end

-- Ties answers to their calls.
local function correlate(kind, stream, correlation, pinfo, tree)
    local connection = tcp_stream()
    if correlation == 0 or not connection or not is_channel(stream) then return end
    local from, to = tostring(pinfo.src_port), tostring(pinfo.dst_port)
    local answers = kind == 0x61 or kind == 0x04
    if kind ~= 0x60 and not answers then return end
    -- Of an answer, the caller is the side that it goes to.
    local caller = answers and to or from
    local key = table.concat({ tostring(connection), caller, stream, correlation }, "/")
    if not pinfo.visited then
        if kind == 0x60 and not calls[key] then
            calls[key] = { call = pinfo.number, at = pinfo.abs_ts }
        elseif answers and calls[key] and not calls[key].reply then
            calls[key].reply = pinfo.number
        end
    end
    local call = calls[key]
    if not call then return end
    if kind == 0x60 and call.reply then
        tree:add(f.reply_in, call.reply):set_generated()
    elseif answers and call.reply == pinfo.number then
        tree:add(f.call_in, call.call):set_generated()
        local seconds = math.floor(pinfo.abs_ts - call.at)
        local nanoseconds = math.floor((pinfo.abs_ts - call.at - seconds) * 1e9)
        tree:add(f.reply_time, NSTime.new(seconds, nanoseconds)):set_generated()
    end
end

-- Says in the packet list what the next frame is. Where a packet ends one frame and holds others,
-- this file is called twice for it, and what was said the first time is behind a fence.
local said = false

local function begin_telling(pinfo)
    pinfo.cols.protocol = "Valkyrie"
    pinfo.cols.info:clear()
    said = string.find(tostring(pinfo.cols.info), "^%u") ~= nil
end

local function tell(pinfo, text)
    pinfo.cols.info:append((said and "; " or "") .. text)
    said = true
end

local function header(tvb, tree)
    tree:add(f.magic, tvb(0, 2))
    tree:add(f.version, tvb(2, 1))
    tree:add(f.kind, tvb(3, 1))
    local flags = tree:add(f.flags, tvb(4, 1))
    local set = {}
    for bit = 0, 7 do
        flags:add(flag_fields[bit], tvb(4, 1))
        if has_bit(tvb(4, 1):uint(), bit) then table.insert(set, FLAGS[bit]) end
    end
    if #set > 0 then flags:append_text(" (" .. table.concat(set, ", ") .. ")") end
    tree:add(f.priority, tvb(5, 1))
    local trace = tree:add(f.trace, tvb(6, 1))
    trace:add(f.trace_sampled, tvb(6, 1))
    trace:add(f.trace_random, tvb(6, 1))
    trace:add(f.trace_mode, tvb(6, 1))
    tree:add(f.reserved, tvb(7, 1))
    local stream = tvb(8, 4):uint()
    tree:add(f.stream, tvb(8, 4)):append_text(" (" .. class_of(stream) .. ")")
    tree:add(f.class, tvb(8, 4), class_of(stream)):set_generated()
    tree:add(f.length, tvb(12, 4))
    local correlation = tree:add(f.correlation, tvb(16, 4))
    if tvb(16, 4):uint() ~= 0 then
        correlation:add(f.slot, tvb(18, 2), tvb(18, 2):uint() % 4096)
        correlation:add(f.generation, tvb(16, 3), math.floor(tvb(16, 4):uint() / 4096))
    end
    if tvb(20, 4):uint() ~= 0 then tree:add(f.timestamp, tvb(20, 4)) end
end

-- Which expert says why the bytes are no frame; nil when they may be one.
local function refused(tvb, offset)
    if offset + 2 <= tvb:len() and tvb(offset, 2):uint() ~= 0x5243 then return experts.magic end
    if offset + 3 <= tvb:len() and tvb(offset + 2, 1):uint() ~= 2 then return experts.version end
    if offset + LENGTH_BYTES <= tvb:len() then
        local control = tvb(offset + 8, 4):uint() == 0
        local max = control and CONTROL_PAYLOAD_BYTES_MAX or FRAME_PAYLOAD_BYTES_MAX
        if tvb(offset + 12, 4):uint() > max then return experts.length end
    end
end

local function no_frame(tvb, pinfo, root, expert_info)
    local tree = root:add(valkyrie, tvb(), "Valkyrie, not a frame")
    tree:add_proto_expert_info(expert_info)
    tree:add(f.no_frame, tvb())
    tell(pinfo, "not a frame")
end

local function frame(tvb, pinfo, root)
    local kind, flags = tvb(3, 1):uint(), tvb(4, 1):uint()
    local stream, correlation = tvb(8, 4):uint(), tvb(16, 4):uint()
    local tree = root:add(valkyrie, tvb())
    tree:append_text(string.format(", %s, stream %d", type_name(kind), stream))
    header(tvb, tree)
    if not TYPES[kind] and kind < 0x80 then tree:add_proto_expert_info(experts.unknown) end
    local wrong = misplaced(kind, stream)
    if wrong then tree:add_proto_expert_info(experts.place, wrong) end
    local info = {}
    local at = HEADER_BYTES
    if has_bit(flags, HAS_EXTENSIONS) then
        local payload = tvb:len() > HEADER_BYTES and tvb(HEADER_BYTES) or tvb(0, 0)
        local taken = extensions(payload, tree, info)
        at = taken and at + taken or nil
    end
    if at and not (has_bit(flags, ACK) and at == tvb:len()) then
        local range = at < tvb:len() and tvb(at) or tvb(0, 0)
        -- An empty Protocol Buffers message has all its defaults; other empty bodies show nothing.
        if range:len() > 0 or bodies[kind] then
            local broken = body(kind, flags, range, tree, info)
            if broken then tree:add_proto_expert_info(experts.body, broken) end
        end
    end
    correlate(kind, stream, correlation, pinfo, tree)
    local words = { type_name(kind) }
    if has_bit(flags, ACK) then table.insert(words, "ack") end
    if stream ~= 0 then table.insert(words, "[" .. stream .. "]") end
    if info.method then table.insert(words, info.method) end
    if info.detail and info.detail ~= "" then table.insert(words, info.detail) end
    tell(pinfo, table.concat(words, " "))
end

-- Takes whole frames off a segment, and asks for more where the last one is not whole. What is no
-- frame is told as soon as its bytes are there (R-3.4), and nothing behind it can be trusted.
function valkyrie.dissector(tvb, pinfo, root)
    begin_telling(pinfo)
    local offset = 0
    while offset < tvb:len() do
        local problem = refused(tvb, offset)
        if problem then
            no_frame(tvb(offset):tvb(), pinfo, root, problem)
            return tvb:len()
        end
        local left = tvb:len() - offset
        local length = left >= LENGTH_BYTES and HEADER_BYTES + tvb(offset + 12, 4):uint()
        if not length or length > left then
            pinfo.desegment_offset = offset
            pinfo.desegment_len = length and length - left or DESEGMENT_ONE_MORE_SEGMENT
            return tvb:len()
        end
        frame(tvb(offset, length):tvb(), pinfo, root)
        offset = offset + length
    end
    return tvb:len()
end

DissectorTable.get("tcp.port"):add(PORT, valkyrie)

-- On other ports a connection is Valkyrie when a segment begins with the header of a frame.
valkyrie:register_heuristic("tcp", function(tvb, pinfo, root)
    if tvb:len() < LENGTH_BYTES or refused(tvb, 0) then return false end
    local kind = tvb(3, 1):uint()
    if not TYPES[kind] and kind < 0x80 then return false end
    pinfo.conversation = valkyrie
    valkyrie.dissector(tvb, pinfo, root)
    return true
end)

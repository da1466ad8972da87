//! Every bound of the wire format, checked against each other at compile time.

/// Length of a frame header.
pub const HEADER_BYTES: usize = 24;
/// Longest payload of a frame, extensions included.
pub const FRAME_PAYLOAD_BYTES_MAX: u32 = 256 * 1024;
/// Lowest `frame_max` a peer may ask for: a log record never spans two frames.
pub const FRAME_PAYLOAD_BYTES_FLOOR: u32 = 64 * 1024;
/// Longest payload of a frame before AUTH_SUCCESS.
pub const PRE_AUTH_PAYLOAD_BYTES_MAX: u32 = 16 * 1024;
/// Longest payload of a frame on stream 0.
pub const CONTROL_PAYLOAD_BYTES_MAX: u32 = 64 * 1024;
/// Longest message over all its fragments.
pub const MESSAGE_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Length of a fragment while one class has something to send.
pub const FRAGMENT_BYTES: u32 = 32 * 1024;
/// Length of a fragment while several classes have something to send.
pub const FRAGMENT_SHARED_BYTES: u32 = 16 * 1024;
/// Length of a fragment in the bulk profile.
pub const FRAGMENT_BULK_BYTES: u32 = 256 * 1024;

/// Longest extension block, without its length field.
pub const EXTENSIONS_BYTES_MAX: usize = 8 * 1024;
/// Most entries of an extension block.
pub const EXTENSIONS_MAX: usize = 64;
/// Longest method name.
pub const METHOD_BYTES_MAX: usize = 255;
/// Longest node name in HELLO.
pub const NODE_BYTES_MAX: usize = 255;
/// Longest content type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// Most entries of metadata, in an extension block or in STREAM_OPEN.
pub const METADATA_MAX: usize = 64;
/// Longest metadata in an extension block.
pub const METADATA_BYTES_MAX: usize = 7 * 1024;
/// Longest text of an ERROR.
pub const ERROR_TEXT_BYTES_MAX: usize = 1024;
/// Longest name of a transferred file.
pub const FILE_NAME_BYTES_MAX: usize = 1024;

/// Length of a log record without its bytes.
pub const LOG_RECORD_HEADER_BYTES: usize = 15;
/// Most bytes of one log record; a longer line becomes several records.
pub const LOG_RECORD_BYTES_MAX: usize = 32 * 1024;

/// Longest message of chapter "Observability", over all its fragments.
pub const OBSERVE_BYTES_MAX: usize = 64 * 1024;
/// Families of a metrics report.
pub const METRIC_FAMILIES_MAX: usize = 128;
/// Series of a metrics report, over all its families.
pub const METRIC_SERIES_MAX: usize = 512;
/// Longest name of a metric or a label.
pub const METRIC_NAME_BYTES_MAX: usize = 128;
/// Longest help of a metric, or value of a label.
pub const METRIC_TEXT_BYTES_MAX: usize = 256;
/// Labels of a series.
pub const METRIC_LABELS_MAX: usize = 8;
/// Bounds of a histogram, the infinite one not counted.
pub const METRIC_BOUNDS_MAX: usize = 64;
/// Length of what names the instance of a metrics report.
pub const INSTANCE_BYTES: usize = 16;
/// Spans of a batch.
pub const SPANS_MAX: usize = 512;
/// Attributes of a span.
pub const SPAN_ATTRIBUTES_MAX: usize = 64;
/// Longest name of a span, key of an attribute, or service of a health check.
pub const OBSERVE_NAME_BYTES_MAX: usize = 255;
/// Longest value of an attribute, or text of a span, status or alert.
pub const OBSERVE_TEXT_BYTES_MAX: usize = 1024;
/// Labels of an alert.
pub const ALERT_LABELS_MAX: usize = 16;

/// First credit of a stream by class: system, jobs, data, logs.
pub const CLASS_WINDOW_BYTES: [u32; 4] = [64 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024];
/// First credit of the connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Highest window of a stream.
pub const STREAM_WINDOW_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Highest window of a connection.
pub const CONNECTION_WINDOW_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Streams a peer may hold open at once.
pub const STREAMS_MAX: u32 = 1024;
/// Calls a peer may have outstanding at once.
pub const CALLS_MAX: u32 = 4096;

// Each line below is a sentence of the specification, chapter "Limits".
const _: () = {
    assert!(PRE_AUTH_PAYLOAD_BYTES_MAX <= CONTROL_PAYLOAD_BYTES_MAX);
    assert!(CONTROL_PAYLOAD_BYTES_MAX <= FRAME_PAYLOAD_BYTES_MAX);
    assert!(FRAME_PAYLOAD_BYTES_FLOOR <= FRAME_PAYLOAD_BYTES_MAX);
    assert!(FRAME_PAYLOAD_BYTES_MAX <= MESSAGE_BYTES_MAX);
    assert!(FRAGMENT_SHARED_BYTES <= FRAGMENT_BYTES && FRAGMENT_BYTES <= FRAGMENT_BULK_BYTES);
    assert!(FRAGMENT_BULK_BYTES <= FRAME_PAYLOAD_BYTES_MAX);
    assert!(FRAGMENT_BYTES <= FRAME_PAYLOAD_BYTES_FLOOR);
    // The length field of the block is a u16, and the block leaves room for a body before
    // authentication.
    assert!(EXTENSIONS_BYTES_MAX <= 0xFFFF);
    assert!(EXTENSIONS_BYTES_MAX + 2 < PRE_AUTH_PAYLOAD_BYTES_MAX as usize);
    // A type is seven bits, each at most once.
    assert!(EXTENSIONS_MAX <= 128);
    // Metadata, method, content type, trace context, deadline and key fit one block together,
    // each behind its three bytes of type and length.
    let fixed = METHOD_BYTES_MAX + CONTENT_TYPE_BYTES_MAX + crate::TraceContext::BYTES + 4 + 16;
    assert!(METADATA_BYTES_MAX + fixed + 6 * 3 <= EXTENSIONS_BYTES_MAX);
    // Every side takes a whole message about itself, however small its own limits are.
    assert!(OBSERVE_BYTES_MAX <= FRAME_PAYLOAD_BYTES_FLOOR as usize);
    // One whole record, with the offset in front, fits the smallest frame a peer may ask for.
    assert!(
        8 + LOG_RECORD_HEADER_BYTES + LOG_RECORD_BYTES_MAX <= FRAME_PAYLOAD_BYTES_FLOOR as usize
    );
    let [system, jobs, data, logs] = CLASS_WINDOW_BYTES;
    assert!(is_stream_window(system) && is_stream_window(jobs));
    assert!(is_stream_window(data) && is_stream_window(logs));
    assert!(CONNECTION_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES_MAX);
    assert!(CALLS_MAX <= crate::Correlation::SLOTS as u32);
};

/// A window below a frame or a log record would stall for good; one above the connection's is
/// never used up.
const fn is_stream_window(bytes: u32) -> bool {
    bytes >= FRAME_PAYLOAD_BYTES_FLOOR
        && bytes <= STREAM_WINDOW_BYTES_MAX
        && bytes <= CONNECTION_WINDOW_BYTES
}

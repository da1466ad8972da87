//! `valkyrie decode`.

use std::fs::File;
use std::io::{self, Cursor, IsTerminal, Read};
use std::path::Path;

use crate::args::{DecodeArgs, InputFormat};
use crate::decode::{Connections, Details, Report, Track, Wanted};
use crate::exit::Exit;
use crate::explain::Preview;
use crate::failure::Failure;
use crate::output::Output;
use crate::wire::hex;
use crate::wire::packets::{self, CaptureError, Stop};

/// First bytes of a pcapng file.
const PCAPNG: [u8; 4] = [0x0A, 0x0D, 0x0D, 0x0A];
/// First bytes of a pcap file: microseconds and nanoseconds, in both orders.
const PCAP: [[u8; 4]; 4] = [
    [0xD4, 0xC3, 0xB2, 0xA1],
    [0xA1, 0xB2, 0xC3, 0xD4],
    [0x4D, 0x3C, 0xB2, 0xA1],
    [0xA1, 0xB2, 0x3C, 0x4D],
];
/// Longest header of a pcapng section that is read.
const SECTION_BYTES_MAX: usize = 64 * 1024;
/// Most hexadecimal that is read: nobody pastes more.
const HEX_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of raw input that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// Explains the frames of a file.
///
/// # Errors
/// The file cannot be read, or is not what it should be.
pub(crate) fn decode(args: &DecodeArgs, out: &mut Output) -> Result<Exit, Failure> {
    let preview = Preview {
        bytes_max: args.bytes,
    };
    let mut input = open(&args.file)?;
    let start = beginning(&mut input).map_err(reading(&args.file))?;
    let format = match args.format {
        InputFormat::Auto => guess(&start, &args.file)?,
        given => given,
    };
    let input = Cursor::new(start).chain(input);
    let wanted = Wanted {
        connection: args.connection,
        stream: args.stream,
        types: args.types.clone(),
        details: match args.brief {
            true => Details::Brief,
            false => Details::Full,
        },
    };
    let mut report = Report::new(out, wanted);
    let others = match format {
        InputFormat::Capture | InputFormat::Auto => {
            capture(input, &args.file, preview, &mut report)?
        }
        InputFormat::Raw => {
            raw(input, &args.file, preview, &mut report)?;
            0
        }
        InputFormat::Hex => {
            hexadecimal(input, &args.file, preview, &mut report)?;
            0
        }
    };
    report.finish(others)
}

fn open(path: &Path) -> Result<Box<dyn Read + Send>, Failure> {
    if path != Path::new("-") {
        let file = File::open(path).map_err(reading(path))?;
        return Ok(Box::new(file));
    }
    if io::stdin().is_terminal() {
        return Err(Failure::Usage {
            message: "nothing to decode: no file is named, and standard input is a terminal"
                .to_owned(),
            hint: "name a file, or pipe bytes or hexadecimal in".to_owned(),
        });
    }
    Ok(Box::new(io::stdin()))
}

fn reading(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let doing = match path == Path::new("-") {
        true => "read standard input".to_owned(),
        false => format!("read {}", path.display()),
    };
    Failure::io(doing)
}

/// Enough bytes to tell what the input is, and of a pcapng file the whole first block: its reader
/// wants it in one piece, and a pipe may give it in several.
fn beginning(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    input.by_ref().take(24).read_to_end(&mut start)?;
    let number = |at: usize| start.get(at..).and_then(<[u8]>::first_chunk::<4>).copied();
    if number(0) == Some(PCAPNG)
        && let (Some(length), Some(order)) = (number(4), number(8))
    {
        let length = match order == 0x1A2B_3C4D_u32.to_le_bytes() {
            true => u32::from_le_bytes(length),
            false => u32::from_be_bytes(length),
        };
        let more = (length as usize)
            .min(SECTION_BYTES_MAX)
            .saturating_sub(start.len());
        input.by_ref().take(more as u64).read_to_end(&mut start)?;
    }
    Ok(start)
}

fn guess(start: &[u8], file: &Path) -> Result<InputFormat, Failure> {
    let magic = start.first_chunk::<4>();
    if magic.is_some_and(|magic| *magic == PCAPNG || PCAP.contains(magic)) {
        return Ok(InputFormat::Capture);
    }
    if start.starts_with(b"RC") {
        return Ok(InputFormat::Raw);
    }
    let text = |byte: &u8| byte.is_ascii_hexdigit() || b"#xX:,- \t\r\n".contains(byte);
    if start.starts_with(b"#") || start.iter().all(text) {
        return Ok(InputFormat::Hex);
    }
    Err(Failure::Input {
        what: file.display().to_string(),
        cause: "neither a capture nor frames nor hexadecimal".to_owned(),
        hint: Some("--format raw looks at the bytes all the same".to_owned()),
    })
}

fn capture(
    input: impl Read + Send,
    file: &Path,
    preview: Preview,
    report: &mut Report<'_>,
) -> Result<u64, Failure> {
    let mut connections = Connections::new(preview);
    let read = packets::read(input, |origin, segment| {
        connections.take(origin, segment, report)
    });
    let error = match read {
        Ok(()) => None,
        Err(Stop::Taker(failure)) => return Err(failure),
        Err(Stop::Capture(error)) => Some(error),
    };
    let others = connections.finish(report)?;
    match error {
        None => Ok(others),
        Some(error) => Err(damaged(file, &error)),
    }
}

fn damaged(file: &Path, error: &CaptureError) -> Failure {
    let hint = match error {
        CaptureError::Torn { .. } => {
            Some("whoever wrote it was stopped; what came before is shown".to_owned())
        }
        CaptureError::Damaged { .. } | CaptureError::Read { .. } => None,
    };
    Failure::Input {
        what: file.display().to_string(),
        cause: error.to_string(),
        hint,
    }
}

fn raw(
    mut input: impl Read,
    file: &Path,
    preview: Preview,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    let mut track = Track::of_one_direction(preview);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => return track.finish(report),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(reading(file)(error)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        track.push(None, None, bytes, report)?;
    }
}

fn hexadecimal(
    input: impl Read,
    file: &Path,
    preview: Preview,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    let mut text = String::new();
    let read = input.take(HEX_BYTES_MAX).read_to_string(&mut text);
    read.map_err(reading(file))?;
    let bytes = hex::parse(&text).map_err(|error| Failure::Input {
        what: file.display().to_string(),
        cause: error.to_string(),
        hint: Some("`xxd -p` writes hexadecimal that is read".to_owned()),
    })?;
    raw(bytes.as_slice(), file, preview, report)
}

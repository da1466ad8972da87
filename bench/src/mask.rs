//! Masking of a realistic log with 100 secrets, one core: as the job process does it, in reads of a
//! pipe. The generator writes what has to come out beside what goes in, and both are compared. Time
//! is the processor's, spent by this thread: other programs do not count.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustci_runner::limits::PIPE_READ_BYTES;
use rustci_runner::log::{MASK, Masker, Patterns, forms};
use rustix::time::{ClockId, clock_gettime};

use crate::report::{Report, percentile};

const SECRETS: usize = 100;
const LOG_BYTES: usize = 32 * 1024 * 1024;
/// One line in so many holds a secret.
const SECRET_LINES: u64 = 200;
const ROUNDS: usize = 9;

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let mut random = Random(0x5eed);
    let secrets: Vec<String> = (0..SECRETS).map(|index| random.secret(index)).collect();
    let begun = spent();
    let patterns = Rc::new(patterns(&secrets));
    let build = spent() - begun;
    let log = Log::new(&secrets, &mut random);
    let (mut whole, mut small, mut copy) = (Vec::new(), Vec::new(), Vec::new());
    // In turn, so that a change of the machine's speed hits all of them.
    for _ in 0..ROUNDS {
        whole.push(log.rate(&patterns, PIPE_READ_BYTES)?);
        small.push(log.rate(&patterns, 512)?);
        copy.push(log.copied());
    }
    let total: usize = secrets
        .iter()
        .map(|secret| forms(secret.as_bytes()).len())
        .sum();
    report.ours(
        "mask_gb_per_s",
        percentile(&mut whole, 0.5),
        "GB/s",
        ">= 0.5",
    );
    report.ours(
        "mask_512_byte_writes_gb_per_s",
        percentile(&mut small, 0.5),
        "GB/s",
        "-",
    );
    report.ours("forms_of_100_secrets", total as f64, "", "-");
    report.ours("build_ms", build.as_secs_f64() * 1e3, "ms", "-");
    report.peer(
        "memcpy",
        "mask_gb_per_s",
        percentile(&mut copy, 0.5),
        "GB/s",
    );
    Ok(())
}

fn patterns(secrets: &[String]) -> Patterns {
    Patterns::new(secrets.iter().map(|secret| ("SECRET", secret.as_bytes())))
}

/// Processor time of this thread.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

struct Log {
    text: Vec<u8>,
    masked: Vec<u8>,
}

impl Log {
    fn new(secrets: &[String], random: &mut Random) -> Self {
        let mut log = Self {
            text: Vec::with_capacity(LOG_BYTES + 4096),
            masked: Vec::with_capacity(LOG_BYTES + 4096),
        };
        let forms: Vec<Vec<u8>> = secrets.iter().flat_map(|s| forms(s.as_bytes())).collect();
        while log.text.len() < LOG_BYTES {
            let line = random.line();
            if random.below(SECRET_LINES) == 0 {
                let form = random.pick(&forms);
                log.both(b"Authorization: [");
                log.text.extend_from_slice(form);
                log.masked.extend_from_slice(MASK);
                log.both(b"] ");
            }
            log.both(line.as_bytes());
            log.both(b"\n");
        }
        log
    }

    fn both(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
        self.masked.extend_from_slice(bytes);
    }

    /// Gigabytes a second, and the result byte for byte as it has to be.
    fn rate(&self, patterns: &Rc<Patterns>, chunk: usize) -> Result<f64> {
        let mut masker = Masker::new(Rc::clone(patterns));
        let mut out = Vec::with_capacity(PIPE_READ_BYTES * 2);
        let mut expected = self.masked.as_slice();
        let mut taken = Duration::ZERO;
        for piece in self.text.chunks(PIPE_READ_BYTES) {
            out.clear();
            let begun = spent();
            piece
                .chunks(chunk)
                .for_each(|bytes| masker.push(bytes, &mut out));
            taken += spent() - begun;
            let rest = expected.strip_prefix(out.as_slice());
            ensure!(rest.is_some(), "the masked log is not what it has to be");
            expected = rest.unwrap_or_default();
        }
        out.clear();
        masker.finish(&mut out);
        ensure!(out == expected, "the end of the masked log is missing");
        Ok(self.text.len() as f64 / taken.as_secs_f64() / 1e9)
    }

    fn copied(&self) -> f64 {
        let mut out = Vec::with_capacity(PIPE_READ_BYTES * 2);
        let begun = spent();
        for piece in self.text.chunks(PIPE_READ_BYTES) {
            out.clear();
            out.extend_from_slice(black_box(piece));
            black_box(&out);
        }
        self.text.len() as f64 / (spent() - begun).as_secs_f64() / 1e9
    }
}

/// The same log in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    fn pick<'t, T>(&mut self, items: &'t [T]) -> &'t T {
        let index = self.below(items.len() as u64) as usize;
        items.get(index).expect("an index below the length")
    }

    fn text(&mut self, length: usize, alphabet: &[u8]) -> String {
        (0..length)
            .map(|_| char::from(*self.pick(alphabet)))
            .collect()
    }

    /// Tokens, passwords, keys of many lines and service accounts, as a project has them.
    fn secret(&mut self, index: usize) -> String {
        const TOKEN: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        const PASSWORD: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789!#$%&/()=?*+-_.:;<>@\"'\\";
        match index % 10 {
            0 => {
                let lines: Vec<String> = (0..12).map(|_| self.text(64, TOKEN)).collect();
                lines.join("\n")
            }
            1 => format!(
                "{{\"id\":\"{}\",\"key\":\"{}\"}}",
                self.text(12, TOKEN),
                self.text(40, TOKEN)
            ),
            2..=4 => self.text(16, PASSWORD),
            5 | 6 => self.text(32, PASSWORD),
            _ => format!("tok_{}", self.text(36, TOKEN)),
        }
    }

    fn line(&mut self) -> String {
        const WORDS: [&str; 16] = [
            "the",
            "connection",
            "of",
            "worker",
            "was",
            "closed",
            "after",
            "retry",
            "building",
            "target",
            "release",
            "with",
            "features",
            "default",
            "tests",
            "passed",
        ];
        const CRATES: [&str; 6] = [
            "serde_json",
            "tokio",
            "hyper",
            "regex-automata",
            "syn",
            "rustls",
        ];
        const FILES: [&str; 4] = [
            "src/server/handler.rs",
            "lib/index.test.ts",
            "pkg/api/v1/types.go",
            "app/models/user.py",
        ];
        const HEX: &[u8] = b"0123456789abcdef";
        let number = self.below(100_000);
        match self.below(6) {
            0 => format!(
                "   Compiling {} v1.{}.{} ({})",
                self.pick(&CRATES),
                number % 90,
                number % 7,
                self.pick(&FILES)
            ),
            1 => format!(
                "test {}::case_{number} ... ok",
                self.pick(&FILES).replace('/', "::")
            ),
            2 => format!(
                "2026-11-21T00:{:02}:{:02}.{:03}Z INFO request{{id={} path=/api/v1/runs/{number}}}: finished status=200 elapsed={}us",
                number % 60,
                number % 59,
                number % 1000,
                self.text(16, HEX),
                number,
            ),
            3 => format!("sha256:{} {}", self.text(64, HEX), self.pick(&FILES)),
            4 => format!(
                "{{\"level\":\"info\",\"msg\":\"{} {}\",\"n\":{number}}}",
                self.pick(&WORDS),
                self.pick(&WORDS)
            ),
            _ => {
                let words: Vec<&str> = (0..14).map(|_| *self.pick(&WORDS)).collect();
                words.join(" ")
            }
        }
    }
}

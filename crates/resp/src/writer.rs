//! Answers of a server.

/// Which version of the protocol a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// What every client speaks, until `HELLO 3`.
    #[default]
    Resp2,
    /// With maps, sets, doubles and messages between answers.
    Resp3,
}

/// Appends answers to a buffer. What version 2 does not have becomes what Redis makes of it: maps
/// flat arrays, sets arrays, doubles and verbatim texts bulk strings.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    version: Version,
}

impl<'a> Writer<'a> {
    /// Writes behind what `out` has.
    #[inline]
    pub const fn new(out: &'a mut Vec<u8>, version: Version) -> Self {
        Self { out, version }
    }

    /// The version that is written.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Writes another version from here on.
    pub const fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// A short text without line ends; those that it has become spaces.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }

    /// An error: its code in capitals, then words. Line ends become spaces.
    pub fn error(&mut self, text: &str) {
        self.line(b'-', text);
    }

    /// A whole number.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        self.head(b':', value);
    }

    /// Any bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.head(b'$', bytes.len() as i64);
        self.out.reserve(bytes.len() + 2);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A whole number as text.
    #[inline]
    pub fn bulk_integer(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Nothing, where one value was asked for.
    #[inline]
    pub fn null(&mut self) {
        match self.version {
            Version::Resp2 => self.raw(b"$-1\r\n"),
            Version::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// Nothing, where an array was asked for.
    pub fn null_array(&mut self) {
        match self.version {
            Version::Resp2 => self.raw(b"*-1\r\n"),
            Version::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// So many answers follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.head(b'*', len as i64);
    }

    /// So many pairs of key and value follow.
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Resp2 => self.head(b'*', pairs as i64 * 2),
            Version::Resp3 => self.head(b'%', pairs as i64),
        }
    }

    /// So many different answers follow.
    pub fn set(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.head(b'*', len as i64),
            Version::Resp3 => self.head(b'~', len as i64),
        }
    }

    /// A message that answers nothing; so many parts follow.
    pub fn push(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.head(b'*', len as i64),
            Version::Resp3 => self.head(b'>', len as i64),
        }
    }

    /// A number with a fraction; 17 digits at most, so that it comes back the same.
    pub fn double(&mut self, value: f64) {
        let text = double_text(value);
        match self.version {
            Version::Resp2 => self.bulk(text.as_bytes()),
            Version::Resp3 => self.line(b',', &text),
        }
    }

    /// Plain text for people.
    pub fn verbatim(&mut self, text: &str) {
        match self.version {
            Version::Resp2 => self.bulk(text.as_bytes()),
            Version::Resp3 => {
                self.head(b'=', text.len() as i64 + 4);
                self.raw(b"txt:");
                self.raw(text.as_bytes());
                self.raw(b"\r\n");
            }
        }
    }

    /// Answers that were written before.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    fn head(&mut self, kind: u8, value: i64) {
        if let Ok(digit @ 0..10) = u8::try_from(value) {
            self.out
                .extend_from_slice(&[kind, b'0' + digit, b'\r', b'\n']);
            return;
        }
        self.out.push(kind);
        self.out
            .extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, kind: u8, text: &str) {
        self.out.push(kind);
        let plain = |byte: u8| match byte {
            b'\r' | b'\n' => b' ',
            byte => byte,
        };
        self.out.extend(text.bytes().map(plain));
        self.out.extend_from_slice(b"\r\n");
    }
}

fn double_text(value: f64) -> String {
    match value {
        f64::INFINITY => "inf".to_owned(),
        f64::NEG_INFINITY => "-inf".to_owned(),
        value if value.is_nan() => "nan".to_owned(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_written() {
        let write = |version| {
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out, version);
            writer.ok();
            writer.simple("a\r\nb");
            writer.error("ERR no\nway");
            writer.integer(-12);
            writer.integer(7);
            writer.bulk(b"ab");
            writer.bulk_integer(100);
            writer.null();
            writer.null_array();
            writer.array(1);
            writer.map(2);
            writer.set(12);
            writer.push(3);
            writer.double(1.5);
            writer.double(f64::INFINITY);
            writer.verbatim("hi");
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            write(Version::Resp2),
            "+OK\r\n+a  b\r\n-ERR no way\r\n:-12\r\n:7\r\n$2\r\nab\r\n$3\r\n100\r\n$-1\r\n*-1\r\n*1\r\n*4\r\n*12\r\n*3\r\n\
             $3\r\n1.5\r\n$3\r\ninf\r\n$2\r\nhi\r\n"
        );
        assert_eq!(
            write(Version::Resp3),
            "+OK\r\n+a  b\r\n-ERR no way\r\n:-12\r\n:7\r\n$2\r\nab\r\n$3\r\n100\r\n_\r\n_\r\n*1\r\n%2\r\n~12\r\n>3\r\n\
             ,1.5\r\n,inf\r\n=6\r\ntxt:hi\r\n"
        );
    }
}

//! Puts the segments of one direction of a TCP connection in order again.

/// Bytes that wait for those before them, at most, before these count as missing.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Segments that wait at most.
const WAITING_MAX: usize = 256;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Sequence number of the next byte; `None` before the first segment.
    next: Option<u32>,
    waiting: Vec<(u32, Vec<u8>)>,
    waiting_bytes: usize,
}

/// What comes out, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// The next bytes.
    Bytes(&'a [u8]),
    /// So many bytes are missing from the capture.
    Gap(u64),
}

impl Flow {
    /// The sender said where its bytes begin: behind its SYN.
    pub(crate) fn begin(&mut self, sequence: u32) {
        self.next.get_or_insert(sequence.wrapping_add(1));
    }

    /// Takes a segment and gives what is in order now.
    ///
    /// # Errors
    /// What `each` returns.
    pub(crate) fn add<E>(
        &mut self,
        sequence: u32,
        payload: &[u8],
        each: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if payload.is_empty() {
            return Ok(());
        }
        let next = *self.next.get_or_insert(sequence);
        if ahead(next, sequence) == 0 {
            self.deliver(sequence, payload, each)?;
            return self.deliver_waiting(each);
        }
        self.waiting_bytes += payload.len();
        self.waiting.push((sequence, payload.to_vec()));
        if self.waiting_bytes > WAITING_BYTES_MAX || self.waiting.len() > WAITING_MAX {
            self.pass_over(each)?;
        }
        Ok(())
    }

    /// The capture is over: what waits is given, and what it waits for counts as missing.
    ///
    /// # Errors
    /// What `each` returns.
    pub(crate) fn finish<E>(
        &mut self,
        each: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !self.waiting.is_empty() {
            self.pass_over(each)?;
        }
        Ok(())
    }

    /// Gives what is new of bytes that begin no later than the next one.
    fn deliver<E>(
        &mut self,
        sequence: u32,
        payload: &[u8],
        each: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let next = self.next.unwrap_or(sequence);
        let known = next.wrapping_sub(sequence) as usize;
        match payload.get(known..) {
            Some(fresh) if !fresh.is_empty() => {
                let length = u32::try_from(fresh.len()).unwrap_or(u32::MAX);
                self.next = Some(next.wrapping_add(length));
                each(Piece::Bytes(fresh))
            }
            // Sent before, and sent again because its acknowledgement was lost.
            _ => Ok(()),
        }
    }

    fn deliver_waiting<E>(
        &mut self,
        each: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(next) = self.next
            && let Some(at) = self
                .waiting
                .iter()
                .position(|(sequence, _)| ahead(next, *sequence) == 0)
        {
            let (sequence, payload) = self.waiting.swap_remove(at);
            self.waiting_bytes -= payload.len();
            self.deliver(sequence, &payload, each)?;
        }
        Ok(())
    }

    /// Gives up the bytes before the first that wait.
    fn pass_over<E>(&mut self, each: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        let next = self.next.unwrap_or_default();
        let first = self.waiting.iter().map(|(sequence, _)| *sequence);
        if let Some(sequence) = first.min_by_key(|sequence| ahead(next, *sequence)) {
            self.next = Some(sequence);
            each(Piece::Gap(ahead(next, sequence).into()))?;
        }
        self.deliver_waiting(each)
    }
}

/// How far `sequence` lies behind `next` on the circle of sequence numbers; 0 when it does not.
fn ahead(next: u32, sequence: u32) -> u32 {
    let distance = sequence.wrapping_sub(next);
    if distance < 1 << 31 { distance } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Sequence number and payload of a segment.
    type Sent<'a> = (u32, &'a [u8]);

    fn ordered(segments: &[Sent<'_>]) -> String {
        let mut flow = Flow::default();
        let mut text = String::new();
        let mut each = |piece: Piece<'_>| {
            match piece {
                Piece::Bytes(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
                Piece::Gap(bytes) => text.push_str(&format!("[{bytes}]")),
            }
            Ok::<(), Infallible>(())
        };
        for (sequence, payload) in segments {
            flow.add(*sequence, payload, &mut each).unwrap();
        }
        flow.finish(&mut each).unwrap();
        assert_eq!(flow.waiting_bytes, 0);
        text
    }

    #[test]
    fn bytes_come_out_in_order_and_once() {
        let cases: [(&[Sent], &str); 7] = [
            (&[(10, b"ab"), (12, b"cd")], "abcd"),
            (&[(10, b"ab"), (14, b"ef"), (12, b"cd")], "abcdef"),
            (&[(10, b"ab"), (10, b"ab"), (12, b"cd")], "abcd"),
            (&[(10, b"abcd"), (12, b"cdef")], "abcdef"),
            (&[(10, b"ab"), (15, b"fg")], "ab[3]fg"),
            // The numbers go round.
            (&[(u32::MAX, b"ab"), (3, b"ef"), (1, b"cd")], "abcdef"),
            (
                &[(10, b"ab"), (16, b"gh"), (13, b"de"), (12, b"c")],
                "abcde[1]gh",
            ),
        ];
        for (segments, expected) in cases {
            assert_eq!(ordered(segments), expected);
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut segments: Vec<(u32, &[u8])> = vec![(0, b"a")];
        segments.extend((0..300).map(|at| (10 + 2 * at, b"x" as &[u8])));
        let text = ordered(&segments);
        assert!(text.starts_with("a[9]x[1]x"), "{text}");
        assert_eq!(text.matches('x').count(), 300);
    }
}

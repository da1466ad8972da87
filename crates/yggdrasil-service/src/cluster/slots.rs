//! Which slot a key is in.

/// Slots that keys are spread over, as in Redis Cluster.
pub(crate) const SLOTS: u16 = 16384;

/// CRC-16/XMODEM: polynomial 0x1021, begins with 0, nothing reflected.
#[expect(
    clippy::indexing_slicing,
    reason = "it is done by the compiler, which would refuse"
)]
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = match crc & 0x8000 {
                0 => crc << 1,
                _ => crc << 1 ^ 0x1021,
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let index = usize::from(crc >> 8 ^ u16::from(*byte));
        crc << 8 ^ TABLE.get(index).copied().unwrap_or_default()
    })
}

/// The slot of a key: that of what stands in its first braces, where there is something in them, so
/// that keys can be kept together.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else {
        return key;
    };
    let inside = key.get(open + 1..).unwrap_or_default();
    match memchr::memchr(b'}', inside) {
        None | Some(0) => key,
        Some(close) => inside.get(..close).unwrap_or(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // The check value of CRC-16/XMODEM, and answers of CLUSTER KEYSLOT.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        let known: [(&[u8], u16); 8] = [
            (b"", 0),
            (b"foo", 12182),
            (b"somekey", 11058),
            (b"foo{hash_tag}", 2515),
            (b"bar{hash_tag}", 2515),
            (b"{}foo", 9500),
            (b"foo{}{bar}", 8363),
            (b"foo{{bar}}zap", 4015),
        ];
        for (key, slot) in known {
            assert_eq!(slot_of(key), slot, "{}", String::from_utf8_lossy(key));
        }
    }
}

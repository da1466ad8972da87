use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn key(byte: u8) -> ValueKey {
    let digits = format!("{byte:02x}").repeat(32);
    ValueKey::of_lines(&digits.into()).unwrap().remove(0)
}

fn codec(compression: Compression, keys: &[u8]) -> Codec {
    strict(compression, keys, Unencoded::Accept)
}

fn strict(compression: Compression, keys: &[u8], unencoded: Unencoded) -> Codec {
    let config = CodecConfig {
        compression,
        compress_from: 64,
        keys: keys.iter().copied().map(key).collect(),
        unencoded,
        value_bytes_max: 1 << 20,
    };
    Codec::new(config).unwrap()
}

fn encoded(codec: &Codec, key: &[u8], value: &[u8]) -> Bytes {
    codec.encode(key, value).unwrap().into_owned().into()
}

/// A value as this hexadecimal text.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn layout_is_as_it_is_described() {
    let plain = codec(Compression::None, &[]);
    assert_eq!(hex(&encoded(&plain, b"k", b"value")), hex(b"value"));
    // One that looks encoded is.
    let looks = [&MAGIC[..], b"x"].concat();
    assert_eq!(hex(&encoded(&plain, b"k", &looks)), "a7564b0100a7564b0178");
    let required = strict(Compression::None, &[], Unencoded::Refuse);
    assert_eq!(hex(&encoded(&required, b"k", b"v")), "a7564b010076");
    let lz4 = encoded(&codec(Compression::Lz4, &[]), b"k", &[b'a'; 100]);
    assert_eq!(hex(&lz4[..9]), "a7564b010164000000");
    let zstd = encoded(&codec(Compression::Zstd, &[]), b"k", &[b'a'; 100]);
    // The magic number of a frame of Zstandard.
    assert_eq!(hex(&zstd[..9]), "a7564b010228b52ffd");
    let sealed = encoded(&codec(Compression::None, &[7]), b"k", b"value");
    assert_eq!(sealed.len(), HEADER_BYTES + 4 + NONCE_BYTES + 5 + 16);
    assert_eq!(hex(&sealed[..5]), "a7564b0110");
    assert_eq!(&sealed[5..9], key(7).id());
}

#[test]
fn only_what_gets_smaller_is_compressed() {
    for compression in [Compression::Lz4, Compression::Zstd] {
        let codec = codec(compression, &[]);
        assert_eq!(encoded(&codec, b"k", &[b'a'; 63]).len(), 63);
        assert!(encoded(&codec, b"k", &[b'a'; 64]).len() < 64);
        let noise: Vec<u8> = (0..200_u32)
            .flat_map(|number| *blake3::hash(&number.to_be_bytes()).as_bytes())
            .collect();
        assert_eq!(encoded(&codec, b"k", &noise), noise);
    }
}

#[test]
fn long_values_need_no_long_window() {
    let lines = (0..300_000).map(|number| format!("the value of {number}\n"));
    let value: Vec<u8> = lines.flat_map(String::into_bytes).collect();
    for compression in [Compression::Lz4, Compression::Zstd] {
        let codec = Codec::new(CodecConfig {
            compression,
            ..CodecConfig::default()
        });
        let codec = codec.unwrap();
        let stored = encoded(&codec, b"k", &value);
        assert!(stored.len() < value.len());
        assert_eq!(codec.decode(b"k", stored).unwrap(), value);
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(
        name in proptest::collection::vec(any::<u8>(), 0..20),
        value in proptest::collection::vec(0..4_u8, 0..3000),
        raw in proptest::collection::vec(any::<u8>(), 0..300),
        keys in proptest::sample::subsequence(vec![1_u8, 2, 3], 0..3),
    ) {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            for unencoded in [Unencoded::Accept, Unencoded::Refuse] {
                let codec = strict(compression, &keys, unencoded);
                let looks = [&MAGIC[..], &raw].concat();
                for value in [&value, &raw, &looks] {
                    let stored = encoded(&codec, &name, value);
                    prop_assert!(stored.len() <= value.len() + OVERHEAD_BYTES);
                    prop_assert_eq!(&codec.decode(&name, stored).unwrap(), value);
                }
            }
        }
    }

    #[test]
    fn nothing_stored_makes_it_panic_or_grow(
        flags in any::<u8>(),
        body in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let codec = codec(Compression::Zstd, &[1]);
        let stored = [&MAGIC[..], &[flags], &body].concat();
        if let Ok(value) = codec.decode(b"k", stored.into()) {
            prop_assert!(value.len() <= 1 << 20);
        }
    }

    #[test]
    fn no_byte_of_an_encrypted_value_can_be_changed(at in 0_usize..60, by in 1..=255_u8) {
        let codec = strict(Compression::None, &[1], Unencoded::Refuse);
        let mut stored = encoded(&codec, b"k", b"some value").to_vec();
        let at = at % stored.len();
        stored[at] ^= by;
        prop_assert!(codec.decode(b"k", stored.into()).is_err());
    }
}

#[test]
fn values_stay_with_their_key_and_keys_are_needed() {
    let first = codec(Compression::None, &[1]);
    let stored = encoded(&first, b"a", b"value");
    assert_eq!(first.decode(b"b", stored.clone()), Err(CodecError::Forged));
    let other = codec(Compression::None, &[2]);
    let unknown = CodecError::UnknownKey(keys::shown(key(1).id()));
    assert_eq!(other.decode(b"a", stored.clone()), Err(unknown.clone()));
    let none = codec(Compression::None, &[]);
    assert_eq!(none.decode(b"a", stored.clone()), Err(unknown));
    // The new key encrypts, the old one still decrypts.
    let both = codec(Compression::None, &[2, 1]);
    assert_eq!(both.decode(b"a", stored).unwrap(), &b"value"[..]);
    let renewed = encoded(&both, b"a", b"value");
    assert_eq!(other.decode(b"a", renewed).unwrap(), &b"value"[..]);
    for cut in 0..30 {
        let stored = encoded(&first, b"a", b"value");
        let short = stored.slice(..stored.len() - 1 - cut);
        assert!(first.decode(b"a", short).is_err(), "{cut}");
    }
}

#[test]
fn what_is_not_encoded_is_given_or_refused() {
    let raw = Bytes::from_static(b"raw");
    let lax = codec(Compression::None, &[1]);
    assert_eq!(lax.decode(b"k", raw.clone()).unwrap(), raw);
    let strict_key = strict(Compression::None, &[1], Unencoded::Refuse);
    let refused = strict_key.decode(b"k", raw.clone());
    assert_eq!(refused, Err(CodecError::NotEncoded));
    // The header alone is easily made.
    let headed = encoded(
        &strict(Compression::None, &[], Unencoded::Refuse),
        b"k",
        b"v",
    );
    let refused = strict_key.decode(b"k", headed.clone());
    assert_eq!(refused, Err(CodecError::NotEncrypted));
    assert_eq!(lax.decode(b"k", headed).unwrap(), &b"v"[..]);
    for (stored, error) in [
        (&b"\xA7VK"[..], CodecError::Damaged),
        (b"\xA7VK\x02\x00v", CodecError::Unknown(2)),
        (b"\xA7VK\x01\x03v", CodecError::Unknown(3)),
        (b"\xA7VK\x01\x20v", CodecError::Unknown(0x20)),
        (b"\xA7VK\x01\x01v", CodecError::Damaged),
        (b"\xA7VK\x01\x02v", CodecError::Damaged),
        (b"\xA7VK\x01\x10v", CodecError::Damaged),
    ] {
        let found = lax.decode(b"k", Bytes::copy_from_slice(stored));
        assert_eq!(found, Err(error), "{stored:?}");
    }
}

#[test]
fn bombs_do_not_go_off() {
    let codec = codec(Compression::None, &[]);
    let big = vec![0; 16 << 20];
    let zstd = zstd::stream::encode_all(&big[..], 3).unwrap();
    let lz4 = lz4_flex::block::compress_prepend_size(&big);
    let stored = |flag: u8, body: &[u8]| [&MAGIC[..], &[flag], body].concat();
    let too_long = Err(CodecError::TooLong(1 << 20));
    assert!(zstd.len() < 10_000);
    assert_eq!(codec.decode(b"k", stored(2, &zstd).into()), too_long);
    assert_eq!(codec.decode(b"k", stored(1, &lz4).into()), too_long);
    // Its window would be all of it.
    let whole = zstd::bulk::compress(&big, 19).unwrap();
    let damaged = Err(CodecError::Damaged);
    assert_eq!(codec.decode(b"k", stored(2, &whole).into()), damaged);
    // Claims that nothing stands behind.
    let claim = [&(1_u32 << 20).to_le_bytes()[..], b"abc"].concat();
    assert_eq!(codec.decode(b"k", stored(1, &claim).into()), damaged);
    let long = [&u32::MAX.to_le_bytes()[..], b"abc"].concat();
    assert_eq!(codec.decode(b"k", stored(1, &long).into()), too_long);
    // Two frames, or something behind one.
    let twice = zstd::bulk::compress(b"value", 3).unwrap().repeat(2);
    assert_eq!(codec.decode(b"k", stored(2, &twice).into()), damaged);
    // A frame whose window alone would be 1 GiB.
    let window = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xA0, 0x01, 0x00, 0x00];
    assert_eq!(codec.decode(b"k", stored(2, &window).into()), damaged);
    let long = vec![0; (1 << 20) + 1];
    let refused = codec.encode(b"k", &long).unwrap_err();
    assert_eq!(refused, CodecError::TooLong(1 << 20));
}

#[test]
fn keys_are_lines_of_hex_digits() {
    let canary = "0123456789abcdef".repeat(4);
    let lines = |text: &str| ValueKey::of_lines(&text.into());
    let keys = lines(&format!("# new\n{canary}\n\n{}\n", "AB".repeat(32))).unwrap();
    assert_eq!(keys.len(), 2);
    assert!(!format!("{keys:?}").contains(&canary[..8]));
    assert_eq!(lines("").unwrap_err(), KeyError::None);
    assert_eq!(lines("# x").unwrap_err(), KeyError::None);
    let wrong = format!("{canary}\n{}g", &canary[1..]);
    assert_eq!(lines(&wrong).unwrap_err(), KeyError::Line(2));
    assert_eq!(lines(&canary[1..]).unwrap_err(), KeyError::Line(1));
    let twice = lines(&format!("{canary}\n{canary}")).unwrap_err();
    assert!(matches!(twice, KeyError::Twice(_)));
    let many: Vec<String> = (0..17)
        .map(|byte| format!("{byte:02x}").repeat(32))
        .collect();
    assert_eq!(lines(&many.join("\n")).unwrap_err(), KeyError::TooMany);
    let made = ValueKey::generate().unwrap();
    assert_eq!(ValueKey::of_lines(&made).unwrap().len(), 1);
}

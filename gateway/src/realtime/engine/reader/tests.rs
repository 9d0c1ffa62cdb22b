//! Frames whole, cut anywhere, and against each rule.

use super::*;

const MASK: [u8; 4] = [0x12, 0xf3, 0x05, 0x90];
const MAX: usize = 100_000;

/// A frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ ..=125 => bytes.push(0x80 | u8::try_from(length).expect("small")),
        length @ 126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(length).expect("small").to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

fn read_in_pieces(bytes: &[u8], piece: usize) -> Result<Vec<Incoming>, Broken> {
    let (mut reader, mut incoming) = (Reader::default(), Vec::new());
    for mut input in bytes.chunks(piece) {
        while let Some(whole) = reader.read(&mut input, MAX)? {
            incoming.push(whole);
        }
        assert!(input.is_empty(), "all is taken");
    }
    let idle = reader.begun.is_none() && reader.fragments.is_none() && reader.head.capacity() == 0;
    assert!(idle, "nothing is kept between messages");
    Ok(incoming)
}

fn read(bytes: &[u8]) -> Result<Vec<Incoming>, Broken> {
    read_in_pieces(bytes, usize::MAX)
}

fn text(text: &str) -> Incoming {
    Incoming::Text(text.to_owned())
}

#[test]
fn messages_are_the_same_however_they_are_cut() {
    let long = "é".repeat(40_000);
    let mut bytes = frame(0x81, b"4hello");
    bytes.extend(frame(0x81, b""));
    bytes.extend(frame(0x81, &b"x".repeat(126)));
    bytes.extend(frame(0x82, &[0, 1, 2]));
    bytes.extend(frame(0x81, long.as_bytes()));
    // A message in three frames, with a ping and a pong between them.
    bytes.extend(frame(0x01, "aé".as_bytes().split_at(2).0));
    bytes.extend(frame(0x89, b"ping"));
    bytes.extend(frame(0x00, "aé".as_bytes().split_at(2).1));
    bytes.extend(frame(0x8a, b""));
    bytes.extend(frame(0x80, b"end"));
    bytes.extend(frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e']));
    let expected = [
        text("4hello"),
        text(""),
        text(&"x".repeat(126)),
        Incoming::Binary,
        text(&long),
        Incoming::Ping(b"ping".to_vec()),
        Incoming::Pong,
        text("aéend"),
        Incoming::Close(vec![0x03, 0xe8]),
    ];
    for piece in [1, 2, 3, 5, 7, 13, 14, 4_096, usize::MAX] {
        assert_eq!(read_in_pieces(&bytes, piece).as_deref(), Ok(&expected[..]), "pieces of {piece}");
    }
}

#[test]
fn every_rule_that_is_broken_is_noticed() {
    let unmasked = vec![0x81, 1, b'4'];
    let mut two_texts = frame(0x01, b"a");
    two_texts.extend(frame(0x81, b"b"));
    let mut bad_fragments = frame(0x01, &[0xc3]);
    bad_fragments.extend(frame(0x80, &[0x28]));
    for (what, bytes, broken) in [
        ("unmasked", unmasked, Broken::Protocol),
        ("a reserved bit", frame(0xc1, b"4"), Broken::Protocol),
        ("a reserved opcode", frame(0x83, b""), Broken::Protocol),
        ("a reserved control", frame(0x8b, b""), Broken::Protocol),
        ("a control in pieces", frame(0x09, b""), Broken::Protocol),
        ("a long control", frame(0x89, &[0; 126]), Broken::Protocol),
        ("nothing to continue", frame(0x80, b"x"), Broken::Protocol),
        ("a message inside of another", two_texts, Broken::Protocol),
        ("half a close code", frame(0x88, &[3]), Broken::Protocol),
        ("a close code that is none", frame(0x88, &1005_u16.to_be_bytes()), Broken::Protocol),
        ("a close reason that is no text", frame(0x88, &[0x03, 0xe8, 0xff]), Broken::NotUtf8),
        ("no UTF-8", frame(0x81, &[0xff]), Broken::NotUtf8),
        ("half a character", frame(0x81, &[0xc3]), Broken::NotUtf8),
        ("no UTF-8 in pieces", bad_fragments, Broken::NotUtf8),
    ] {
        assert_eq!(read(&bytes), Err(broken), "{what}");
        assert_eq!(read_in_pieces(&bytes, 1), Err(broken), "{what}, byte by byte");
    }
}

#[test]
fn a_message_too_large_is_refused_by_its_header_and_costs_no_memory() {
    let mut reader = Reader::default();
    let mut header: &[u8] = &[0x81, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0x86, 0xa1, 1, 2, 3, 4];
    assert_eq!(reader.read(&mut header, MAX), Err(Broken::TooLarge), "100,001 bytes");
    let mut huge: &[u8] = &[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
    assert_eq!(Reader::default().read(&mut huge, MAX), Err(Broken::TooLarge));
    let mut reader = Reader::default();
    let mut allowed: &[u8] = &[0x81, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0x86, 0xa0, 1, 2, 3, 4];
    assert_eq!(reader.read(&mut allowed, MAX), Ok(None), "100,000 bytes");
    assert!(reader.begun.is_some_and(|begun| begun.payload.capacity() <= 4_096), "they have not come yet");
    // In pieces it is the sum that counts.
    let mut pieces = frame(0x01, &[b'x'; 60_000]);
    pieces.extend(frame(0x80, &[b'x'; 40_001]));
    assert_eq!(read(&pieces), Err(Broken::TooLarge));
}

#[test]
fn a_reader_stays_in_step_with_any_bytes() {
    // A cheap generator: the same bytes in every run.
    let mut seed = 7_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.to_be_bytes()[0]
    };
    for _ in 0..2_000 {
        let bytes: Vec<u8> = (0..64).map(|_| next()).collect();
        let whole = read_all(&bytes, usize::MAX);
        assert_eq!(whole, read_all(&bytes, 1), "{bytes:?}");
    }
}

fn read_all(bytes: &[u8], piece: usize) -> (Vec<Incoming>, Option<Broken>) {
    let (mut reader, mut incoming) = (Reader::default(), Vec::new());
    for mut input in bytes.chunks(piece) {
        loop {
            match reader.read(&mut input, MAX) {
                Ok(Some(whole)) => incoming.push(whole),
                Ok(None) => break,
                Err(broken) => return (incoming, Some(broken)),
            }
        }
    }
    (incoming, None)
}

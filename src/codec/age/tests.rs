//! Keys as people write them; streams in pieces of every size.

use proptest::prelude::*;

use super::*;

fn pair() -> (Recipients, Identities) {
    let identity = Identity::generate();
    (Recipients(vec![identity.to_public()]), Identities(Arc::new(vec![identity])))
}

fn public_key() -> String {
    Identity::generate().to_public().to_string()
}

#[test]
fn recipients_are_words_with_comments_and_each_counts_once() {
    let [first, second] = [public_key(), public_key()];
    let text = format!("# ours\n{first}, {second}\r\n\t{first} # again\n");
    assert_eq!(Recipients::parse(&text).expect("two keys").keys(), [first.clone(), second]);
    let refused = |text: &str| Recipients::parse(text).map(|known| known.keys()).expect_err("no key");
    assert!(refused("").contains("holds no public key"));
    assert!(refused("# age1").contains("holds no public key"));
    assert!(refused(&format!("{first} age1tag1qqq")).contains("key 2: it is a key of another kind"));
    assert!(refused(&first[..40]).contains("key 1: it is no public key"));
    assert!(refused("é").contains("key 1"));
}

#[test]
fn refusals_show_nothing_of_a_private_key() {
    let identity = Identity::generate();
    let key = secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
    let why = Recipients::parse(&key).expect_err("a private key");
    assert!(why.contains("private key") && !why.contains(&key[..20]), "{why}");
    let why = Identities::parse(&format!("# made by age-keygen\n{}", &key[..40])).expect_err("cut");
    assert!(why.contains("line 2") && !why.contains(&key[..20]), "{why}");
    let identities = Identities::parse(&format!("\n# public key\n {key} \n")).expect("an identity");
    assert_eq!(format!("{identities:?}"), "1 identities");
    assert_eq!(identities.public_keys(), [identity.to_public().to_string()]);
    assert_eq!(private_keys(&format!("x={key}, {}", key.to_lowercase())), [key.clone(), key.to_lowercase()]);
}

#[test]
fn a_key_is_shown_short() {
    let key = public_key();
    assert_eq!(short(&key), format!("{}…{}", &key[..9], &key[58..]));
    assert_eq!(short("age1"), "age1");
    assert_eq!(short("ééééééé"), "ééééééé");
}

#[test]
fn no_file_is_smaller_than_the_known_overhead() {
    let (recipients, identities) = pair();
    let file = encrypt(&recipients, b"").expect("encrypted");
    // This library adds a line of random length that opens nothing, so that other programs learn to skip what they do not know.
    assert!(file.len() as u64 >= SMALLEST_OVERHEAD, "{}", file.len());
    assert_eq!(decrypt(&identities, &file), Ok(Vec::new()));
    assert_eq!(decrypt(&pair().1, &file), Err(DecryptError::WrongIdentity));
}

/// Decrypts in pieces of this size.
fn in_pieces(identities: &Identities, file: &[u8], size: usize) -> Result<Vec<u8>, DecryptError> {
    let (mut decryptor, mut plain) = (Decryptor::new(identities.clone()), Vec::new());
    let mut take = |bytes: &[u8]| {
        plain.extend_from_slice(bytes);
        Ok::<_, DecryptError>(())
    };
    file.chunks(size).try_for_each(|piece| decryptor.decrypt(piece, &mut take))?;
    decryptor.finish(&mut take)?;
    Ok(plain)
}

#[test]
fn every_length_around_a_chunk_comes_back_in_pieces_of_every_size() {
    let (recipients, identities) = pair();
    for length in [0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 300_000] {
        let plain: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
        let file = encrypt(&recipients, &plain).expect("encrypted");
        for size in [37, 216, 65_552, file.len()] {
            assert!(in_pieces(&identities, &file, size).as_ref() == Ok(&plain), "{length} in pieces of {size}");
        }
        for cut in (1..file.len()).step_by(1 + file.len() / 40).chain([file.len() - 1]) {
            assert!(in_pieces(&identities, &file[..cut], 65_552).is_err(), "{length} cut to {cut}");
        }
        assert!(in_pieces(&identities, &[&file[..], b"x"].concat(), 1 << 20).is_err(), "{length}: a byte follows");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn no_flipped_bit_goes_unseen(length in 0usize..200_000, at in any::<proptest::sample::Index>(), bit in 0..8u8) {
        let (recipients, identities) = pair();
        let mut file = encrypt(&recipients, &vec![7; length]).expect("encrypted");
        let at = at.index(file.len());
        file[at] ^= 1 << bit;
        prop_assert!(in_pieces(&identities, &file, 70_000).is_err(), "byte {}", at);
    }
}

#[test]
fn a_file_longer_than_the_longest_header_is_decrypted_at_once() {
    let (recipients, identities) = pair();
    let plain = vec![7; 3 << 20];
    let file = encrypt(&recipients, &plain).expect("encrypted");
    assert!(decrypt(&identities, &file).as_ref() == Ok(&plain));
    let endless = [b"age-encryption.org/v1\n-> X25519 ".to_vec(), vec![b'a'; MOST_HEADER]].concat();
    assert!(matches!(decrypt(&identities, &endless), Err(DecryptError::Damaged(_))));
}

/// Decrypts a section from its chunks alone, in pieces of this size.
fn section(
    identities: &Identities,
    (file, length): (&[u8], u64),
    section: std::ops::Range<u64>,
    size: usize,
) -> Result<Vec<u8>, DecryptError> {
    let sections = Sections::open(&file[..file.len().min(16 << 10)], identities, length)?.expect("a header");
    assert_eq!(sections.object_bytes(), file.len() as u64);
    let stored = sections.stored(&section);
    let stored = [stored.start, stored.end].map(|at| usize::try_from(at).expect("small"));
    let (mut decryptor, mut plain) = (sections.decryptor(section)?, Vec::new());
    let mut take = |bytes: &[u8]| {
        plain.extend_from_slice(bytes);
        Ok::<_, DecryptError>(())
    };
    file[stored[0]..stored[1]].chunks(size).try_for_each(|piece| decryptor.decrypt(piece, &mut take))?;
    assert_eq!(decryptor.missing(), 0);
    Ok(plain)
}

#[test]
fn sections_come_from_their_chunks_alone_whatever_their_edges() {
    let (recipients, identities) = pair();
    for length in [1, 65_535, 65_536, 65_537, 131_072, 131_073, 300_000_u32] {
        let plain: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let file = encrypt(&recipients, &plain).expect("encrypted");
        let edges = [0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 196_608, 299_999, 300_000];
        let edges: Vec<u32> = edges.into_iter().filter(|edge| *edge <= length).collect();
        for start in &edges {
            for end in edges.iter().filter(|end| *end > start) {
                for size in [216, 65_552, file.len()] {
                    let read = section(&identities, (&file, length.into()), (*start).into()..(*end).into(), size);
                    assert!(
                        read.as_deref() == Ok(&plain[*start as usize..*end as usize]),
                        "{start}..{end} of {length}"
                    );
                }
            }
        }
    }
    assert!(matches!(Sections::open(b"age-encryption.org/v1\n-> X", &identities, 1), Ok(None)));
}

#[test]
fn damage_ends_a_section_only_if_it_is_in_its_chunks() {
    let (recipients, identities) = pair();
    let plain: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    let file = encrypt(&recipients, &plain).expect("encrypted");
    let stored = Sections::open(&file, &identities, 300_000).expect("opened").expect("a header").stored(&(0..1));
    let begin = usize::try_from(stored.start).expect("small");
    let (mut flipped, mut swapped) = (file.clone(), file.clone());
    flipped[begin + 2 * 65_552 + 9] ^= 1;
    let (first, second) = swapped[begin + 65_552..begin + 3 * 65_552].split_at_mut(65_552);
    first.swap_with_slice(second);
    for (damaged, chunks) in [(flipped, 2..3_u64), (swapped, 1..3)] {
        for chunk in 0..4 {
            let wanted = chunk * 65_536 + 5..(chunk + 1) * 65_536;
            let read = section(&identities, (&damaged, 300_000), wanted.clone(), 70_000);
            let place = format!("the chunk at byte {} of the object", begin as u64 + chunk * 65_552);
            match read {
                Err(error) => assert!(chunks.contains(&chunk) && error.to_string().contains(&place), "{error}"),
                Ok(read) => {
                    let wanted = [wanted.start, wanted.end].map(|at| usize::try_from(at).expect("small"));
                    assert!(!chunks.contains(&chunk) && read == plain[wanted[0]..wanted[1]], "{chunk}");
                }
            }
        }
    }
    let others = Sections::open(&file, &pair().1, 300_000).map(drop);
    assert_eq!(others, Err(DecryptError::WrongIdentity));
}

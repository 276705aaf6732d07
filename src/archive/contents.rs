//! The content of a stored backup: its sha256, its compressed stream, and the dump in it.
//!
//! [`super::Reader`] feeds the bytes in order. Without a manifest there are no checksums to compare, but the codec's own and the
//! end of the dump are still verified. Memory is that of one unpacked piece.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use flate2::Crc;
use sha2::{Digest, Sha256};

use crate::codec::age::{DecryptError, Decryptor, Identities};
use crate::codec::zstd::PlainEnd;
use crate::codec::{Codec, Decoder};
use crate::index::Index;
use crate::pipeline::scanner::{ScanReport, Scanner};

use super::index_check::{IndexChecker, IndexMismatch, VerifiedIndex};

/// A backup that was read, to its end or to the first damage.
#[derive(Debug)]
pub struct Contents {
    /// Stored bytes, and their sha256 in hexadecimal; `None` if reading ended at damage.
    pub(super) stored: Option<(u64, String)>,
    /// The codec that its name says.
    pub(super) codec: Codec,
    /// The dump in it, or why there is none.
    pub(super) dump: Result<Dump, Unreadable>,
    /// Whether the index is that of the object, if it was compared.
    pub(super) index: Option<Result<VerifiedIndex, IndexMismatch>>,
}

/// Why a dump was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The damage of the compressed stream.
    Codec(String),
    /// The encrypted stream is damaged, or is for other identities.
    Encryption(DecryptError),
    /// It is encrypted, and there is no identity.
    Closed,
}

impl From<DecryptError> for Unreadable {
    fn from(error: DecryptError) -> Self {
        Self::Encryption(error)
    }
}

/// How the compressed stream is stored.
pub(super) enum Seal {
    /// As it is.
    None,
    /// Encrypted, with an identity to open it.
    Age(Box<Decryptor>),
    /// Encrypted, and nothing opens it: only the stored bytes are read.
    Closed,
}

impl Seal {
    /// The seal of an object that is encrypted, with the identities that there are.
    pub fn encrypted(identities: Option<&Identities>) -> Self {
        identities.map_or(Self::Closed, |identities| Self::Age(Box::new(Decryptor::new(identities.clone()))))
    }
}

/// The dump of a backup.
#[derive(Debug)]
pub struct Dump {
    /// CRC-32 of the plain dump.
    pub(super) crc32: u32,
    /// Rows, and whether the dump is complete.
    pub(super) scan: ScanReport,
}

/// The form in which the sink gets the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The plain dump.
    Plain,
    /// The bytes as they are stored.
    Stored,
}

/// What to do after damage to the compressed stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// The rest is counted and hashed.
    ReadOn,
    /// Nothing: the reading ends.
    End,
}

/// A backup that is being read.
pub(super) struct Unpacker<W: Write> {
    bytes: u64,
    sha256: Sha256,
    codec: Codec,
    seal: Seal,
    decoder: Decoder<Tap<W>>,
    flaw: Option<Unreadable>,
    damage: Damage,
    index: Option<IndexChecker>,
}

impl<W: Write> Unpacker<W> {
    /// Starts before the first byte of the object.
    pub fn new(sink: W, (codec, seal): (Codec, Seal), (form, damage): (Form, Damage)) -> Self {
        let tap = Tap { crc: Crc::new(), scanner: Scanner::default(), sink: Some(sink), form, failed: None };
        let decoder = Decoder::new(codec, tap);
        Self { bytes: 0, sha256: Sha256::new(), codec, seal, decoder, flaw: None, damage, index: None }
    }

    /// Compares an index, too.
    pub fn with_index(mut self, index: Option<Arc<Index>>) -> Self {
        self.index = index.map(IndexChecker::start);
        if let Some(checker) = &self.index {
            self.decoder.sink().scanner = Scanner::indexing(checker.builder());
        }
        self
    }

    /// Takes the next bytes of the object. Breaks if no more are needed.
    pub fn take(&mut self, piece: &[u8]) -> ControlFlow<()> {
        self.decoder.sink().put(Form::Stored, piece);
        if self.flaw.is_none() {
            self.flaw = self.unpack(piece).err();
        }
        self.sha256.update(piece);
        self.bytes += piece.len() as u64;
        let is_over = self.decoder.sink().failed.is_some() || self.is_cut_short();
        if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn unpack(&mut self, piece: &[u8]) -> Result<(), Unreadable> {
        let mut unpack = unpacking(&mut self.decoder, &mut self.index);
        match &mut self.seal {
            Seal::None => unpack(piece),
            Seal::Age(decryptor) => decryptor.decrypt(piece, unpack),
            Seal::Closed => Ok(()),
        }
    }

    /// Unpacks what the encryption holds back until the end.
    fn unseal(&mut self) -> Result<(), Unreadable> {
        let unpack = unpacking(&mut self.decoder, &mut self.index);
        match &mut self.seal {
            Seal::None => Ok(()),
            Seal::Age(decryptor) => decryptor.finish(unpack),
            Seal::Closed => Err(Unreadable::Closed),
        }
    }

    fn is_cut_short(&self) -> bool {
        self.flaw.is_some() && self.damage == Damage::End
    }

    /// Returns the sink and the result, after the last byte; or the sink's error.
    pub fn finish(mut self) -> (W, io::Result<Contents>) {
        if self.flaw.is_none() {
            self.flaw = self.unseal().err();
        }
        // After damage, the bytes that the decoder still buffers are not needed.
        let sink = self.flaw.is_some().then(|| self.take_sink());
        let ended = self.decoder.finish();
        let is_cut_short = self.is_cut_short();
        let sink = sink.unwrap_or_else(|| self.take_sink());
        let tap = self.decoder.sink();
        let (crc32, failed) = (tap.crc.sum(), tap.failed.take());
        let (scan, entries) = std::mem::take(&mut tap.scanner).finish_indexing();
        let index = self.index.map(|index| index.finish(entries));
        let dump = match self.flaw {
            Some(flaw) => Err(flaw),
            None => ended.and_then(|end| as_recorded(end, Dump { crc32, scan })).map_err(Unreadable::Codec),
        };
        let stored = (!is_cut_short).then(|| (self.bytes, hex::encode(self.sha256.finalize())));
        (sink, failed.map_or(Ok(Contents { stored, codec: self.codec, dump, index }), Err))
    }

    /// Returns the sink; nothing more is written to it.
    pub fn into_sink(mut self) -> W {
        self.take_sink()
    }

    fn take_sink(&mut self) -> W {
        let sink = self.decoder.sink().sink.take();
        sink.unwrap_or_else(|| unreachable!("it is taken once"))
    }
}

/// Takes the compressed stream, which is no longer encrypted: for the dump, and for the ranges of the index.
fn unpacking<W: Write>(
    decoder: &mut Decoder<W>,
    index: &mut Option<IndexChecker>,
) -> impl FnMut(&[u8]) -> Result<(), Unreadable> {
    move |bytes| {
        if let Some(index) = index {
            index.take(bytes);
        }
        decoder.unpack(bytes).map_err(Unreadable::Codec)
    }
}

/// Compares a dump with the end of its stream.
fn as_recorded(end: Option<PlainEnd>, dump: Dump) -> Result<Dump, String> {
    match end {
        Some(end) if end != (PlainEnd { bytes: dump.scan.bytes, crc32: dump.crc32 }) => {
            let PlainEnd { bytes, crc32 } = end;
            let (unpacked, sum) = (dump.scan.bytes, dump.crc32);
            Err(format!(
                "frames are missing or not its own: {bytes} bytes with CRC-32 {crc32:08x} were compressed, not {unpacked} with {sum:08x}"
            ))
        }
        _ => Ok(dump),
    }
}

/// Receives the plain dump: scans every byte, passes it on, and keeps none.
struct Tap<W> {
    crc: Crc,
    scanner: Scanner,
    sink: Option<W>,
    form: Form,
    failed: Option<io::Error>,
}

impl<W: Write> Tap<W> {
    /// Passes bytes to the sink if it wants this form, until the sink fails.
    fn put(&mut self, form: Form, bytes: &[u8]) {
        if let Some(sink) = self.sink.as_mut().filter(|_| self.form == form && self.failed.is_none()) {
            self.failed = sink.write_all(bytes).err();
        }
    }
}

impl<W: Write> Write for Tap<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.crc.update(bytes);
        self.scanner.scan(bytes);
        self.put(Form::Plain, bytes);
        // An error of the sink is not damage of the stream.
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const DUMP: &[u8] = b"--\n-- PostgreSQL database dump\n--\n\n--\n-- PostgreSQL database dump complete\n--\n\n";

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).expect("to memory");
        encoder.finish().expect("to memory")
    }

    /// Reads it in pieces of several sizes; the result must be the same.
    fn read(object: &[u8]) -> Result<Option<String>, String> {
        read_as(Codec::Gzip, object)
    }

    fn read_as(codec: Codec, object: &[u8]) -> Result<Option<String>, String> {
        let outcomes = [1, 7, 18, object.len()].map(|size| {
            let mut unpacker = Unpacker::new(io::sink(), (codec, Seal::None), (Form::Plain, Damage::ReadOn));
            object.chunks(size).for_each(|piece| assert!(unpacker.take(piece).is_continue()));
            let contents = unpacker.finish().1.expect("a sink takes everything");
            assert_eq!(contents.stored, Some((object.len() as u64, hex::encode(Sha256::digest(object)))));
            let dump = contents.dump.map(|dump| dump.scan.flaw.map(|flaw| flaw.to_string()));
            dump.map_err(|unreadable| match unreadable {
                Unreadable::Codec(why) => why,
                other => format!("{other:?}"),
            })
        });
        let first = outcomes[0].clone();
        assert!(outcomes.iter().all(|outcome| outcome.is_ok() == first.is_ok()), "{outcomes:?}");
        first
    }

    #[test]
    fn a_whole_dump_in_one_member_is_sound() {
        assert_eq!(read(&packed(DUMP)), Ok(None));
    }

    #[test]
    fn a_cut_dump_in_a_whole_member_is_told() {
        assert!(read(&packed(&DUMP[..40])).expect("gzip is complete").is_some());
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_found() {
        let object = packed(DUMP);
        for length in 1..object.len() {
            assert!(read(&object[..length]).is_err(), "cut to {length}");
        }
        // Flags, time, level and system in the header (bytes 3 to 9) say nothing about the content.
        for at in (0..3).chain(10..object.len()) {
            let mut damaged = object.clone();
            damaged[at] ^= 1;
            assert!(read(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn nothing_may_follow_the_member() {
        let object = packed(DUMP);
        for behind in [vec![0], object.clone(), vec![b'x'; 100]] {
            let why = read(&[object.clone(), behind].concat()).expect_err("something follows");
            assert!(why.contains("something follows"), "{why}");
        }
    }

    /// A dump in frames of 7 bytes.
    fn frames(plain: &[u8]) -> Vec<Vec<u8>> {
        let mut encoder = crate::codec::zstd::Encoder::new(1).expect("memory");
        let frame = |block| {
            let mut frame = Vec::new();
            encoder.block(block, &mut frame).expect("compressed");
            frame
        };
        plain.chunks(7).map(frame).collect()
    }

    #[test]
    fn a_dump_in_zstd_frames_is_read_to_its_end() {
        let read = |object: &[u8]| read_as(Codec::Zstd, object);
        let frames = frames(DUMP);
        assert_eq!(read(&frames.concat()), Ok(None));
        let mut crc = Crc::new();
        crc.update(DUMP);
        let end = Codec::Zstd.end(&crc, DUMP.len() as u64);
        assert_eq!(read(&[frames.concat(), end.clone()].concat()), Ok(None));
        for cut in 1..end.len() {
            assert!(read(&[&frames.concat(), &end[..cut]].concat()).is_err(), "{cut} bytes of the last frame");
        }
        for gone in 0..frames.len() {
            let rest = frames.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, frame)| frame.as_slice());
            let why = read(&[rest.collect::<Vec<_>>().concat(), end.clone()].concat()).expect_err("a frame is missing");
            assert!(why.contains("missing"), "{why}");
        }
        for count in 1..frames.len() {
            assert!(read(&frames[..count].concat()).expect("zstd is complete").is_some(), "{count} frames");
        }
        assert!(read(&[frames.concat(), vec![0]].concat()).is_err(), "a byte follows");
        assert!(read(&[frames.concat(), vec![b'x'; 100]].concat()).is_err(), "text follows");
        assert!(read(&packed(DUMP)).is_err(), "gzip is no zstd");
    }

    #[test]
    fn every_truncated_frame_and_every_flipped_byte_of_zstd_is_found() {
        let frames = frames(DUMP);
        let (mut object, mut ends) = (Vec::new(), Vec::new());
        for frame in frames {
            object.extend(frame);
            ends.push(object.len());
        }
        for length in (1..object.len()).filter(|length| !ends.contains(length)) {
            assert!(read_as(Codec::Zstd, &object[..length]).is_err(), "cut to {length}");
        }
        for at in 0..object.len() {
            let mut damaged = object.clone();
            damaged[at] ^= 1;
            // A flipped bit in the magic number can make a frame one that is skipped: the end of the dump shows that.
            assert!(!matches!(read_as(Codec::Zstd, &damaged), Ok(None)), "byte {at}");
        }
    }
}

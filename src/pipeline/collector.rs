//! Puts compressed pieces back in order, makes one stream of them, and seals it into parts.
//!
//! One thread, between the workers and the upload. With recipients it encrypts the stream: it alone writes it, in order. Each byte is
//! hashed once as its part grows: for the part's MD5 or CRC-64/NVME, and for the object's sha256. Hashed when it is sealed, each part
//! would hold the workers up for a moment. The last part is sealed after the dump has been verified ([`FinishGate`]),
//! so the object of a failed dump is never completed.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use flate2::Crc;
use md5::Md5;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::deflate::PendingPiece;
use super::{PartBuffer, PartMemory, PipelineError, Progress};
use crate::codec::Codec;
use crate::codec::age::{Encryptor, Recipients};
use crate::index::{Point, Stream};

const CRC64_NVME: crc_fast::CrcAlgorithm = crc_fast::CrcAlgorithm::Crc64Nvme;

/// The checksum that a part carries to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartChecksum {
    /// `Content-MD5`, which every S3 server enforces. A plain `ETag` is made of it.
    Md5,
    /// CRC-64/NVME, which AWS combines into the entire object's.
    Crc64Nvme,
    /// Nothing but the request's signature.
    None,
}

impl PartChecksum {
    /// Computes it.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> PartDigest {
        let mut digesting = self.begin();
        digesting.update(bytes);
        digesting.finish()
    }

    fn begin(self) -> Digesting {
        match self {
            Self::Md5 => Digesting::Md5(Md5::new()),
            Self::Crc64Nvme => Digesting::Crc64Nvme(Box::new(crc_fast::Digest::new(CRC64_NVME))),
            Self::None => Digesting::None,
        }
    }
}

/// The checksum of a part that grows.
enum Digesting {
    Md5(Md5),
    Crc64Nvme(Box<crc_fast::Digest>),
    None,
}

impl Digesting {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(md5) => md5.update(bytes),
            Self::Crc64Nvme(crc) => crc.update(bytes),
            Self::None => {}
        }
    }

    fn finish(self) -> PartDigest {
        match self {
            Self::Md5(md5) => PartDigest::Md5(md5.finalize().into()),
            Self::Crc64Nvme(crc) => PartDigest::Crc64Nvme(crc.finalize()),
            Self::None => PartDigest::None,
        }
    }
}

/// The checksum of one part's bytes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartDigest {
    /// MD5, 16 bytes.
    Md5([u8; 16]),
    /// CRC-64/NVME.
    Crc64Nvme(u64),
    /// None was asked for.
    None,
}

/// One part, ready to be sent any number of times; cheap to clone.
#[derive(Clone)]
pub struct SealedPart {
    /// From 1.
    pub number: u32,
    /// Its bytes. The memory is free for another part once no clone is left.
    pub bytes: Bytes,
    /// Its checksum.
    pub digest: PartDigest,
}

/// What the finished object is, as computed while it was made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// Length of the plain dump in bytes.
    pub plain_bytes: u64,
    /// CRC-32 of the plain dump.
    pub plain_crc32: u32,
    /// Length of the object in bytes.
    pub object_bytes: u64,
    /// sha256 of the object.
    pub object_sha256: [u8; 32],
    /// CRC-64/NVME of the object, if parts carry it.
    pub object_crc64: Option<u64>,
    /// Number of parts.
    pub parts: u32,
}

/// What the collector has made.
#[derive(Debug)]
pub struct Collected {
    /// The object.
    pub totals: Totals,
    /// Its restart points.
    pub stream: Stream,
}

/// Lets the collector end the object. Dropped without [`FinishGate::open`], it makes the last part impossible.
pub struct FinishGate(pub(super) Sender<()>);

impl FinishGate {
    /// The dump is verified: the object may be ended.
    pub fn open(self) {
        // A collector that has ended reports why itself.
        let _ = self.0.send(());
    }
}

pub(super) struct Collector {
    pub codec: Codec,
    /// Whom the object is encrypted for.
    pub recipients: Option<Recipients>,
    pub memory: PartMemory,
    pub checksum: PartChecksum,
    pub parts: mpsc::UnboundedSender<SealedPart>,
    pub runtime: tokio::runtime::Handle,
    pub progress: Arc<Progress>,
    pub cancel: CancellationToken,
    /// Returns the memory of used pieces to the workers.
    pub spent: Sender<Vec<u8>>,
}

/// The compressed stream: restart points count its bytes, which are the object's only without encryption.
struct Packed {
    encryptor: Option<Encryptor>,
    bytes: u64,
}

impl Collector {
    /// Runs until the last piece, or until another stage ends early.
    pub fn run(self, pieces: &Receiver<PendingPiece>, gate: &Receiver<()>) -> Result<Collected, PipelineError> {
        let mut object = Object::new(self.checksum);
        let mut packed = Packed { encryptor: self.recipients.as_ref().map(Encryptor::new).transpose()?, bytes: 0 };
        let mut ranges = Ranges::new(self.codec);
        let mut pieces = pieces.iter().peekable();
        // No memory before the first piece: a dump that waits for a lock would hold a part that the other dumps of the run need.
        pieces.peek();
        self.add(&mut object, &mut packed, self.codec.header())?;
        for pending in pieces {
            let piece = pending.wait()?;
            ranges.add(&piece.crc);
            if let Some(rest) = &piece.rest {
                ranges.begin(packed.bytes + rest.at as u64);
                ranges.add(&rest.crc);
            }
            self.add(&mut object, &mut packed, &piece.bytes)?;
            // A send fails if the workers have ended.
            let _ = self.spent.try_send(piece.bytes);
        }
        // The pieces have ended; whether the dump is complete is decided elsewhere.
        gate.recv().map_err(|_| PipelineError::GivenUp)?;
        self.add(&mut object, &mut packed, &self.codec.end(&ranges.crc, ranges.plain_bytes))?;
        if let Some(encryptor) = packed.encryptor.take() {
            encryptor.finish(|bytes| self.append(&mut object, bytes))?;
        }
        self.seal(&mut object)?;
        let totals = Totals {
            plain_bytes: ranges.plain_bytes,
            plain_crc32: ranges.crc.sum(),
            object_bytes: object.bytes,
            object_sha256: object.sha256.finalize().into(),
            object_crc64: (self.checksum == PartChecksum::Crc64Nvme).then_some(object.crc64),
            parts: object.number - 1,
        };
        let stream = Stream { codec: self.codec, codec_bytes: packed.bytes, points: ranges.end() };
        Ok(Collected { totals, stream })
    }

    /// Adds bytes of the compressed stream, encrypted if there are recipients.
    fn add(&self, object: &mut Object, packed: &mut Packed, bytes: &[u8]) -> Result<(), PipelineError> {
        packed.bytes += bytes.len() as u64;
        match &mut packed.encryptor {
            Some(encryptor) => encryptor.encrypt(bytes, |bytes| self.append(object, bytes)),
            None => self.append(object, bytes),
        }
    }

    /// Adds bytes of the object.
    fn append(&self, object: &mut Object, mut bytes: &[u8]) -> Result<(), PipelineError> {
        object.sha256.update(bytes);
        object.bytes += bytes.len() as u64;
        self.progress.add_stored(bytes.len() as u64);
        while !bytes.is_empty() {
            let part_bytes = part_capacity(self.memory.plan().size_of(object.number));
            let part = match &mut object.part {
                Some(part) => part.bytes(),
                next => next.insert(self.buffer(object.number)?).bytes(),
            };
            let (now, later) = bytes.split_at((part_bytes - part.len()).min(bytes.len()));
            part.extend_from_slice(now);
            object.digest.update(now);
            bytes = later;
            if part.len() == part_bytes && !bytes.is_empty() {
                self.seal(object)?;
            }
        }
        Ok(())
    }

    /// A buffer for a part; waits until enough memory is free.
    fn buffer(&self, number: u32) -> Result<PartBuffer, PipelineError> {
        let since = Instant::now();
        let taking = self.memory.take(self.memory.plan().size_of(number));
        let taken = self.runtime.block_on(self.cancel.run_until_cancelled(taking));
        self.progress.stall_times.add_part(since);
        taken.ok_or(PipelineError::GivenUp)
    }

    /// Hands the current part over.
    fn seal(&self, object: &mut Object) -> Result<(), PipelineError> {
        let (number, plan) = (object.number, self.memory.plan());
        if number > plan.max_parts() {
            return Err(PipelineError::TooManyParts { limit: plan.max_parts() });
        }
        if plan.is_nearly_full(number) {
            tracing::warn!(
                part = number,
                limit = plan.max_parts(),
                "80 % of the parts are used: set BACKUP_PART_SIZE higher"
            );
        }
        let bytes = object.part.take().map(PartBuffer::seal).unwrap_or_default();
        let digest = std::mem::replace(&mut object.digest, self.checksum.begin()).finish();
        if let PartDigest::Crc64Nvme(crc) = digest {
            object.crc64 = crc_fast::checksum_combine(CRC64_NVME, object.crc64, crc, bytes.len() as u64);
        }
        object.number += 1;
        self.parts.send(SealedPart { number, bytes, digest }).map_err(|_| PipelineError::GivenUp)
    }
}

/// The object while it grows.
struct Object {
    /// The part that is being filled; its buffer is taken with its first byte.
    part: Option<PartBuffer>,
    digest: Digesting,
    number: u32,
    bytes: u64,
    sha256: Sha256,
    crc64: u64,
}

impl Object {
    fn new(checksum: PartChecksum) -> Self {
        Self { part: None, digest: checksum.begin(), number: 1, bytes: 0, sha256: Sha256::new(), crc64: 0 }
    }
}

/// The ranges of the stream: each begins at a restart point.
struct Ranges {
    points: Vec<Point>,
    /// CRC-32 of the last range.
    range: Crc,
    /// CRC-32 of all plain bytes.
    crc: Crc,
    plain_bytes: u64,
}

impl Ranges {
    fn new(codec: Codec) -> Self {
        let first = Point { plain_at: 0, codec_at: codec.header().len() as u64, crc32: 0 };
        Self { points: vec![first], range: Crc::new(), crc: Crc::new(), plain_bytes: 0 }
    }

    fn add(&mut self, piece: &Crc) {
        self.plain_bytes += u64::from(piece.amount());
        self.crc.combine(piece);
        self.range.combine(piece);
    }

    /// Ends a range, and begins one at this offset in the stream.
    fn begin(&mut self, codec_at: u64) {
        self.end_range();
        self.points.push(Point { plain_at: self.plain_bytes, codec_at, crc32: 0 });
    }

    fn end_range(&mut self) {
        let ended = std::mem::take(&mut self.range);
        if let Some(point) = self.points.last_mut() {
            point.crc32 = ended.sum();
        }
    }

    fn end(mut self) -> Vec<Point> {
        self.end_range();
        self.points
    }
}

/// A part's size as a length in memory; a 32-bit system has a smaller limit.
fn part_capacity(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX / 2)
}

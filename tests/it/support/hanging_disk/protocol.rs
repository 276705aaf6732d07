//! The kernel's side of FUSE, as far as a file system in memory needs it: requests as they come from `/dev/fuse`, answers as
//! they go there (`linux/fuse.h`, version 7.31; all numbers in the machine's own order).

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};

/// The largest write that the kernel may send, and a head: the size of its buffer.
pub const BUFFER_BYTES: usize = MAX_WRITE as usize + 4096;
const MAX_WRITE: u32 = 128 << 10;
const HEAD_BYTES: usize = 40;
const VERSION: [u32; 2] = [7, 31];
/// `FUSE_BIG_WRITES`
const BIG_WRITES: u32 = 1 << 5;

/// No such file.
pub const ENOENT: i32 = 2;
/// An error of the disk.
pub const EIO: i32 = 5;
/// It is there already.
pub const EEXIST: i32 = 17;
/// Not known here: the kernel does without.
pub const ENOSYS: i32 = 38;
/// It holds something.
pub const ENOTEMPTY: i32 = 39;

/// What the kernel asks for, as far as it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Lookup = 1,
    GetAttr = 3,
    SetAttr = 4,
    Mkdir = 9,
    Unlink = 10,
    Rmdir = 11,
    Rename = 12,
    Open = 14,
    Read = 15,
    Write = 16,
    StatFs = 17,
    Release = 18,
    Fsync = 20,
    Flush = 25,
    Init = 26,
    OpenDir = 27,
    ReadDir = 28,
    ReleaseDir = 29,
    FsyncDir = 30,
    Create = 35,
    Destroy = 38,
    Rename2 = 45,
}

impl Call {
    const ALL: [Self; 22] = [
        Self::Lookup,
        Self::GetAttr,
        Self::SetAttr,
        Self::Mkdir,
        Self::Unlink,
        Self::Rmdir,
        Self::Rename,
        Self::Open,
        Self::Read,
        Self::Write,
        Self::StatFs,
        Self::Release,
        Self::Fsync,
        Self::Flush,
        Self::Init,
        Self::OpenDir,
        Self::ReadDir,
        Self::ReleaseDir,
        Self::FsyncDir,
        Self::Create,
        Self::Destroy,
        Self::Rename2,
    ];
}

/// One request.
pub struct Request<'a> {
    /// What for; `None` where it is not known here.
    pub call: Option<Call>,
    /// Its number.
    pub id: u64,
    /// The file or directory.
    pub node: u64,
    code: u32,
    body: &'a [u8],
}

impl Request<'_> {
    /// Whether the kernel waits for an answer: not to FORGET, BATCH_FORGET and INTERRUPT.
    pub fn wants_answer(&self) -> bool {
        ![2, 42, 36].contains(&self.code)
    }

    /// The number at an offset of the body.
    pub fn u32(&self, at: usize) -> u32 {
        self.body.get(at..at + 4).map_or(0, |bytes| u32::from_ne_bytes(bytes.try_into().expect("four bytes")))
    }

    /// The larger number at an offset of the body.
    pub fn u64(&self, at: usize) -> u64 {
        self.body.get(at..at + 8).map_or(0, |bytes| u64::from_ne_bytes(bytes.try_into().expect("eight bytes")))
    }

    /// The body after an offset.
    pub fn rest(&self, at: usize) -> &[u8] {
        self.body.get(at..).unwrap_or_default()
    }

    /// The names that stand in the body, the first one being what the call is about.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let fixed = match self.call {
            Some(Call::Lookup | Call::Unlink | Call::Rmdir) => Some(0),
            Some(Call::Mkdir | Call::Rename) => Some(8),
            Some(Call::Create | Call::Rename2) => Some(16),
            _ => None,
        };
        let text = fixed.map_or(&[][..], |fixed| self.rest(fixed));
        text.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()).filter(|name| !name.is_empty())
    }

    /// The first of them.
    pub fn name(&self) -> Option<&str> {
        self.names().next()
    }
}

/// Reads the next request; `None` once the file system is unmounted.
pub fn next<'a>(mut device: &File, buffer: &'a mut [u8]) -> Option<Request<'a>> {
    let count = loop {
        match device.read(buffer) {
            Ok(count) => break count,
            // A request was taken back.
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::NotFound) => {}
            // It is not mounted yet.
            Err(error) if error.raw_os_error() == Some(1) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(_) => return None,
        }
    };
    let (head, body) = buffer[..count].split_at(HEAD_BYTES);
    let head = Request { call: None, id: 0, node: 0, code: 0, body: head };
    let code = head.u32(4);
    let call = Call::ALL.into_iter().find(|call| *call as u32 == code);
    Some(Request { call, id: head.u64(8), node: head.u64(16), code, body })
}

/// Sends an answer: a body, or an error's number.
pub fn answer(mut device: &File, id: u64, answer: Result<Vec<u8>, i32>) {
    let (error, body) = answer.map_or_else(|error| (-error, Vec::new()), |body| (0, body));
    let length = u32::try_from(16 + body.len()).expect("a length");
    let head = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &id.to_ne_bytes()].concat();
    // The requester may be gone.
    let _ = device.write_all(&[head, body].concat());
}

/// The answer to INIT.
pub fn init() -> Vec<u8> {
    let head = numbers(&[VERSION[0], VERSION[1], MAX_WRITE, BIG_WRITES, 0, MAX_WRITE, 1]);
    [head, vec![0; 64 - 28]].concat()
}

/// The answer to STATFS: so many blocks of 4 KiB, all of them free.
pub fn statfs(blocks: u64) -> Vec<u8> {
    let counts: Vec<u8> =
        [blocks, blocks, blocks, blocks, blocks].iter().flat_map(|count| count.to_ne_bytes()).collect();
    [counts, numbers(&[4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0])].concat()
}

/// A file's attributes.
pub fn attributes(node: u64, size: u64, mode: u32) -> Vec<u8> {
    let mut body: Vec<u8> =
        [node, size, size.div_ceil(512), 0, 0, 0].iter().flat_map(|field| field.to_ne_bytes()).collect();
    body.extend(numbers(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0]));
    body
}

/// A name's answer: the node, valid for no time at all, and its attributes.
pub fn entry(node: u64, attributes: &[u8]) -> Vec<u8> {
    let head: Vec<u8> = [node, 0, 0, 0, 0].iter().flat_map(|field: &u64| field.to_ne_bytes()).collect();
    [&head, attributes].concat()
}

/// One name in a directory, the `next` one being asked for after it.
pub fn dirent(node: u64, next: u64, name: &str, is_dir: bool) -> Vec<u8> {
    let length = u32::try_from(name.len()).expect("a length");
    let mut body = [node.to_ne_bytes(), next.to_ne_bytes()].concat();
    body.extend(numbers(&[length, if is_dir { 4 } else { 8 }]));
    body.extend(name.as_bytes());
    body.resize(body.len().next_multiple_of(8), 0);
    body
}

/// Numbers one after the other.
pub fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

//! What others read: everything that the encoders make is one stream for other readers of gzip and zstd, and each of them
//! reports a truncated stream as an error.
//!
//! The readers in other languages are in tests/fixtures/readers; they print a sha256 or `error` for each file. A reader that
//! is missing is installed, and fails the test where it cannot be.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::Crc;
use pg_s3_backup::codec::gzip::WINDOW_BYTES;
use pg_s3_backup::codec::{Codec, Compression, Encoder};
use pg_s3_backup::pipeline::BLOCK_BYTES;

use crate::support::setup::{installed, repository_file, sha256};

/// A level for each block in turn; with several, as `auto` changes it.
const GZIP_LEVELS: &[&[u32]] = &[&[1], &[3], &[5], &[9], &[1, 3, 5, 7, 8, 5, 1]];
const ZSTD_LEVELS: &[&[u32]] = &[&[1], &[5], &[10], &[1, 2, 5, 6, 8, 5, 1]];

/// A program that reads a stream.
pub struct Reader {
    name: &'static str,
    /// What `scripts/install` calls it.
    what: &'static str,
    /// The command before the files.
    command: &'static [&'static str],
    is_script: bool,
}

/// Writes one file to stdout.
const fn program(what: &'static str, command: &'static [&'static str]) -> Reader {
    Reader { name: command[0], what, command, is_script: false }
}

/// Prints a line for each file; the command's last word is in tests/fixtures/readers.
const fn script(name: &'static str, what: &'static str, command: &'static [&'static str]) -> Reader {
    Reader { name, what, command, is_script: true }
}

pub const GZIP_READERS: &[Reader] = &[
    program("gzip", &["gunzip", "-c"]),
    program("pigz", &["pigz", "-dc"]),
    program("libdeflate-gzip", &["libdeflate-gzip", "-dc"]),
    program("igzip", &["igzip", "-dc"]),
    program("7zz", &["7zz", "e", "-so", "-bd"]),
    script("Python's gzip", "python3", &["python3", "read_gzip.py"]),
    script("Go's compress/gzip", "go", &["go", "run", "read_gzip.go"]),
    script("Java's GZIPInputStream", "java", &["java", "ReadGzip.java"]),
    script("Node's zlib", "node", &["node", "read_gzip.js"]),
    script("Perl's IO::Uncompress::Gunzip", "perl", &["perl", "read_gzip.pl"]),
];

const ZSTD_READERS: &[Reader] =
    &[program("zstd", &["zstd", "-dc"]), script("Python's zstandard", "zstandard", &["python3", "read_zstd.py"])];

impl Reader {
    /// The sha256 of what it reads in each file; `None` where it reports an error.
    fn read(&self, files: &[PathBuf]) -> Vec<Option<String>> {
        installed(self.what);
        if !self.is_script {
            return files.iter().map(|file| self.read_one(file)).collect();
        }
        let (script, interpreter) = self.command.split_last().expect("a script");
        let script = repository_file("tests/fixtures/readers").join(script);
        let mut command = Command::new(interpreter[0]);
        command.args(&interpreter[1..]).arg(script).args(files);
        command.env("PYTHONPATH", repository_file("target/tools/zstandard"));
        let output = command.stdin(Stdio::null()).output().expect(self.name);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", self.name);
        let lines = String::from_utf8(output.stdout).expect("text");
        let read: Vec<_> = lines.lines().map(|line| (line != "error").then(|| line.to_owned())).collect();
        assert_eq!(read.len(), files.len(), "{}: {errors}", self.name);
        read
    }

    fn read_one(&self, file: &Path) -> Option<String> {
        let mut command = Command::new(self.command[0]);
        let output = command.args(&self.command[1..]).arg(file).stdin(Stdio::null()).output().expect(self.name);
        output.status.success().then(|| sha256(&output.stdout))
    }
}

/// Each kind of data, with its name. The longest has as many blocks as the levels change.
fn data() -> Vec<(&'static str, Vec<u8>)> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut noise = vec![0; 3 * BLOCK_BYTES + 1];
    random.fill(&mut noise);
    let mut rows = String::new();
    while rows.len() < 6 * BLOCK_BYTES + 100 {
        let words = "word ".repeat(random.usize(..9));
        writeln!(rows, "{}\t{:x}\t{words}", random.u32(..), random.u64(..)).expect("memory");
    }
    vec![
        ("nothing", Vec::new()),
        ("a byte", b"x".to_vec()),
        ("noise", noise),
        ("repetition", b"0\t\\N\n".repeat(BLOCK_BYTES / 2)),
        ("rows", rows.into_bytes()),
    ]
}

/// One stream, as the pipeline makes it, and where its pieces end.
pub fn stream(codec: Codec, levels: &[u32], plain: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut stream, mut ends, mut crc) = (codec.header().to_vec(), Vec::new(), Crc::new());
    for (number, block) in plain.chunks(BLOCK_BYTES).enumerate() {
        let begin = number * BLOCK_BYTES;
        let compression = Compression { codec, level: levels[number % levels.len()] };
        let (mut encoder, mut piece) = (Encoder::new(compression).expect("memory"), Vec::new());
        let window = &plain[begin.saturating_sub(WINDOW_BYTES)..begin];
        encoder.block(window, block, &mut piece).expect("compressed");
        crc.update(block);
        stream.extend(piece);
        ends.push(stream.len());
    }
    stream.extend(codec.end(&crc, plain.len() as u64));
    (stream, ends)
}

/// Files for the readers, each with the sha256 that they must find; `None` where they must find an error.
pub struct Files {
    directory: tempfile::TempDir,
    paths: Vec<PathBuf>,
    expected: Vec<Option<String>>,
}

impl Files {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory"), paths: Vec::new(), expected: Vec::new() }
    }

    pub fn add(&mut self, name: &str, bytes: &[u8], expected: Option<String>) {
        let path = self.directory.path().join(name.replace(' ', "-"));
        std::fs::write(&path, bytes).expect("written");
        self.paths.push(path);
        self.expected.push(expected);
    }

    /// Each kind of data with each of the levels, complete and cut at the places that `cuts` gives.
    fn of(codec: Codec, all_levels: &[&[u32]], cuts: impl Fn(usize, &[usize]) -> Vec<usize>) -> Self {
        let mut files = Self::new();
        for (name, plain) in data() {
            for levels in all_levels {
                let (stream, ends) = stream(codec, levels, &plain);
                let name = format!("{name} {levels:?}");
                let extension = codec.extension();
                files.add(&format!("{name}.{extension}"), &stream, Some(sha256(&plain)));
                let mut cuts = cuts(stream.len(), &ends);
                cuts.sort_unstable();
                cuts.dedup();
                for cut in cuts {
                    files.add(&format!("{name} {cut}.{extension}"), &stream[..cut], None);
                }
            }
        }
        files
    }

    /// Asserts that each reader finds what is expected.
    pub fn are_read_by(&self, readers: &[Reader]) {
        for reader in readers {
            for ((path, read), expected) in self.paths.iter().zip(reader.read(&self.paths)).zip(&self.expected) {
                assert_eq!(&read, expected, "{}: {}", reader.name, path.display());
            }
        }
    }
}

#[test]
fn every_reader_of_gzip_reads_every_stream_and_reports_truncation() {
    // A byte, half of the trailer, the trailer, or the last block is missing; half a stream; a header; a block.
    let cuts = |length: usize, ends: &[usize]| {
        let mut cuts = vec![length - 1, length - 4, length - 8, length - 10, length / 2, 10];
        cuts.extend(ends.first());
        cuts
    };
    Files::of(Codec::Gzip, GZIP_LEVELS, cuts).are_read_by(GZIP_READERS);
}

#[test]
fn every_reader_of_zstd_reads_every_stream_and_reports_a_cut_frame() {
    // Frames are independent: only this program sees that a later one is missing.
    let cuts = |length: usize, ends: &[usize]| {
        let last = ends.last().copied().unwrap_or_default();
        let mut cuts = vec![length - 1, last + 5];
        cuts.extend(ends.iter().flat_map(|end| [end - 1, end - 5]));
        cuts
    };
    Files::of(Codec::Zstd, ZSTD_LEVELS, cuts).are_read_by(ZSTD_READERS);
}

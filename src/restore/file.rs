//! The targets that are a file or a stream: a new file appears when it is verified; of a stream (stdout, a pipe, a device) the
//! last 64 KiB come then.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

use crate::archive::{ReadError, Reader, VerifiedStream};
use crate::disk::Disk;

use super::hold_back::HoldBack;
use super::new_file::{FileError, NewFile, directory};
use super::{Report, Request, RestoreError};

/// Where the bytes go, and which.
#[derive(Clone, Debug)]
pub struct Output {
    /// The file; `None` for stdout.
    pub path: Option<PathBuf>,
    /// Which bytes.
    pub form: OutputForm,
}

/// Which bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputForm {
    /// The plain dump.
    Plain,
    /// The bytes as they are stored.
    Stored,
}

/// What is under the path.
enum Place {
    /// Nothing, on a disk with so many free bytes.
    New { path: PathBuf, free: Option<u64> },
    /// Something that takes bytes and keeps none: a pipe, a device; or stdout.
    Stream(Option<PathBuf>),
}

/// Restores into a file or a stream.
///
/// # Errors
/// Where it failed: no file is left then, and a stream lacks its end.
pub async fn restore(request: &Request<'_>, output: &Output) -> Result<Report, RestoreError> {
    let name = output.path.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
    let writing = Writing { request, form: output.form, name };
    tokio::select! {
        restored = Box::pin(writing.run(output)) => restored,
        interrupt = request.interrupts.received() => Err(RestoreError::Interrupted(interrupt)),
    }
}

/// One restore into a file or a stream.
struct Writing<'a> {
    request: &'a Request<'a>,
    form: OutputForm,
    /// The target, for people.
    name: String,
}

impl Writing<'_> {
    async fn run(&self, output: &Output) -> Result<Report, RestoreError> {
        let place = place(output.path.clone()).await.map_err(|error| self.failed(error))?;
        let stream = match place {
            Place::New { path, free } => self.write_file(&path, free).await?,
            Place::Stream(path) => self.write_stream(path).await?,
        };
        let report = Report::new(self.request.chosen, self.name.clone());
        Ok(match stream {
            Some(stream) => report.with_stream(&stream),
            None => Report { dry_run: true, ..report },
        })
    }

    /// What was written; `None` where nothing was to be.
    async fn write_file(&self, path: &Path, free: Option<u64>) -> Result<Option<VerifiedStream>, RestoreError> {
        let (new, file) = NewFile::create(path).await.map_err(|error| self.failed(error))?;
        let reader = self.request.open().await?;
        self.warn_of_small_disk(free);
        if self.request.options.dry_run {
            return Ok(None);
        }
        // Where files are limited in size, the write fails then, and this process lives.
        let _limit = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()));
        let (stream, file) = self.read(reader, file).await?;
        new.publish(file, stream.scan().bytes).await.map_err(|error| self.failed(error))?;
        Ok(Some(stream))
    }

    /// What was written; `None` where nothing was to be.
    async fn write_stream(&self, path: Option<PathBuf>) -> Result<Option<VerifiedStream>, RestoreError> {
        let reader = self.request.open().await?;
        if self.request.options.dry_run {
            return Ok(None);
        }
        // A pipe is open when somebody reads it.
        let opened = off_the_runtime(move || open_stream(path.as_deref())).await;
        let sink = HoldBack::new(opened.map_err(|error| self.failed(error.into()))?);
        let (stream, sink) = self.read(reader, sink).await?;
        let released = off_the_runtime(move || sink.release()).await;
        released.map_err(|error| self.failed(error.into()))?;
        Ok(Some(stream))
    }

    async fn read<W: Write + Send + 'static>(
        &self,
        reader: Reader,
        sink: W,
    ) -> Result<(VerifiedStream, W), RestoreError> {
        let read = match self.form {
            OutputForm::Plain => reader.read_into(sink).await,
            OutputForm::Stored => reader.read_stored_into(sink).await,
        };
        let (contents, sink) = read.map_err(|error| match error {
            ReadError::Storage { error, .. } => error.into(),
            ReadError::Sink { error, .. } => self.failed(error.into()),
        })?;
        let verified = contents.verify(self.request.chosen.manifest.as_ref());
        Ok((verified.map_err(|mismatch| self.request.mismatch(mismatch))?, sink))
    }

    fn failed(&self, error: FileError) -> RestoreError {
        match error {
            FileError::Io(error) => RestoreError::Output { target: self.name.clone(), advice: advice(&error), error },
            FileError::Disk(error) => RestoreError::Disk(error),
        }
    }

    /// A warning alone: a file system that packs holds more.
    fn warn_of_small_disk(&self, free: Option<u64>) {
        let chosen = self.request.chosen;
        let bytes = match (self.form, &chosen.manifest) {
            (OutputForm::Stored, _) => Some(chosen.backup.file_size),
            (OutputForm::Plain, manifest) => manifest.as_ref().map(|manifest| manifest.dump_bytes),
        };
        if let Some((bytes, free)) = bytes.zip(free).filter(|(bytes, free)| bytes > free) {
            tracing::warn!(
                bytes,
                free_bytes = free,
                target = self.name,
                "the disk has less free space than the file needs"
            );
        }
    }
}

/// What a person can do about an output that does not take the bytes.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AlreadyExists => "a file of that name is left alone: move it away, or give another name",
        io::ErrorKind::IsADirectory => "give the name of a file in it",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "nothing was restored: make room, or write to another disk"
        }
        io::ErrorKind::BrokenPipe => "its reader ended before the backup was verified, and has no complete dump",
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            "give a file in a directory that can be written to"
        }
        _ => "nothing was restored: look at the disk or the program that it goes to",
    }
}

/// Looks at what is under the path, before anything is read.
async fn place(path: Option<PathBuf>) -> Result<Place, FileError> {
    let Some(path) = path else { return Ok(Place::Stream(None)) };
    let disk = Disk::of(directory(&path));
    let look = move || match (fs::metadata(&path), path.symlink_metadata()) {
        (Ok(found), _) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        (Ok(found), _) if !found.is_file() => Ok(Place::Stream(Some(path))),
        // A link to nothing is something, too.
        (Ok(_), _) | (Err(_), Ok(_)) => Err(io::ErrorKind::AlreadyExists.into()),
        (Err(_), Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            let free = statvfs(directory(&path)).ok();
            Ok(Place::New { path, free: free.map(|system| system.f_bavail.saturating_mul(system.f_frsize)) })
        }
        (Err(_), Err(error)) => Err(error),
    };
    Ok(disk.call(0, look).await??)
}

fn open_stream(path: Option<&Path>) -> io::Result<File> {
    match path {
        Some(path) => OpenOptions::new().write(true).open(path),
        // Without the buffer of Rust's own, which ends at each line.
        None => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
    }
}

/// Does what may block for as long as somebody else wants.
async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

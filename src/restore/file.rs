//! Restores into a file or a stream. A new file gets its name after verification. A stream (stdout, a pipe, a device) gets its last
//! 64 KiB only then.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::archive::{ReadError, Reader, VerifiedStream};
use crate::disk::Disk;

use super::hold_back::HoldBack;
use super::new_file::{FileError, NewFile, directory};
use super::selective::{Schemas, Selective, Surroundings};
use super::verified::Verified;
use super::{Report, Request, RestoreError, off_the_runtime};

/// Where to write, and in which form.
#[derive(Clone, Debug)]
pub struct Output {
    /// The file; `None` for stdout.
    pub path: Option<PathBuf>,
    /// The form of the bytes.
    pub form: OutputForm,
}

/// The form in which a backup is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputForm {
    /// The plain dump.
    Plain,
    /// The bytes as they are stored.
    Stored,
}

/// What exists at the path.
enum Place {
    /// Nothing yet; the number is the free bytes of its disk.
    New { path: PathBuf, free: Option<u64> },
    /// A stream: stdout, a pipe or a device.
    Stream(Option<PathBuf>),
}

/// What is written.
enum Source<'a> {
    /// The complete backup.
    All(Box<Reader>),
    /// A part of it.
    Selected(&'a Selective),
}

/// Restores into a file or a stream.
///
/// # Errors
/// If it failed. No file is left, and a stream lacks its end.
pub async fn restore(request: &Request<'_>, output: &Output) -> Result<Report, RestoreError> {
    request.verify_identity()?;
    let name = output.path.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
    let writing = Writing { request, form: output.form, name };
    request.interrupts.until_signal(Box::pin(writing.run_all(output))).await
}

/// One restore into a file or a stream.
struct Writing<'a> {
    request: &'a Request<'a>,
    form: OutputForm,
    /// The target, as messages show it.
    name: String,
}

impl Writing<'_> {
    async fn run_all(&self, output: &Output) -> Result<Report, RestoreError> {
        let place = place(output.path.clone()).await.map_err(|error| self.failed(error))?;
        let selective = Selective::prepare(self.request).await?;
        if let Some(selective) = &selective {
            selective.warn_of_needs();
        }
        let written = self.run(place, selective.as_ref()).await?;
        let selected = selective.as_ref().map(Selective::selected);
        let report = Report { selected, ..Report::new(self.request.chosen, self.name.clone()) };
        Ok(match written {
            Some(verified) => report.with_verified(&verified),
            None => Report { dry_run: true, ..report },
        })
    }

    async fn run(&self, place: Place, selective: Option<&Selective>) -> Result<Option<Verified>, RestoreError> {
        match place {
            Place::New { path, free } => self.write_file(&path, free, selective).await,
            Place::Stream(path) => self.write_stream(path, selective).await,
        }
    }

    /// What was written; `None` where nothing was to be.
    async fn write_file(
        &self,
        path: &Path,
        free: Option<u64>,
        selective: Option<&Selective>,
    ) -> Result<Option<Verified>, RestoreError> {
        let (new, file) = NewFile::create(path).await.map_err(|error| self.failed(error))?;
        let source = self.source(selective).await?;
        if selective.is_none() {
            self.warn_of_small_disk(free);
        }
        if self.request.options.dry_run {
            return Ok(None);
        }
        // Without SIGXFSZ a write over the limit of file sizes fails, and does not kill this process.
        let _limit = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()));
        let (verified, file) = self.read(source, file).await?;
        let bytes = match &verified {
            Verified::Stream(stream) => stream.scan().bytes,
            Verified::Selected(restored) => restored.ranges.plain_bytes(),
        };
        new.publish(file, bytes).await.map_err(|error| self.failed(error))?;
        Ok(Some(verified))
    }

    /// What was written; `None` where nothing was to be.
    async fn write_stream(
        &self,
        path: Option<PathBuf>,
        selective: Option<&Selective>,
    ) -> Result<Option<Verified>, RestoreError> {
        let source = self.source(selective).await?;
        if self.request.options.dry_run {
            return Ok(None);
        }
        // Opening a pipe waits for its reader.
        let opened = off_the_runtime(move || open_stream(path.as_deref())).await;
        let sink = HoldBack::new(opened.map_err(|error| self.failed(error.into()))?);
        let (verified, sink) = self.read(source, sink).await?;
        let released = off_the_runtime(move || sink.release()).await;
        released.map_err(|error| self.failed(error.into()))?;
        Ok(Some(verified))
    }

    async fn source<'a>(&self, selective: Option<&'a Selective>) -> Result<Source<'a>, RestoreError> {
        match selective {
            Some(selective) => Ok(Source::Selected(selective)),
            None => Ok(Source::All(Box::new(self.request.open().await?))),
        }
    }

    async fn read<W: Write + Send + 'static>(
        &self,
        source: Source<'_>,
        sink: W,
    ) -> Result<(Verified, W), RestoreError> {
        match source {
            Source::All(reader) => {
                let (stream, sink) = self.read_all(*reader, sink).await?;
                Ok((Verified::Stream(stream), sink))
            }
            Source::Selected(selective) => self.read_selected(selective, sink).await,
        }
    }

    async fn read_selected<W: Write + Send + 'static>(
        &self,
        selective: &Selective,
        sink: W,
    ) -> Result<(Verified, W), RestoreError> {
        let schemas = if selective.is_of_everything() { Schemas::OfDump } else { Schemas::Unknown };
        let pieces = selective.pieces(&Surroundings { schemas, ..Surroundings::default() });
        let read = selective.read_into(self.request, pieces, sink).await;
        let (restored, mut sink) = read.map_err(|error| match self.request.sink_error(error) {
            Ok((error, _)) => self.failed(error.into()),
            Err(error) => error,
        })?;
        let finished = off_the_runtime(move || sink.finish().map(|()| sink.into_inner())).await;
        let sink = finished.map_err(|error| self.failed(error.into()))?;
        Ok((Verified::Selected(restored), sink))
    }

    async fn read_all<W: Write + Send + 'static>(
        &self,
        reader: Reader,
        sink: W,
    ) -> Result<(VerifiedStream, W), RestoreError> {
        let read = match self.form {
            OutputForm::Plain => reader.read_into(sink).await,
            OutputForm::Stored => reader.read_stored_into(sink).await,
        };
        let (contents, sink) = read.map_err(|error| match error {
            ReadError::Storage(error) => error.into(),
            ReadError::Sink { error, .. } => self.failed(error.into()),
        })?;
        let verified = contents.verify(self.request.chosen.manifest.as_ref());
        Ok((verified.map_err(|mismatch| self.request.mismatch(mismatch))?, sink))
    }

    fn failed(&self, error: FileError) -> RestoreError {
        match error {
            FileError::Io(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                RestoreError::Exists { file: self.name.clone() }
            }
            FileError::Io(error) => RestoreError::Output { target: self.name.clone(), advice: advice(&error), error },
            FileError::Disk(error) => RestoreError::Disk(error),
        }
    }

    /// Warns only: a compressing file system holds more than its free bytes.
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
                file = self.name,
                "the disk has less free space than the file needs"
            );
        }
    }
}

/// Returns the hint for a failed write.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::IsADirectory => "give the name of a file in this directory",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "nothing was restored: free disk space, or write to another disk"
        }
        io::ErrorKind::BrokenPipe => {
            "the reader closed the pipe before the backup was verified, and has no complete dump"
        }
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            "give a file in an existing directory that you can write to"
        }
        _ => "nothing was restored: check the disk, or the program that reads the output",
    }
}

/// Examines the path, before anything is read.
async fn place(path: Option<PathBuf>) -> Result<Place, FileError> {
    let Some(path) = path else { return Ok(Place::Stream(None)) };
    let disk = Disk::of(directory(&path));
    let look = move || match (fs::metadata(&path), path.symlink_metadata()) {
        (Ok(found), _) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        (Ok(found), _) if !found.is_file() => Ok(Place::Stream(Some(path))),
        // A dangling symlink counts as existing.
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
        // Not Rust's stdout, which flushes after each line.
        None => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
    }
}

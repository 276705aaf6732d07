//! Writes the fake's shell script and its prepared files. Used by [`super::FakeDump::install`] alone.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use super::super::process::write_script;
use super::body;
use super::{CutAt, End, FakeDump, Grandchild, OnTerm};

/// Pieces of a dump that pauses.
const PIECES: u64 = 16;

/// Writes the dump as it is to be sent, and gives its length.
pub fn write_body(fake: &FakeDump, path: &Path) -> u64 {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).expect("the body's file"));
    for _ in 0..fake.copies {
        match &fake.body {
            body::Body::Raw(bytes) => file.write_all(bytes).expect("written"),
            made if is_small(made) => file.write_all(&body::bytes(made)).expect("written"),
            made => body::write(made, &mut file).expect("written"),
        }
    }
    let file = file.into_inner().expect("flushed");
    let full_length = file.metadata().expect("the body's length").len();
    let length = fake.cut.map_or(full_length, |cut| cut_length(cut, full_length));
    file.set_len(length).expect("cut");
    length
}

/// Writes the script and the small files it shows. `forever` is how long it sleeps where it hangs.
pub fn write(fake: &FakeDump, dir: &Path, length: u64, forever: &str) {
    let text = |name: &str, content: &[u8]| fs::write(dir.join(name), content).expect("written");
    text("version", format!("{}\n", fake.version).as_bytes());
    let warnings = warnings(fake.stderr_bytes);
    let (before, during) = warnings.split_at(warnings.len() / 2);
    text("stderr.before", before);
    text("stderr.during", during);
    text("stderr.end", fake.stderr_lines.iter().flat_map(|line| [line, "\n"]).collect::<String>().as_bytes());
    write_script(&dir.join("pg_dump"), &script(fake, dir, (length, forever)));
}

fn script(fake: &FakeDump, dir: &Path, (length, forever): (u64, &str)) -> String {
    let trap = if fake.on_term == OnTerm::Ignore { "trap '' TERM" } else { ":" };
    let grandchild = match fake.grandchild {
        Grandchild::HoldsStdout => {
            format!("sleep {forever} 2>/dev/null &\necho $! >\"$here/grandchild\"")
        }
        Grandchild::None => ":".to_owned(),
    };
    // Replaces the shell, so that the process that hangs is the one that is killed.
    let wait = format!("exec sleep {forever}");
    let hang = if fake.end == End::Hang { &wait } else { ":" };
    let end = match fake.end {
        End::Exit(code) => format!("exit {code}"),
        End::Signal(number) => format!("kill -{number} $$; sleep 5; exit 99"),
        End::Hang | End::HangAfterOutput => wait.clone(),
    };
    format!(
        r#"#!/bin/sh
# A fake pg_dump, written by tests/it/support/fake_pg_dump for one test.
here='{here}'
PATH=/usr/bin:/bin
for argument; do
    case $argument in
        --version | -V) cat "$here/version"; exit 0 ;;
    esac
done
cat "/proc/$$/environ" >"$here/environ"
for argument; do printf '%s\n' "$argument"; done >"$here/args"
{trap}
# Who has read the number may send a signal at once.
echo $$ >>"$here/pids"
{grandchild}
{hang}
for argument; do
    case $argument in --dbname=*) connection=${{argument#--dbname=}} ;; esac
done
forever={forever}
{first}
cat "$here/stderr.before" >&2
cat "$here/stderr.during" 1>&2 &
warnings=$!
{output}
wait "$warnings"
cat "$here/stderr.end" >&2
{end}
"#,
        here = dir.display(),
        first = fake.first,
        output = output(fake, length),
    )
}

/// The real one ends with 1 when its reader is gone.
fn output(fake: &FakeDump, length: u64) -> String {
    let Some(pause) = fake.pause else {
        return r#"cat "$here/body" || exit 1"#.to_owned();
    };
    let piece = length.div_ceil(PIECES).max(1);
    let seconds = pause.as_secs_f64();
    let copy = r#"dd if="$here/body" bs=65536 iflag=skip_bytes,count_bytes status=none"#;
    let starts = (0..PIECES).map(|number| number * piece).filter(|&start| start < length);
    let lines = starts.map(|start| format!("sleep {seconds}; {copy} skip={start} count={piece} || exit 1\n"));
    lines.collect()
}

fn warnings(count: usize) -> Vec<u8> {
    let lines = (1_usize..).map(|number| format!("pg_dump: warning: this is line {number:08} of a talkative dump\n"));
    let mut bytes = Vec::with_capacity(count + 80);
    for line in lines.take_while(|_| count > 0) {
        bytes.extend_from_slice(line.as_bytes());
        if bytes.len() >= count {
            break;
        }
    }
    bytes.truncate(count);
    bytes
}

fn is_small(body: &body::Body) -> bool {
    matches!(body, body::Body::Random(size) | body::Body::Compressible(size) if *size <= body::LARGEST_CACHED)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a fraction of a test dump's length needs no last bit"
)]
fn cut_length(cut: CutAt, length: u64) -> u64 {
    match cut {
        CutAt::Fraction(part) => ((length as f64 * part) as u64).min(length),
        CutAt::Byte(bytes) => bytes.min(length),
        CutAt::FromEnd(bytes) => length.saturating_sub(bytes),
    }
}

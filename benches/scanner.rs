//! The scanner alone, on one thread: speed by CPU time on each kind of dump.
//!
//! `cargo bench --bench scanner` or `cargo bench --bench scanner -- FILE` (a plain dump; its first 400 MB). The dumps are made
//! here, but for the file's. Compare only the lines of one run.
#![expect(clippy::print_stdout, reason = "the table is what this is for")]

#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/rows.rs"]
mod rows;

use std::fmt::Write as _;
use std::io::Read as _;

use pg_s3_backup::pipeline::BLOCK_BYTES;
use pg_s3_backup::pipeline::scanner::Scanner;

use cpu::cpu_time;
use rows::rows;

const LIMIT: u64 = 400_000_000;
/// The bytes of each dump that is made here.
const BYTES: usize = 64_000_000;
const OPENING: &str = "--\n-- PostgreSQL database dump\n--\n\n";
const CLOSING: &str = "--\n-- PostgreSQL database dump complete\n--\n\n";

fn main() {
    // Cargo adds arguments of its own, which begin with a dash.
    let file = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    println!("dump                MB/s");
    if let Some(file) = file {
        let mut plain = Vec::new();
        let opened = std::fs::File::open(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        opened.take(LIMIT).read_to_end(&mut plain).expect("read");
        scan("the file", &plain);
        return;
    }
    for (name, body) in [("COPY data", copied()), ("INSERT", inserted()), ("functions", functions())] {
        let dump = format!("{OPENING}{body}{CLOSING}");
        assert!(scan(name, dump.as_bytes()), "{name}: not a complete dump");
    }
}

/// Whether the dump is complete.
fn scan(name: &str, plain: &[u8]) -> bool {
    let began = cpu_time();
    let mut scanner = Scanner::default();
    plain.chunks(BLOCK_BYTES).for_each(|block| scanner.scan(block));
    let report = scanner.finish();
    let seconds = cpu_time().saturating_sub(began).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let speed = plain.len() as f64 / seconds / 1e6;
    println!("{name:<16} {speed:>7.0}   ({} bytes, {} rows)", report.bytes, report.rows);
    report.flaw.is_none()
}

fn copied() -> String {
    format!("COPY public.orders (id, at, status, token, data) FROM stdin;\n{}\\.\n\n", rows(BYTES))
}

/// As `pg_dump --inserts` writes them: strings, which the lexer reads byte by byte.
fn inserted() -> String {
    let values = rows(BYTES / 2);
    values.lines().fold(String::new(), |mut text, line| {
        writeln!(text, "INSERT INTO public.orders VALUES ('{}');", line.replace('\t', "', '")).expect("memory");
        text
    })
}

/// Statements without data: where the scanner has most to do.
fn functions() -> String {
    let mut text = String::new();
    for number in 0.. {
        if text.len() >= BYTES / 2 {
            break;
        }
        let head = format!("-- Name: f{number}(); Type: FUNCTION; Schema: public; Owner: app");
        let body = "BEGIN RETURN (SELECT sum(a.total) FROM a JOIN b USING (id)); END";
        write!(
            text,
            "--\n{head}\n--\n\nCREATE FUNCTION public.f{number}(total numeric) RETURNS numeric LANGUAGE plpgsql AS \
             $$ {body} $$;\n\nALTER FUNCTION public.f{number}(total numeric) OWNER TO app;\n\n"
        )
        .expect("memory");
    }
    text
}

//! The dumps that the fake `pg_dump` writes: framed exactly as version 15.18 frames its own. Used by
//! [`super::FakeDump`], and by tests that need a plain dump in memory.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// What a fake dump consists of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// A well-formed dump of about this many bytes that no compressor makes smaller. The rows hold almost every byte value, so
    /// its `client_encoding` is LATIN1; a real server takes it.
    Random(usize),
    /// A well-formed dump of about this many bytes that compresses about tenfold.
    Compressible(usize),
    /// These bytes.
    Raw(Vec<u8>),
}

type Cache = HashMap<Body, Arc<Vec<u8>>>;
static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

/// Larger ones are written each time rather than kept.
pub(super) const LARGEST_CACHED: usize = 64 << 20;
/// Rows are cut from a pool of random bytes: longer than any window of a gzip stream, so the repetition is never seen.
const POOL_BYTES: usize = 1 << 20;
const ROW_BYTES: usize = 1000;
/// The key of the `\restrict` lines.
pub const RESTRICT_KEY: &str = "i5HdOrMT6kMXQZ5oF0nFHKHJCfTmk5rY6bA1JMMakd7NwOBvdlnOom9S5yBn9Ly";

const OPENING: &str = r"--
-- PostgreSQL database dump
--

\restrict KEY

-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'LATIN1';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: t; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.t (
    id bigint NOT NULL,
    payload text
);


ALTER TABLE public.t OWNER TO postgres;

--
-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.t (id, payload) FROM stdin;
";

const CLOSING: &str = r"\.


--
-- PostgreSQL database dump complete
--

\unrestrict KEY

";

/// The bytes of a body. Kept for the process's life where they are well-formed dumps of up to 64 MiB.
///
/// # Panics
/// Never: a `Vec` takes everything.
pub fn bytes(body: &Body) -> Arc<Vec<u8>> {
    let (Body::Random(size) | Body::Compressible(size)) = body else {
        let mut raw = Vec::new();
        write(body, &mut raw).expect("a Vec takes everything");
        return Arc::new(raw);
    };
    let make = || {
        let mut bytes = Vec::with_capacity(size + OPENING.len() + CLOSING.len() + 200);
        write(body, &mut bytes).expect("a Vec takes everything");
        Arc::new(bytes)
    };
    if *size > LARGEST_CACHED {
        return make();
    }
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(cache.entry(body.clone()).or_insert_with(make))
}

/// Writes a body without keeping it in memory.
///
/// # Errors
/// If writing fails.
pub fn write(body: &Body, to: &mut impl Write) -> io::Result<()> {
    let (size, pool) = match body {
        Body::Raw(bytes) => return to.write_all(bytes),
        Body::Random(size) => (*size, &*RANDOM),
        Body::Compressible(size) => (*size, &*PROSE),
    };
    let opening = OPENING.replace("KEY", RESTRICT_KEY);
    let closing = CLOSING.replace("KEY", RESTRICT_KEY);
    to.write_all(opening.as_bytes())?;
    let mut left = size.saturating_sub(opening.len() + closing.len());
    for id in 1_usize.. {
        let number = format!("{id}\t");
        let Some(payload) = left.checked_sub(number.len() + 1).filter(|&length| length > 0) else {
            break;
        };
        let payload = payload.min(ROW_BYTES);
        let at = id * ROW_BYTES % (POOL_BYTES - ROW_BYTES);
        to.write_all(number.as_bytes())?;
        to.write_all(&pool[at..at + payload])?;
        to.write_all(b"\n")?;
        left -= number.len() + payload + 1;
    }
    to.write_all(closing.as_bytes())
}

/// Every byte that a COPY row may hold as it is, at random from a fixed seed.
static RANDOM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut pool = Vec::with_capacity(POOL_BYTES + 8);
    while pool.len() < POOL_BYTES {
        // xorshift64*: no dependency, and far better than gzip can see through.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let word = state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
        // COPY escapes these; NUL and the backslash mean something.
        pool.extend(word.map(|byte| if matches!(byte, 0 | 8..=13 | b'\\') { byte ^ 0xA0 } else { byte }));
    }
    pool
});

/// Sentences that repeat, with a number now and then that does not.
static PROSE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut pool = Vec::with_capacity(POOL_BYTES + 200);
    for number in 0_u64.. {
        let digits = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44;
        let line = format!(
            "customer {digits} ordered the usual two boxes of paper and asked for delivery on Monday morning; "
        );
        pool.extend_from_slice(line.as_bytes());
        if pool.len() >= POOL_BYTES {
            break;
        }
    }
    pool
});

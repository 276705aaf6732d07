//! Rows as a dump has them.

use std::fmt::Write as _;

/// So many bytes of rows with numbers, times, words, hexadecimal digits and JSON.
pub fn rows(bytes: usize) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = String::new();
    while text.len() < bytes {
        let (number, id) = (random.u32(..1_000_000), random.u64(..));
        let words = ["paid", "open", "sent to the customer", "returned"][random.usize(..4)];
        let minute = random.u32(..60);
        writeln!(
            text,
            "{number}\t2026-11-{:02} 02:{minute:02}:00+00\t{words}\t{id:016x}\t{{\"total\": {}, \"note\": \"{words}\"}}",
            number % 28 + 1,
            number % 997,
        )
        .expect("memory");
    }
    text
}

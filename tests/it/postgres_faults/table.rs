//! Writes the outcome of each fault as a table to `target/postgres-fault-table.md`, in each run of the tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::scene::Keeping;
use crate::support::setup::repository_file;

static ROWS: Mutex<BTreeMap<(String, &str), String>> = Mutex::new(BTreeMap::new());

/// Adds a row: the fault, where parts were kept, the exit code, and what the log says of it.
pub fn note(fault: &str, keeping: Keeping, code: Option<i32>, message: &str) {
    let keeping = match keeping {
        Keeping::Memory => "memory",
        Keeping::Spool => "spool",
    };
    let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    let message = message.split_once("error=").map_or(message, |(_, error)| error).replace('|', "\\|");
    let row = format!("| {fault} | {keeping} | {code} | {message} |\n");
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.insert((fault.to_owned(), keeping), row);
    let head = "| fault | parts in | exit code | what the log says |\n|---|---|---|---|\n";
    let text = rows.values().fold(head.to_owned(), |text, row| text + row);
    std::fs::write(repository_file("target/postgres-fault-table.md"), text).expect("written");
}

//! Reads processes from `/proc`: descendants, and whether they run; and writes executable scripts. Used by [`super::program`] and
//! [`super::fake_pg_dump`]. Linux only, like the tests.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// A process. Its start time distinguishes it from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// Clock ticks from boot to its start.
    start: u64,
}

/// What this module reads from `/proc/PID/stat`.
struct Stat {
    state: char,
    group: u32,
    start: u64,
}

impl Process {
    /// Returns the process that has this id now.
    pub fn of(pid: u32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, start: stat.start })
    }

    /// Whether it still runs. A zombie does not.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start == self.start && !matches!(stat.state, 'Z' | 'X'))
    }

    /// Its arguments, joined by spaces; empty if it has ended.
    pub fn command_line(&self) -> String {
        nul_separated(&format!("/proc/{}/cmdline", self.pid)).join(" ")
    }

    /// Its environment at its start, `NAME=value` each; empty if it has ended or is another user's.
    pub fn environ(&self) -> Vec<String> {
        nul_separated(&format!("/proc/{}/environ", self.pid))
    }

    /// Its peak resident memory in bytes (`VmHWM`), while it runs.
    pub fn peak_rss_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// Sends it a signal (`TERM`, `KILL` …) unless it has ended.
    pub fn signal(&self, name: &str) {
        if self.is_alive() {
            signal(&self.pid.to_string(), name);
        }
    }
}

/// All living descendants of a process: children, their children, and so on.
pub fn descendants(root: u32) -> BTreeSet<Process> {
    let mut found = BTreeSet::new();
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for pid in children(parent) {
            if Process::of(pid).is_some_and(|process| found.insert(process)) {
                open.push(pid);
            }
        }
    }
    found
}

/// All living processes of a process group.
pub fn group(id: u32) -> BTreeSet<Process> {
    let is_member = |process: &Process| stat(process.pid).is_some_and(|stat| stat.group == id);
    all().into_iter().filter(is_member).collect()
}

/// All living processes.
pub fn all() -> BTreeSet<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(Process::of).filter(Process::is_alive).collect()
}

/// Sends a signal by `kill`'s rules: a process id, or `-N` for the process group N. If it has ended, this is no error.
pub fn signal(target: &str, name: &str) {
    let mut kill = Command::new("/bin/sh");
    kill.args(["-c", "kill -s \"$1\" -- \"$2\"", "sh", name, target]);
    let _ = kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Writes an executable script.
///
/// A child writes it. If this process wrote it, a child of another thread would inherit the open file until its exec, and
/// running the script would fail meanwhile (`Text file busy`).
///
/// # Panics
/// If it cannot be written.
pub fn write_script(path: &Path, text: &str) {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"]).arg(path).stdin(Stdio::piped());
    let mut shell = shell.spawn().expect("a shell");
    shell.stdin.take().expect("its input").write_all(text.as_bytes()).expect("written");
    assert!(shell.wait().expect("its end").success(), "{} was not written", path.display());
}

/// The kernel lists children under the thread that started them.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>()).collect()
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may have any character, so count from its end: state is field 3, group 5, start time 22.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let state = fields.first()?.chars().next()?;
    Some(Stat { state, group: fields.get(2)?.parse().ok()?, start: fields.get(19)?.parse().ok()? })
}

fn nul_separated(path: &str) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let items = bytes.split(|&byte| byte == 0).filter(|item| !item.is_empty());
    items.map(|item| String::from_utf8_lossy(item).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::{Process, descendants};

    #[test]
    fn finds_descendants_and_distinguishes_dead_from_alive() {
        let mut shell = Command::new("/bin/sh").args(["-c", "sleep 60 & wait"]).spawn().expect("a shell");
        let started = Instant::now();
        let sleeper = loop {
            let found = descendants(shell.id()).into_iter().find(|process| process.command_line() == "sleep 60");
            if let Some(process) = found {
                break process;
            }
            assert!(started.elapsed() < Duration::from_mins(1), "no sleep below the shell");
        };
        assert!(sleeper.is_alive() && sleeper.peak_rss_bytes().is_some_and(|bytes| bytes > 0));
        assert!(descendants(std::process::id()).contains(&sleeper));
        sleeper.signal("KILL");
        shell.wait().expect("the shell ends");
        assert!(!sleeper.is_alive());
        assert!(Process::of(std::process::id()).is_some_and(|process| process.is_alive()));
    }
}

//! Finds the installed `pg_dump`, `psql` and `pg_dumpall`, and chooses the right major for a server.
//!
//! `pg_dump` refuses any server newer than itself, and what a newer one writes an older server may refuse at restore:
//! the lowest sufficient major is the right one (FACTS §3). Debian's `/usr/bin/pg_dump` is a perl wrapper that chooses
//! by its own rules, so it is passed over. Called by `backup`; it starts nothing but `--version`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ClientEnvironment, PostgresError, Psql};

/// Where distributions put the programs, with `*` for one directory. Debian; Alpine and RHEL; Homebrew.
const PLACES: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "", "bin"),
];
const DEBIAN_WRAPPER: &str = "pg_wrapper";
/// Asking a program for its version takes milliseconds; a program that does not answer is none.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// A version of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The major version; 9 for all of 9.x.
    pub major: u32,
    /// As the program prints it, such as `15.18`.
    pub text: String,
}

impl Version {
    /// Reads `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` or a bare version.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.split_once("(PostgreSQL) ").map_or(text, |(_, version)| version);
        let text = text.split_whitespace().next()?;
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { major: digits.parse().ok()?, text: text.to_owned() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An installed program.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Where it is.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
}

/// A `pg_dump`, and the `psql` and `pg_dumpall` that go with it.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The dump program.
    pub pg_dump: Tool,
    /// From the same directory where there is one.
    pub psql: Psql,
    /// The same, or another that is new enough.
    pub pg_dumpall: Option<PathBuf>,
}

/// Every `pg_dump` that can be used.
#[derive(Clone, Debug)]
pub struct Installed {
    dumps: Vec<Tool>,
    other_psql: Option<PathBuf>,
    /// Looked for where a `pg_dump` has none next to it; the lowest major first.
    other_dumpalls: Vec<Tool>,
}

impl Installed {
    /// Looks for the programs: the one that the user names, else all in `PATH` and the usual places.
    ///
    /// # Errors
    /// Where there is no `pg_dump`, or the named one does not answer.
    pub async fn find(named: Option<&Path>, environment: &ClientEnvironment) -> Result<Self, PostgresError> {
        let directories = directories(environment);
        let mut dumps = Vec::new();
        if let Some(path) = named {
            let path = if path.is_dir() { path.join("pg_dump") } else { path.to_owned() };
            dumps.push(version_of(path, environment).await?);
        } else {
            dumps = all(&directories, "pg_dump", environment).await;
        }
        if dumps.is_empty() {
            return Err(PostgresError::NoTools { program: "pg_dump" });
        }
        let is_alone = |tool: &Tool| beside(tool, "pg_dumpall").is_none();
        let other_dumpalls =
            if dumps.iter().any(is_alone) { all(&directories, "pg_dumpall", environment).await } else { Vec::new() };
        let other_psql = directories.iter().rev().find_map(|directory| program(directory, "psql"));
        Ok(Self { dumps, other_psql, other_dumpalls })
    }

    /// The newest `pg_dump` and its `psql`: for a server whose version is not known yet.
    ///
    /// # Errors
    /// Where there is no `psql`.
    pub fn newest(&self) -> Result<Tools, PostgresError> {
        let newest = self.dumps.last().ok_or(PostgresError::NoTools { program: "pg_dump" })?;
        self.with_companions(newest, &newest.version)
    }

    /// The lowest major that is at least the server's.
    ///
    /// # Errors
    /// Where every installed `pg_dump` is older than the server, or there is no `psql`.
    pub fn choose(&self, server: &Version) -> Result<Tools, PostgresError> {
        match self.dumps.iter().find(|tool| tool.version.major >= server.major) {
            Some(tool) => self.with_companions(tool, server),
            None => Err(PostgresError::TooOld {
                server: server.clone(),
                newest: self.dumps.last().map_or_else(String::new, |tool| tool.version.to_string()),
                path: self.dumps.last().map(|tool| tool.path.clone()).unwrap_or_default(),
                wanted: server.major,
            }),
        }
    }

    fn with_companions(&self, pg_dump: &Tool, server: &Version) -> Result<Tools, PostgresError> {
        let psql = beside(pg_dump, "psql").or_else(|| self.other_psql.clone());
        let other = || self.other_dumpalls.iter().find(|tool| tool.version.major >= server.major);
        let pg_dumpall = beside(pg_dump, "pg_dumpall").or_else(|| other().map(|tool| tool.path.clone()));
        let psql = psql.ok_or(PostgresError::NoTools { program: "psql" })?;
        Ok(Tools { pg_dump: pg_dump.clone(), psql: Psql::at(psql), pg_dumpall })
    }
}

/// Every program of that name which answers, the lowest major first.
async fn all(directories: &[PathBuf], name: &str, environment: &ClientEnvironment) -> Vec<Tool> {
    let (mut seen, mut tools) = (BTreeSet::new(), Vec::new());
    for path in directories.iter().filter_map(|directory| program(directory, name)) {
        if seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            match version_of(path, environment).await {
                Ok(tool) => tools.push(tool),
                Err(error) => tracing::debug!(%error, "passed over a {name}"),
            }
        }
    }
    tools.sort_by_key(|tool| tool.version.major);
    tools
}

/// The program of that name in a tool's own directory.
fn beside(tool: &Tool, name: &str) -> Option<PathBuf> {
    tool.path.parent().and_then(|directory| program(directory, name))
}

/// `PATH`, then the usual places in order of version.
fn directories(environment: &ClientEnvironment) -> Vec<PathBuf> {
    let path = environment.get("PATH").map(std::env::split_paths);
    let mut directories: Vec<PathBuf> = path.into_iter().flatten().collect();
    for (root, beginning, inner) in PLACES {
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(beginning));
        let mut found: Vec<PathBuf> = named.map(|entry| entry.path().join(inner)).collect();
        found.sort();
        directories.append(&mut found);
    }
    directories
}

/// A program in a directory, unless it is Debian's wrapper.
fn program(directory: &Path, name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.join(name);
    let executable = path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
    let real = path.canonicalize().ok()?;
    (executable && real.file_name().is_none_or(|name| name != DEBIAN_WRAPPER)).then_some(path)
}

async fn version_of(path: PathBuf, environment: &ClientEnvironment) -> Result<Tool, PostgresError> {
    let mut command = environment.command(&path, None);
    let unusable = |reason: String| PostgresError::UnusableTool { path: path.clone(), reason };
    let output = tokio::time::timeout(VERSION_DEADLINE, command.arg("--version").kill_on_drop(true).output()).await;
    match output {
        Err(_) => Err(unusable("it does not answer --version".to_owned())),
        Ok(Err(error)) => Err(unusable(error.to_string())),
        Ok(Ok(output)) => match Version::parse(&String::from_utf8_lossy(&output.stdout)) {
            Some(version) => Ok(Tool { path, version }),
            None => Err(unusable("its --version is not one of PostgreSQL".to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(text: &str) -> Tool {
        Tool {
            path: PathBuf::from(format!("/nowhere/{text}/pg_dump")),
            version: Version::parse(text).expect("version"),
        }
    }

    #[test]
    fn versions_are_read_as_programs_print_them() {
        for (text, major) in [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", 15),
            ("pg_dump (PostgreSQL) 19devel", 19),
            ("pg_dump (PostgreSQL) 9.6.24", 9),
            ("18.4", 18),
        ] {
            assert_eq!(Version::parse(text).map(|version| version.major), Some(major), "{text}");
        }
        assert!(Version::parse("mysqldump Ver 8").is_none() && Version::parse("").is_none());
    }

    #[test]
    fn the_lowest_sufficient_major_is_chosen() {
        let dumps = vec![tool("13.22"), tool("16.1"), tool("18.0")];
        let other_dumpalls = vec![tool("13.22"), tool("17.1"), tool("18.0")];
        let installed = Installed { dumps, other_psql: Some(PathBuf::from("/nowhere/psql")), other_dumpalls };
        for (server, expected) in [("12.1", 13), ("13.30", 13), ("14.0", 16), ("16.9", 16), ("17.2", 18)] {
            let server = Version::parse(server).expect("version");
            assert_eq!(installed.choose(&server).expect("one fits").pg_dump.version.major, expected, "{server}");
        }
        let tools = installed.choose(&Version::parse("16.9").expect("version")).expect("one fits");
        assert_eq!(tools.pg_dumpall, Some(tool("17.1").path), "another that is new enough");
        let error = installed.choose(&Version::parse("19.1").expect("version")).expect_err("all too old");
        let text = error.to_string();
        assert!(text.contains("19.1") && text.contains("18.0"), "{text}");
    }
}

//! Finds the installed `pg_dump`, `psql` and `pg_dumpall`, and chooses the major version for a server.
//!
//! The lowest major version that is not older than the server is the best: `pg_dump` refuses a newer server, and an older server
//! may refuse to restore the output of a newer `pg_dump`. Debian's `/usr/bin/pg_dump` is a wrapper with other rules, so it is
//! ignored.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ClientEnvironment, PostgresError, Psql};

/// Where distributions install the programs: root, prefix of a directory in it, and subdirectory. Debian, Alpine, RHEL, Homebrew.
const PLACES: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "", "bin"),
];
const DEBIAN_WRAPPER: &str = "pg_wrapper";
/// `--version` takes milliseconds.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// A version of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The major version; 9 for all of 9.x.
    pub major: u32,
    /// As printed, such as `15.18`.
    pub text: String,
}

impl Version {
    /// Parses `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` or a bare version.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.split_once("(PostgreSQL) ").map_or(text, |(_, version)| version);
        let text = text.split_whitespace().next()?;
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { major: digits.parse().ok()?, text: text.to_owned() })
    }

    /// Parses a server's version; the major is 0 if it is not one of PostgreSQL's.
    pub(super) fn of_server(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|| Self { major: 0, text: text.to_owned() })
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

/// A `pg_dump` with its `psql` and `pg_dumpall`.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The dump program.
    pub pg_dump: Tool,
    /// From the same directory, if there is one.
    pub psql: Psql,
    /// From the same directory, or another that is new enough.
    pub pg_dumpall: Option<PathBuf>,
}

/// The installed programs.
#[derive(Clone, Debug)]
pub struct Installed {
    dumps: Vec<Tool>,
    other_psql: Option<PathBuf>,
    /// For a `pg_dump` without one in its directory; the lowest major first.
    other_dumpalls: Vec<Tool>,
}

impl Installed {
    /// Searches `PATH` and the usual directories, unless the user names a `pg_dump`.
    ///
    /// # Errors
    /// If there is no `pg_dump`, or the named one does not work.
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
        let is_alone = |tool: &Tool| sibling(tool, "pg_dumpall").is_none();
        let other_dumpalls =
            if dumps.iter().any(is_alone) { all(&directories, "pg_dumpall", environment).await } else { Vec::new() };
        let other_psql = directories.iter().rev().find_map(|directory| program(directory, "psql"));
        Ok(Self { dumps, other_psql, other_dumpalls })
    }

    /// The newest `pg_dump` and its `psql`, before the server's version is known.
    ///
    /// # Errors
    /// If there is no `psql`.
    pub fn newest(&self) -> Result<Tools, PostgresError> {
        let newest = self.dumps.last().ok_or(PostgresError::NoTools { program: "pg_dump" })?;
        self.tools(newest, &newest.version)
    }

    /// The programs with the lowest major version that is not older than the server.
    ///
    /// # Errors
    /// If every installed `pg_dump` is older than the server, or there is no `psql`.
    pub fn choose(&self, server: &Version) -> Result<Tools, PostgresError> {
        match self.dumps.iter().find(|tool| tool.version.major >= server.major) {
            Some(tool) => self.tools(tool, server),
            None => Err(PostgresError::TooOld {
                server: server.clone(),
                newest: self.dumps.last().map_or_else(String::new, |tool| tool.version.to_string()),
                path: self.dumps.last().map(|tool| tool.path.clone()).unwrap_or_default(),
                wanted: server.major,
            }),
        }
    }

    fn tools(&self, pg_dump: &Tool, server: &Version) -> Result<Tools, PostgresError> {
        let psql = sibling(pg_dump, "psql").or_else(|| self.other_psql.clone());
        let other = || self.other_dumpalls.iter().find(|tool| tool.version.major >= server.major);
        let pg_dumpall = sibling(pg_dump, "pg_dumpall").or_else(|| other().map(|tool| tool.path.clone()));
        let psql = psql.ok_or(PostgresError::NoTools { program: "psql" })?;
        Ok(Tools { pg_dump: pg_dump.clone(), psql: Psql::at(psql), pg_dumpall })
    }
}

/// Every working program of that name, the lowest major first.
async fn all(directories: &[PathBuf], name: &str, environment: &ClientEnvironment) -> Vec<Tool> {
    let (mut seen, mut tools) = (BTreeSet::new(), Vec::new());
    for path in directories.iter().filter_map(|directory| program(directory, name)) {
        if seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            match version_of(path, environment).await {
                Ok(tool) => tools.push(tool),
                Err(error) => tracing::debug!(%error, "ignored a {name}"),
            }
        }
    }
    tools.sort_by_key(|tool| tool.version.major);
    tools
}

/// The program of that name in a tool's directory.
fn sibling(tool: &Tool, name: &str) -> Option<PathBuf> {
    tool.path.parent().and_then(|directory| program(directory, name))
}

/// `PATH`, then the usual directories in order of version.
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
        Err(_) => Err(unusable("--version does not answer".to_owned())),
        Ok(Err(error)) => Err(unusable(error.to_string())),
        Ok(Ok(output)) => match Version::parse(&String::from_utf8_lossy(&output.stdout)) {
            Some(version) => Ok(Tool { path, version }),
            None => Err(unusable("--version does not print a version of PostgreSQL".to_owned())),
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
    fn parses_printed_versions() {
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
    fn chooses_lowest_sufficient_major() {
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

//! A database of one test on the shared server. Made by [`Postgres::create_database`].

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Postgres, installed_tools};

/// A database of one test; this value drops it.
#[derive(Debug)]
pub struct Database {
    /// Its name, unique in the process.
    pub name: String,
    server: Postgres,
}

impl Postgres {
    /// Creates an empty database with a name that starts with `name_hint`. Of `template0`, to which no other test is connected.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn create_database(&self, name_hint: &str) -> Database {
        self.create_database_with(name_hint, "TEMPLATE template0")
    }

    /// The same with options of `CREATE DATABASE` after the name, such as `TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn create_database_with(&self, name_hint: &str, options: &str) -> Database {
        let name = unique_name(name_hint);
        self.psql("postgres", &format!("CREATE DATABASE {} {options}", quoted(&name))).expect("CREATE DATABASE");
        Database { name, server: self.clone() }
    }

    /// Creates a tablespace that needs no directory of its own.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn create_in_place_tablespace(&self, name: &str) {
        // It cannot be created in a transaction, nor by several statements at once.
        let mut psql = self.client("psql", "postgres");
        psql.args([
            "-c",
            "SET allow_in_place_tablespaces = on",
            "-c",
            &format!("CREATE TABLESPACE {name} LOCATION ''"),
        ]);
        finished(&mut psql).expect("CREATE TABLESPACE");
    }

    /// A database that already exists; this value drops it.
    pub fn adopt_database(&self, name: &str) -> Database {
        Database { name: name.to_owned(), server: self.clone() }
    }

    /// Runs SQL in a database and returns the rows, unaligned, without a last line break.
    ///
    /// # Errors
    /// The message of `psql`.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, String> {
        finished(self.client("psql", database).args(["-c", sql]))
    }

    /// A client program (`psql`, `pg_dump` …) with connection and password in its environment; `psql` in quiet, strict mode.
    pub fn client(&self, program: &str, database: &str) -> Command {
        let own = Some(self.bin.join(program)).filter(|path| path.exists());
        let path = own.or_else(|| installed_tools().map(|bin| bin.join(program))).unwrap_or_else(|| program.into());
        let mut command = Command::new(path);
        let environment = [("PGHOST", &*self.host), ("PGUSER", &*self.user), ("PGPASSWORD", &*self.password)];
        command.envs(environment).env("PGPORT", self.port.to_string()).env("PGDATABASE", database);
        if program == "psql" {
            command.args(["-XAtq", "-v", "ON_ERROR_STOP=1"]);
        }
        command
    }

    /// The URI of one of its databases, the password in it percent-encoded.
    pub fn uri(&self, database: &str) -> String {
        let [user, password, database] = [&*self.user, &*self.password, database].map(percent_encoded);
        format!("postgresql://{user}:{password}@{}:{}/{database}", self.host, self.port)
    }
}

impl Database {
    /// Its URI, the password in it percent-encoded.
    pub fn uri(&self) -> String {
        self.server.uri(&self.name)
    }

    /// The same through a proxy at another address.
    pub fn uri_via(&self, host: &str, port: u16) -> String {
        Postgres { host: host.to_owned(), port, ..self.server.clone() }.uri(&self.name)
    }

    /// The server it is on.
    pub fn server(&self) -> &Postgres {
        &self.server
    }

    /// Runs SQL and returns the rows, unaligned, without a last line break.
    ///
    /// # Errors
    /// The message of `psql`.
    pub fn psql(&self, sql: &str) -> Result<String, String> {
        self.server.psql(&self.name, sql)
    }

    /// Loads a plain dump or script in one transaction.
    ///
    /// # Errors
    /// The message of `psql`.
    pub fn load(&self, file: &Path) -> Result<(), String> {
        let input = fs::File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
        finished(self.server.client("psql", &self.name).arg("-1").stdin(input).stdout(Stdio::null())).map(drop)
    }

    /// Dumps it with the real `pg_dump`, without the two lines that have a random key, so that two dumps can be compared.
    ///
    /// # Errors
    /// The message of `pg_dump`.
    pub fn dump(&self) -> Result<String, String> {
        let dump = finished(&mut self.server.client("pg_dump", &self.name))?;
        let is_key = |line: &str| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
        Ok(dump.lines().filter(|line| !is_key(line)).fold(String::new(), |text, line| text + line + "\n"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // If this fails, the database is removed with the server.
        let _ = self.server.psql("postgres", &format!("DROP DATABASE {} WITH (FORCE)", quoted(&self.name)));
    }
}

/// A name that no other test, and no other test process, has.
pub fn unique_name(hint: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(1);
    format!("{hint}_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Quotes a name for SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn finished(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.truncate(text.trim_end_matches('\n').len());
    Ok(text)
}

/// Percent-encodes everything but letters, digits and `-._~` (RFC 3986).
pub(super) fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::percent_encoded;

    #[test]
    fn passwords_are_safe_in_a_uri() {
        assert_eq!(percent_encoded("a/b:c@ä~1"), "a%2Fb%3Ac%40%C3%A4~1");
    }
}

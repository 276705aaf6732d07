//! Where a session is: the host and address that libpq chose among several. `pg_dump` and `pg_dumpall` connect to the same
//! ([`super::PostgresSettings::pinned`]).

use std::net::IpAddr;

use super::{ClientEnvironment, Conninfo};

/// A `statement_timeout` up to this, in milliseconds, may end the statements that set up a session.
const SHORT_TIMEOUT: u64 = 1_000;

/// The kind of pooler between this program and the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// None detected.
    #[default]
    None,
    /// A pooler with one server session per connection.
    Session,
    /// A pooler with another server session per transaction.
    Transaction,
}

/// Where a session is.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The host that libpq chose, or the socket's directory.
    pub host: String,
    /// Its port.
    pub port: String,
    /// The address that it chose; `None` for a Unix socket.
    pub address: Option<IpAddr>,
    /// The pooler in between, if any.
    pub pooling: Pooling,
    /// Whether the role's or database's `statement_timeout` is too short to set up a session.
    pub(super) has_short_timeout: bool,
}

impl Place {
    /// From the output of `\conninfo`, and the session's initial `statement_timeout` in milliseconds.
    pub(super) fn new(host: String, port: String, conninfo: &[String], statement_timeout: &str) -> Self {
        let address = address_in(conninfo).or_else(|| host.parse().ok());
        let has_short_timeout = statement_timeout.parse().is_ok_and(|time| (1..=SHORT_TIMEOUT).contains(&time));
        Self { host, port, address, pooling: Pooling::None, has_short_timeout }
    }

    /// Makes a connection string connect to this address. It keeps the host's name, which certificates and password files
    /// refer to.
    pub(super) fn pin(&self, source: &mut Conninfo, environment: &ClientEnvironment) {
        if self.host.is_empty() {
            return;
        }
        source.set("host", self.host.clone());
        source.set("port", self.port.clone());
        match self.address {
            Some(address) => source.set("hostaddr", address.to_string()),
            // Overrides PGHOSTADDR.
            None => source.set("hostaddr", ""),
        }
        if self.has_short_timeout {
            without_statement_timeout(source, environment);
        }
    }
}

/// Turns `statement_timeout` off when connecting. Only if needed, because poolers refuse options.
pub(super) fn without_statement_timeout(source: &mut Conninfo, environment: &ClientEnvironment) {
    let from_environment = || environment.get("PGOPTIONS").map(|value| value.to_string_lossy().into_owned());
    let given = source.get("options").map(str::to_owned).or_else(from_environment).unwrap_or_default();
    source.set("options", format!("{given} -c statement_timeout=0").trim_start());
}

/// The address in the output of `\conninfo`, which is a sentence up to psql 17 and a table since. The last match counts,
/// because the database's name before it may contain anything.
fn address_in(conninfo: &[String]) -> Option<IpAddr> {
    let address = |line: &String| {
        let of_table = line.strip_prefix("Host Address|");
        let of_sentence = || line.rsplit_once("(address \"")?.1.split_once('"').map(|(address, _)| address);
        of_table.or_else(of_sentence)?.parse().ok()
    };
    conninfo.iter().rev().find_map(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str, conninfo: &str, statement_timeout: &str) -> Place {
        let lines: Vec<String> = conninfo.lines().map(str::to_owned).collect();
        Place::new(host.to_owned(), "5432".to_owned(), &lines, statement_timeout)
    }

    #[test]
    fn reads_address_from_output_of_each_psql() {
        let sentence = "You are connected to database \"a\" as user \"(address \"1.1.1.1\")\" on host";
        for (host, conninfo, address) in [
            ("db", format!("{sentence} \"db\" (address \"10.0.0.7\") at port \"5432\"."), Some("10.0.0.7")),
            ("db", format!("{sentence} \"db\" (address \"fd00::7\") at port \"5432\".\nSSL"), Some("fd00::7")),
            (
                "db",
                "Database|\nHost Address|1.1.1.1\nHost|db\nHost Address|10.0.0.7\nSSL|on".to_owned(),
                Some("10.0.0.7"),
            ),
            ("10.0.0.7", "Database|d\nHost|10.0.0.7\nSSL|on".to_owned(), Some("10.0.0.7")),
            ("/run/pg", "Database|d\nSocket Directory|/run/pg".to_owned(), None),
        ] {
            assert_eq!(place(host, &conninfo, "0").address.map(|ip| ip.to_string()).as_deref(), address, "{conninfo}");
        }
    }

    #[test]
    fn pin_overrides_host_and_address() {
        let pinned = |place: Place, text: &str| {
            let mut source = Conninfo::parse(text).expect("parses");
            place.pin(&mut source, &ClientEnvironment::default());
            source.to_string()
        };
        let several = "dbname=d host=a,b hostaddr=1.1.1.1,2.2.2.2 port=1,2 options='-c x=y'";
        let at = place("b", "Host Address|2.2.2.2", "0");
        assert_eq!(pinned(at, several), "dbname='d' options='-c x=y' host='b' port='5432' hostaddr='2.2.2.2'");
        let short = pinned(place("b", "Host Address|2.2.2.2", "1000"), several);
        assert!(short.ends_with("options='-c x=y -c statement_timeout=0'"), "{short}");
        assert_eq!(pinned(place("/run", "", "1001"), "dbname=d"), "dbname='d' host='/run' port='5432' hostaddr=''");
    }
}

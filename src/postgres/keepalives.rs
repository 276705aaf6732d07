//! TCP keepalives: they detect within two minutes that a host is gone or a firewall has dropped the connection. The kernel's
//! defaults take more than two hours.
//!
//! `session`, `dump` and `globals` add them to the connection string, unless the user has set any of them; `lock` sets the same
//! on the server.

use std::path::{Path, PathBuf};

use super::{ClientEnvironment, Conninfo, Tools};

/// Seconds of silence before the first probe. Firewalls and load balancers drop idle connections after 60 s or more (AWS
/// Network Firewall's API reference, "FlowTimeouts": 60 to 6000 s, 350 s by default).
pub(super) const IDLE_SECONDS: u32 = 45;
/// Seconds between probes.
pub(super) const INTERVAL_SECONDS: u32 = 15;
/// Unanswered probes until the connection is dead: two minutes in total.
pub(super) const PROBES: u32 = 5;
/// The same two minutes for unacknowledged data: Linux then sends no probes and retries for a quarter of an hour (tcp(7),
/// `tcp_retries2`).
const USER_TIMEOUT_MILLIS: u32 = (IDLE_SECONDS + INTERVAL_SECONDS * PROBES) * 1000;
/// The first libpq that accepts `tcp_user_timeout`.
const HAS_USER_TIMEOUT: u32 = 12;

/// libpq's parameters. If the user sets one of them, this program sets none.
const KEYWORDS: [&str; 5] =
    ["keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"];

/// Adds keepalives to a connection string, for the programs of these tools.
pub(super) fn with_keepalives(source: &Conninfo, environment: &ClientEnvironment, tools: &Tools) -> Conninfo {
    let mut conninfo = source.clone();
    if KEYWORDS.iter().any(|keyword| source.get(keyword).is_some()) || service_has_some(source, environment) {
        return conninfo;
    }
    conninfo.set("keepalives", "1");
    conninfo.set("keepalives_idle", IDLE_SECONDS.to_string());
    conninfo.set("keepalives_interval", INTERVAL_SECONDS.to_string());
    conninfo.set("keepalives_count", PROBES.to_string());
    if tools.pg_dump.version.major >= HAS_USER_TIMEOUT {
        conninfo.set("tcp_user_timeout", USER_TIMEOUT_MILLIS.to_string());
    }
    conninfo
}

/// Whether the user's service sets any of them, which the connection string would override. Assumed of a service that is not
/// found here: libpq has another directory, and LDAP.
fn service_has_some(conninfo: &Conninfo, environment: &ClientEnvironment) -> bool {
    let variable = |name: &str| environment.get(name).map(|value| value.to_string_lossy().into_owned());
    let Some(service) = conninfo.get("service").map(str::to_owned).or_else(|| variable("PGSERVICE")) else {
        return false;
    };
    if environment.has_service_file() {
        // This program's own service has secrets only.
        return false;
    }
    let files = service_files(conninfo.get("servicefile"), environment);
    let found = files.iter().find_map(|file| section(&std::fs::read_to_string(file).ok()?, &service));
    found.is_none_or(|lines| lines.iter().any(|line| is_keepalive(line) || line.starts_with("ldap")))
}

/// Where libpq looks for services (`parseServiceInfo` in `fe-connect.c`).
fn service_files(named: Option<&str>, environment: &ClientEnvironment) -> Vec<PathBuf> {
    let variable = |name: &str| environment.get(name).map(PathBuf::from);
    let home = || Some(variable("HOME")?.join(".pg_service.conf"));
    let first = named.map(PathBuf::from).or_else(|| variable("PGSERVICEFILE")).or_else(home);
    let system = variable("PGSYSCONFDIR").map(|directory| Path::new(&directory).join("pg_service.conf"));
    first.into_iter().chain(system).collect()
}

/// The lines of a service in a service file, if it has that service (`parseServiceFile`).
fn section(text: &str, service: &str) -> Option<Vec<String>> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| name(line) != Some(service));
    lines.next()?;
    Some(lines.take_while(|line| !line.starts_with('[')).map(str::to_owned).collect())
}

fn name(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.split_once(']').map(|(name, _)| name)
}

fn is_keepalive(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, _)| KEYWORDS.contains(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "# services\n[shop]\nhost=h\n  keepalives_idle=5\n[bare]\nhost=h\n#keepalives=0\n[far]\nldap://h/o\n";

    #[test]
    fn finds_service_like_libpq() {
        let some = |service| section(FILE, service).map(|lines| lines.iter().any(|line| is_keepalive(line)));
        assert_eq!(some("shop"), Some(true));
        assert_eq!(some("bare"), Some(false));
        assert_eq!((some("sho"), some("host")), (None, None));
        assert_eq!(section(FILE, "far"), Some(vec!["ldap://h/o".to_owned()]));
    }
}

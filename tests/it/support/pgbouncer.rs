//! [`PgBouncer`]: a real connection pooler of one database. Used by the tests of poolers.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::client::eventually;
use super::port::own_port;
use super::servers::database::Database;
use super::setup::installed;

/// A pooler; ends with this value, and with it its sessions.
#[derive(Debug)]
pub struct PgBouncer {
    child: Child,
    /// Where it listens.
    pub port: u16,
    _dir: TempDir,
}

impl PgBouncer {
    /// Starts one for a database, in a mode (`transaction`, `session`), with the way to choose among idle server sessions.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(database: &Database, mode: &str, goes_around: bool) -> Self {
        installed("pgbouncer");
        let (server, port, dir) = (database.server(), own_port(), tempfile::tempdir().expect("a directory"));
        let config = format!(
            "[databases]\n{} = host={} port={} user={} password={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 3\nserver_round_robin = {}\n",
            database.name,
            server.host,
            server.port,
            server.user,
            server.password,
            u8::from(goes_around)
        );
        let file = dir.path().join("pgbouncer.ini");
        std::fs::write(&file, config).expect("written");
        let program = Some(PathBuf::from("/usr/sbin/pgbouncer")).filter(|path| path.exists());
        let mut command = Command::new(program.unwrap_or_else(|| "pgbouncer".into()));
        command.arg("-q").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if is_root() {
            // It refuses to be root, and reads its settings before it changes its user.
            command.args(["-u", "nobody"]);
        }
        let child = command.spawn().expect("pgbouncer");
        eventually(|| TcpStream::connect(("127.0.0.1", port)).is_ok(), || "pgbouncer does not listen".to_owned());
        Self { child, port, _dir: dir }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // It runs in drops, where a panic would abort.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id");
    output.stdout.trim_ascii() == b"0"
}

//! The library called without the program: the tools and settings that a command would have, and a runtime.

use pg_s3_backup::environment::Environment;
use pg_s3_backup::postgres::{ClientEnvironment, Conninfo, DumpArguments, Installed, PostgresSettings, Tools};

/// Runs a future to its end.
///
/// # Panics
/// Where there is no runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// The newest installed tools, and the settings that lead to a URI.
///
/// # Panics
/// Where nothing is installed, or the URI is none.
pub async fn connection(uri: &str) -> (Tools, PostgresSettings) {
    let environment = ClientEnvironment::from_process(&Environment::of_process());
    let tools = Installed::find(None, &environment).await.expect("installed").newest().expect("a psql");
    let settings = PostgresSettings {
        conninfo: Conninfo::parse(uri).expect("a URI"),
        environment,
        pg_dump_path: None,
        arguments: DumpArguments::default(),
        lock_wait: std::time::Duration::from_mins(1),
        stall_timeout: std::time::Duration::from_mins(1),
        allows_pooler: false,
    };
    (tools, settings)
}

//! The thin end: the process's arguments and environment in, its exit code out.

use pg_s3_backup::environment::Environment;

fn main() -> std::process::ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    pg_s3_backup::run(&arguments, &Environment::of_process()).into()
}

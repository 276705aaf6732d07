//! `podman run` of the image that `make image` built, with all that a careful operator takes away.

use std::path::Path;

use crate::support::program::{Outcome, Program};
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{S3, s3};

/// The image's name.
///
/// # Panics
/// Outside `make image`.
pub fn image() -> String {
    std::env::var("PG_S3_BACKUP_IMAGE").expect("PG_S3_BACKUP_IMAGE names the image: run `make image`")
}

/// podman with the storage that `make image` built in.
pub fn podman() -> Program {
    let inherited = ["CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"];
    let set = inherited.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    // Health checks are run by the tests themselves: there may be no systemd here to run them by timers.
    let podman = Program::at(Path::new("/usr/bin/podman")).env("DISABLE_HC_SYSTEMD", "true");
    set.fold(podman, |program, (name, value)| program.env(name, value))
}

/// A container to be run once.
#[must_use]
pub struct Container {
    name: String,
    options: Vec<String>,
}

impl Container {
    /// Another user, no capability, nothing to write to: not even `/tmp`.
    pub fn hardened() -> Self {
        let options = "--read-only --read-only-tmpfs=false --user 65532:65532 --cap-drop ALL \
                       --security-opt no-new-privileges";
        options.split(' ').fold(Self::bare(), |container, option| container.option(option.to_owned()))
    }

    /// As podman runs it by itself, in this machine's own network.
    pub fn bare() -> Self {
        let name = unique_name("image");
        let options = format!("--rm --name {name} --network host");
        Self { name, options: options.split(' ').map(str::to_owned).collect() }
    }

    /// One more option of `podman run`.
    pub fn option(mut self, option: String) -> Self {
        self.options.push(option);
        self
    }

    /// The kernel ends it where it takes more.
    pub fn memory(self, limit: &str) -> Self {
        self.option(format!("--memory={limit}")).option(format!("--memory-swap={limit}"))
    }

    /// An environment variable.
    pub fn env(self, name: &str, value: &str) -> Self {
        self.option(format!("--env={name}={value}"))
    }

    /// A file of this machine, to be read only.
    pub fn mount(self, file: &Path, target: &str) -> Self {
        self.option(format!("--volume={}:{target}:ro", file.display()))
    }

    /// With nothing where the shells were.
    pub fn without_shell(self) -> Self {
        ["dash", "bash"]
            .into_iter()
            .fold(self, |container, shell| container.mount(Path::new("/dev/null"), &format!("/usr/bin/{shell}")))
    }

    /// Another program than the image's.
    pub fn entrypoint(self, program: &str) -> Self {
        self.option(format!("--entrypoint={program}"))
    }

    /// The destination: a bucket of the shared S3 server.
    pub fn s3(self, bucket: &str) -> Self {
        self.settings(s3(), bucket)
    }

    /// The destination: a bucket of this S3 server.
    pub fn settings(self, s3: &S3, bucket: &str) -> Self {
        self.env("S3_URL", &s3.url)
            .env("S3_ACCESS_KEY", &s3.access_key)
            .env("S3_SECRET_KEY", &s3.secret_key)
            .env("S3_BUCKET", bucket)
    }

    /// What is backed up.
    pub fn database(self, database: &Database) -> Self {
        self.env("POSTGRES_CONNECTION_STRING", &database.uri())
    }

    /// The complete command line.
    pub fn program(&self, arguments: &[&str]) -> Program {
        podman().arg("run").args(&self.options).arg(image()).args(arguments)
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.program(arguments).run()
    }

    /// Its name, for other commands of podman's.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A test that fails in the middle leaves no container.
impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            podman().args(["rm", "--force", "--ignore", "--time=0", self.name()]).run();
        }
    }
}

//! Looking into the S3 server from outside the product, through `scripts/s3`: what a test needs to know whether a backup is
//! there, whole, and nothing else with it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::S3;
use super::database::unique_name;

impl S3 {
    /// The same server and credentials at another address, such as a proxy's.
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// Makes an empty bucket and gives its name, unique in the test run.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn create_bucket(&self, hint: &str) -> String {
        let name = unique_name(hint).replace('_', "-");
        self.request("PUT", &format!("/{name}"), b"").expect("a bucket");
        name
    }

    /// Makes many objects of one byte, several at once.
    ///
    /// # Panics
    /// Where the server refuses one.
    pub fn put_many(&self, bucket: &str, keys: &[String]) {
        let script = "import sys; from concurrent.futures import ThreadPoolExecutor as Pool\n\
                      sys.dont_write_bytecode = True; from importlib.machinery import SourceFileLoader as Loader\n\
                      s3 = {}; exec(Loader('s3', sys.argv[1]).get_code('s3'), s3)\n\
                      put = lambda key: s3['request']('PUT', '/' + sys.argv[2] + '/' + key, b'x')[0]\n\
                      sys.exit(any(status != 200 for status in Pool(8).map(put, sys.stdin.read().split())))";
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(script_file()).arg(bucket);
        self.send(command, keys.join("\n").as_bytes()).expect("stored");
    }

    /// One signed request; `target` is `/bucket/key?query`. Gives the answer's body (for HEAD, its headers).
    ///
    /// # Errors
    /// What the server said, for any status but 2xx.
    pub fn request(&self, method: &str, target: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        self.request_with(method, target, &[], body)
    }

    /// As [`Self::request`], with headers (`name:value`).
    ///
    /// # Errors
    /// What the server said, for any status but 2xx.
    pub fn request_with(&self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Result<Vec<u8>, String> {
        let mut command = Command::new(script_file());
        command.args([method, target]).args(headers);
        self.send(command, body)
    }

    /// Runs a command with the server and the credentials in its environment.
    fn send(&self, mut command: Command, stdin: &[u8]) -> Result<Vec<u8>, String> {
        command.env("S3_URL", &self.url).env("S3_REGION", &self.region);
        command.env("S3_ACCESS_KEY", &self.access_key).env("S3_SECRET_KEY", &self.secret_key);
        if let Some(file) = &self.ca_file {
            command.env("S3_CA_FILE", file);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        if let Some(mut input) = child.stdin.take() {
            // A script that ended before reading says why itself.
            let _ = input.write_all(stdin);
        }
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// An object's bytes.
    ///
    /// # Errors
    /// What the server said.
    pub fn get(&self, bucket: &str, key: &str) -> Result<Vec<u8>, String> {
        self.request("GET", &format!("/{bucket}/{key}"), b"")
    }

    /// The keys in a bucket that begin with a prefix (at most the first 1,000), sorted by the server.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let target = format!("/{bucket}?list-type=2&prefix={}", prefix.replace('/', "%2F"));
        self.keys_in(&target)
    }

    /// The keys of all multipart uploads left open in a bucket.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn open_uploads(&self, bucket: &str) -> Vec<String> {
        self.keys_in(&format!("/{bucket}?uploads="))
    }

    fn keys_in(&self, target: &str) -> Vec<String> {
        let answer = self.request("GET", target, b"").expect("a listing");
        let xml = String::from_utf8_lossy(&answer);
        let keys = xml.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        keys.map(|(key, _)| key.to_owned()).collect()
    }
}

fn script_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/s3")
}

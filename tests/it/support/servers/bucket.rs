//! Reads and changes buckets of the S3 server without the product ([`signed`], or `scripts/s3` over TLS): objects, listings and
//! open uploads.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::S3;
use super::database::{percent_encoded, unique_name};
use super::signed;

impl S3 {
    /// The same server and credentials at another address, such as a proxy's.
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// Creates an empty bucket and returns its name, unique in the test run.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn create_bucket(&self, hint: &str) -> String {
        let name = unique_name(hint).replace('_', "-");
        self.request("PUT", &format!("/{name}"), b"").expect("a bucket");
        name
    }

    /// Creates a bucket that locks each version for a day, also against an administrator.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn create_locked_bucket(&self, hint: &str) -> String {
        let name = unique_name(hint).replace('_', "-");
        let enabled = "x-amz-bucket-object-lock-enabled:true";
        self.request_with("PUT", &format!("/{name}"), &[enabled], b"").expect("a bucket with locks");
        let lock = "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ObjectLockEnabled>Enabled\
                    </ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule>\
                    </ObjectLockConfiguration>";
        self.request("PUT", &format!("/{name}?object-lock="), lock.as_bytes()).expect("a default retention");
        name
    }

    /// Stores many objects of one byte, several at once.
    ///
    /// # Panics
    /// If the server refuses one.
    pub fn put_many(&self, bucket: &str, keys: &[String]) {
        let objects: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "x")).collect();
        self.put_all(bucket, &objects);
    }

    /// Stores many objects of one line each (key, content), several at once.
    ///
    /// # Panics
    /// If the server refuses one.
    pub fn put_all(&self, bucket: &str, objects: &[(&str, &str)]) {
        let targets: Vec<String> = objects.iter().map(|(key, body)| format!("/{bucket}/{key}\t{body}")).collect();
        self.send_many("PUT", &targets);
    }

    /// Starts an upload for each of these keys, several at once.
    ///
    /// # Panics
    /// If the server refuses one.
    pub fn begin_uploads(&self, bucket: &str, keys: &[String]) {
        let targets: Vec<String> = keys.iter().map(|key| format!("/{bucket}/{key}?uploads=\t")).collect();
        self.send_many("POST", &targets);
    }

    /// Sends a request for each line: its target, a tab, and its body.
    fn send_many(&self, method: &str, lines: &[String]) {
        let script = "import sys; from concurrent.futures import ThreadPoolExecutor as Pool\n\
                      sys.dont_write_bytecode = True; from importlib.machinery import SourceFileLoader as Loader\n\
                      s3 = {}; exec(Loader('s3', sys.argv[1]).get_code('s3'), s3)\n\
                      def send(line):\n\
                      \x20   target, _, body = line.partition('\\t')\n\
                      \x20   return s3['request'](sys.argv[2], target, body.encode())[0]\n\
                      lines = sys.stdin.read().split('\\n')\n\
                      sys.exit(any(status != 200 for status in Pool(8).map(send, lines)))";
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(script_file()).arg(method);
        self.send(command, lines.join("\n").as_bytes()).expect("stored");
    }

    /// Sends a signed request; `target` is `/bucket/key?query`. Returns the answer's body (for HEAD, its headers).
    ///
    /// # Errors
    /// The server's message, for any status but 2xx.
    pub fn request(&self, method: &str, target: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        self.request_with(method, target, &[], body)
    }

    /// As [`Self::request`], with headers (`name:value`).
    ///
    /// # Errors
    /// The server's message, for any status but 2xx.
    pub fn request_with(&self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Result<Vec<u8>, String> {
        if self.ca_file.is_none() {
            return signed::send(self, (method, target), headers, body);
        }
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
            // If the script ended before reading, its own message says why.
            let _ = input.write_all(stdin);
        }
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Returns an object's bytes.
    ///
    /// # Errors
    /// The server's message.
    pub fn get(&self, bucket: &str, key: &str) -> Result<Vec<u8>, String> {
        self.request("GET", &format!("/{bucket}/{key}"), b"")
    }

    /// The keys in a bucket that begin with a prefix (at most the first 1,000), sorted by the server.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let target = format!("/{bucket}?list-type=2&prefix={}", prefix.replace('/', "%2F"));
        self.keys_in(&target)
    }

    /// Returns all keys of a bucket, of any number.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn every_key(&self, bucket: &str) -> BTreeSet<String> {
        let mut keys: BTreeSet<String> = BTreeSet::new();
        loop {
            let after = keys.last().map(String::as_str).map(percent_encoded).unwrap_or_default();
            let page = self.keys_in(&format!("/{bucket}?list-type=2&start-after={after}"));
            let before = keys.len();
            keys.extend(page);
            // In a bucket with versions, this server repeats the last page.
            if keys.len() == before {
                return keys;
            }
        }
    }

    /// The keys of all multipart uploads left open in a bucket.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn open_uploads(&self, bucket: &str) -> Vec<String> {
        self.keys_in(&format!("/{bucket}?uploads="))
    }

    /// Key and id of each multipart upload left open in a bucket that has no part and a key with this prefix.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn empty_uploads(&self, bucket: &str, prefix: &str) -> Vec<(String, String)> {
        let text =
            |target: &str| String::from_utf8_lossy(&self.request("GET", target, b"").expect("a listing")).into_owned();
        let between = |xml: &str, name: &str| {
            let (_, rest) = xml.split_once(&format!("<{name}>"))?;
            Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
        };
        let uploads = text(&format!("/{bucket}?uploads="));
        let uploads = uploads.split("<Upload>").skip(1);
        let uploads = uploads.filter_map(|upload| between(upload, "Key").zip(between(upload, "UploadId")));
        // Other tests start and end uploads meanwhile.
        let uploads = uploads.filter(|(key, _)| key.starts_with(prefix));
        uploads.filter(|(key, id)| !text(&format!("/{bucket}/{key}?uploadId={id}")).contains("<Part>")).collect()
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

//! [`Browser`]: a headless Chromium, driven over the DevTools protocol. Used by the tests of the status page.
//!
//! The protocol goes through two pipes (`--remote-debugging-pipe`), so that no WebSocket is needed: messages are JSON, each ended by a
//! zero byte. It resolves no name but this host's, and does not use the network on its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use base64::Engine as _;
use serde_json::{Value, json};

use super::setup::installed;

const FLAGS: [&str; 13] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
];

/// A running browser. Dropping it ends it.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    last_id: u64,
    events: Vec<Value>,
    profile: tempfile::TempDir,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Width of the window in CSS pixels.
    pub width: u32,
    /// `light` or `dark`.
    pub scheme: &'static str,
}

/// An open page.
pub struct Page<'a> {
    browser: &'a mut Browser,
    session: String,
    target: String,
}

impl Browser {
    /// Starts Chromium. Installs it if it is missing.
    ///
    /// # Panics
    /// If it is not installed, or does not start.
    pub fn start() -> Self {
        static INSTALLED: LazyLock<()> = LazyLock::new(|| installed("chromium"));
        LazyLock::force(&INSTALLED);
        let profile = tempfile::tempdir().expect("a directory");
        // The protocol's file descriptors are 3 and 4.
        let mut command = Command::new("sh");
        command.args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>"$PROFILE/log""#, "chromium"]);
        command.args(FLAGS).arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.env("PROFILE", profile.path()).env("HOME", profile.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh");
        let (input, output) = (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        let output = BufReader::new(output);
        let mut browser = Self { child, input, output, last_id: 0, events: Vec::new(), profile };
        let version = browser.call(None, "Browser.getVersion", &json!({}));
        assert!(version["product"].as_str().is_some_and(|product| product.contains("Chrom")), "{version}");
        browser
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&mut self, url: &str, view: View) -> Page<'_> {
        self.events.clear();
        let target = self.call(None, "Target.createTarget", &json!({ "url": "about:blank" }));
        let target = target["targetId"].as_str().expect("a target").to_owned();
        let attached = self.call(None, "Target.attachToTarget", &json!({ "targetId": target, "flatten": true }));
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let mut page = Page { browser: self, session, target };
        for domain in ["Page", "Network", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        let scheme = json!({ "name": "prefers-color-scheme", "value": view.scheme });
        page.call("Emulation.setEmulatedMedia", &json!({ "features": [scheme] }));
        let size = json!({ "width": view.width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        page.call("Emulation.setDeviceMetricsOverride", &size);
        let navigated = page.call("Page.navigate", &json!({ "url": url }));
        assert!(navigated["errorText"].is_null(), "{url}: {navigated}");
        page.browser.wait_for("Page.loadEventFired");
        page
    }

    fn call(&mut self, session: Option<&str>, method: &str, params: &Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let sent = self.input.write_all(format!("{message}\0").as_bytes()).and_then(|()| self.input.flush());
        sent.unwrap_or_else(|error| panic!("{method}: {error}: {}", self.log()));
        loop {
            let answer = self.receive(method);
            if answer["id"] == self.last_id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn wait_for(&mut self, event: &str) {
        while !self.events.iter().any(|seen| seen["method"] == event) {
            let seen = self.receive(event);
            self.events.push(seen);
        }
    }

    fn receive(&mut self, what: &str) -> Value {
        let mut bytes = Vec::new();
        self.output.read_until(0, &mut bytes).expect("its output");
        assert_eq!(bytes.pop(), Some(0), "{what}: Chromium has ended: {}", self.log());
        serde_json::from_slice(&bytes).expect("JSON")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.profile.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        _ = self.input.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        // It closes its output at its end; until then its profile is in use.
        while self.output.read_until(0, &mut Vec::new()).is_ok_and(|bytes| bytes > 0) {}
        _ = self.child.wait();
    }
}

impl Page<'_> {
    /// The value of an expression of JavaScript, as JSON.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", &asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// A picture of the page from its top to its end, as PNG.
    pub fn screenshot(&mut self) -> Vec<u8> {
        let metrics = self.call("Page.getLayoutMetrics", &json!({}));
        let size = metrics["cssContentSize"].clone();
        self.picture(&size["width"], &size["height"])
    }

    /// A picture of the page's top.
    pub fn picture(&mut self, width: &Value, height: &Value) -> Vec<u8> {
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let picture = self
            .call("Page.captureScreenshot", &json!({ "format": "png", "clip": clip, "captureBeyondViewport": true }));
        let data = picture["data"].as_str().expect("a picture");
        base64::prelude::BASE64_STANDARD.decode(data).expect("base64")
    }

    /// What the page wrote to the console, and what the browser reported about it.
    pub fn console(&mut self) -> Vec<Value> {
        self.evaluate("1");
        let methods = ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"];
        let is_one = |event: &&Value| methods.iter().any(|method| event["method"] == *method);
        self.browser.events.iter().filter(is_one).cloned().collect()
    }

    /// The URL of each request.
    pub fn requests(&mut self) -> Vec<String> {
        self.evaluate("1");
        let sent = self.browser.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.filter_map(|event| event["params"]["request"]["url"].as_str().map(str::to_owned)).collect()
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.browser.call(Some(&self.session), method, params)
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.browser.call(None, "Target.closeTarget", &json!({ "targetId": self.target }));
        }
    }
}

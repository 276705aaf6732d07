//! What a node does with a pod: variables out of ConfigMaps and `$(…)`, files out of Secrets. Used by the tests that run
//! what `k8s/` ships, here with the program itself and in `make image` with the image. It gives exactly what the pod's
//! template says; only what an operator has to fill in (settings, secrets) comes from the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use serde_json::Value;
use tempfile::TempDir;

use super::manifests::{Manifests, items, text};
use crate::support::program::Program;

/// The names of files and what is in them.
type Files = BTreeMap<String, String>;

/// A volume, mounted.
#[derive(Debug)]
pub struct Mount {
    /// The path in the container.
    pub target: String,
    /// The directory on this machine.
    pub source: PathBuf,
    /// Whether the container may write to it.
    pub writable: bool,
    /// The mode of its files; none for a disk, with the container's own files.
    pub mode: Option<u32>,
}

/// A node with what is in the cluster. Its files go with it.
#[derive(Debug)]
pub struct Node {
    manifests: Manifests,
    objects: BTreeMap<(String, String), Files>,
    annotations: BTreeMap<String, String>,
    directory: TempDir,
}

impl Node {
    /// A node of a cluster in which these are applied.
    pub fn new(manifests: Manifests) -> Self {
        let mut node = Self {
            manifests,
            objects: BTreeMap::new(),
            annotations: BTreeMap::new(),
            directory: tempfile::tempdir().expect("a directory"),
        };
        for object in node.manifests.objects.clone() {
            let kind = match text(&object["kind"]) {
                "ConfigMap" => "configMap",
                "Secret" => "secret",
                _ => continue,
            };
            let value = |value: &Value| match kind {
                "secret" => {
                    String::from_utf8(STANDARD.decode(text(value).replace('\n', "")).expect("base64")).expect("text")
                }
                _ => text(value).to_owned(),
            };
            let data = object["data"].as_object().expect("its data");
            let files = data.iter().map(|(key, content)| (key.clone(), value(content))).collect();
            node.objects.insert((kind.to_owned(), text(&object["metadata"]["name"]).to_owned()), files);
        }
        node
    }

    /// What an operator makes by hand: a `secret` or `configMap`, its keys and values.
    pub fn with(mut self, kind: &str, name: &str, files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.objects.insert((kind.to_owned(), name.to_owned()), files);
        self
    }

    /// A setting as an operator edits it in the ConfigMap of settings.
    pub fn set(mut self, variable: &str, value: &str) -> Self {
        let settings = text(&self.manifests.container()["envFrom"][0]["configMapRef"]["name"]).to_owned();
        let settings = self.objects.get_mut(&("configMap".to_owned(), settings)).expect("the settings");
        settings.insert(variable.to_owned(), value.to_owned());
        self
    }

    /// Which pod of an Indexed Job it is.
    pub fn index(mut self, index: usize) -> Self {
        self.annotations.insert("batch.kubernetes.io/job-completion-index".to_owned(), index.to_string());
        self
    }

    /// The container.
    pub fn container(&self) -> &Value {
        self.manifests.container()
    }

    /// The pod.
    pub fn pod(&self) -> &Value {
        &self.manifests.template()["spec"]
    }

    fn object(&self, kind: &str, name: &Value) -> &Files {
        let key = (kind.to_owned(), text(name).to_owned());
        self.objects.get(&key).unwrap_or_else(|| panic!("{key:?} was not made"))
    }

    /// The environment, in the kubelet's order: `envFrom` first, `env` over it; `$(X)` is known only once `X` was set by an
    /// entry of `env` before it, and stays as it is otherwise.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        for entry in items(&self.container()["env"]) {
            let value = match entry["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some(path) => self.field(path),
                None => known.iter().fold(text(&entry["value"]).to_owned(), |value, (name, known)| {
                    value.replace(&format!("$({name})"), known)
                }),
            };
            known.insert(text(&entry["name"]).to_owned(), value);
        }
        let mut all = BTreeMap::new();
        for source in items(&self.container()["envFrom"]) {
            all.extend(self.object("configMap", &source["configMapRef"]["name"]).clone());
        }
        all.extend(known);
        all
    }

    /// A field of the pod: its id, or an annotation.
    fn field(&self, path: &str) -> String {
        if path == "metadata.uid" {
            return "3f0c2a52-7d5e-4b7e-9f0e-0d6b1f6c8a11".to_owned();
        }
        let name = path.strip_prefix("metadata.annotations['").and_then(|rest| rest.strip_suffix("']"));
        let name = name.unwrap_or_else(|| panic!("not an annotation: {path}"));
        self.annotations.get(name).cloned().unwrap_or_default()
    }

    /// The volumes, with their files.
    ///
    /// # Panics
    /// Where one of them refers to an object that was not made.
    pub fn mounts(&self) -> Vec<Mount> {
        let mount = |mount: &Value| {
            let volume = items(&self.pod()["volumes"]).iter().find(|volume| volume["name"] == mount["name"]);
            let volume = volume.unwrap_or_else(|| panic!("no volume for {mount}"));
            let source = self.directory.path().join(text(&mount["name"]));
            fs::create_dir_all(&source).expect("a directory");
            for (kind, name) in [("secret", "secretName"), ("configMap", "name")] {
                if let Some(reference) = volume.get(kind) {
                    for (file, content) in self.object(kind, &reference[name]) {
                        fs::write(source.join(file), content).expect("written");
                    }
                }
            }
            let target = text(&mount["mountPath"]).to_owned();
            Mount { target, source, writable: mount["readOnly"] != true, mode: mode(volume) }
        };
        items(&self.container()["volumeMounts"]).iter().map(mount).collect()
    }

    /// The program as the container runs it, where paths of mounts are those of this machine.
    pub fn program(&self) -> Program {
        let mounts = self.mounts();
        let here = |value: &str| {
            let mount =
                mounts.iter().find(|mount| value.starts_with(&format!("{}/", mount.target)) || value == mount.target);
            mount
                .map_or(value.to_owned(), |mount| value.replacen(&mount.target, &mount.source.display().to_string(), 1))
        };
        let environment = self.environment();
        let program = environment.iter().fold(Program::new(), |program, (name, value)| program.env(name, here(value)));
        program.args(self.arguments())
    }

    /// The program's arguments.
    pub fn arguments(&self) -> Vec<&str> {
        items(&self.container()["args"]).iter().map(text).collect()
    }
}

/// The mode of a volume's files, as Kubernetes has it by default or as it says itself.
fn mode(volume: &Value) -> Option<u32> {
    let files = volume.get("secret").or_else(|| volume.get("configMap"))?;
    let mode = files["defaultMode"].as_u64().map_or(0o644, |mode| u32::try_from(mode).expect("a mode"));
    Some(mode)
}

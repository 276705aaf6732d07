//! What kustomize makes of `k8s/`, as JSON. Used by the tests of Kubernetes, here and in the image's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

use crate::support::setup::{installed, repository_file};

/// Everything that one `kubectl apply -k` would apply.
#[derive(Clone, Debug)]
pub struct Manifests {
    /// Where it comes from, for messages.
    pub name: String,
    /// Each object, but those of the drill.
    pub objects: Vec<Value>,
    /// Those of the drill, a CronJob of its own.
    of_drill: Vec<Value>,
}

impl Manifests {
    /// Of a directory below `k8s/`: the base, or an overlay.
    ///
    /// # Panics
    /// Where there is none, or kustomize does not take one of them.
    pub fn of(directory: &str) -> Self {
        let name = repository_file("k8s").join(directory).display().to_string();
        let found = Self::all().iter().find(|manifests| manifests.name == name);
        found.unwrap_or_else(|| panic!("no k8s/{directory}")).clone()
    }

    /// Of any directory.
    ///
    /// # Panics
    /// Where kustomize does not take it.
    pub fn at(directory: &Path) -> Self {
        static KUBECTL: LazyLock<PathBuf> = LazyLock::new(|| {
            installed("kubectl");
            repository_file("target/tools/kubectl/bin/kubectl")
        });
        let built = Command::new(&*KUBECTL).arg("kustomize").arg(directory).output().expect("kubectl");
        assert!(built.status.success(), "{}: {}", directory.display(), String::from_utf8_lossy(&built.stderr));
        let all = from_yaml(&String::from_utf8_lossy(&built.stdout)).into_iter();
        let (of_drill, objects) =
            all.partition(|object| text(&object["metadata"]["name"]).starts_with("pg-s3-backup-drill"));
        Self { name: directory.display().to_string(), objects, of_drill }
    }

    /// The drill, with the settings that it shares; `None` where there is none.
    pub fn drill(&self) -> Option<Self> {
        let name = format!("{} (drill)", self.name);
        let settings = self.objects.iter().filter(|object| object["kind"] == "ConfigMap").cloned();
        let objects = self.of_drill.iter().cloned().chain(settings).collect();
        (!self.of_drill.is_empty()).then_some(Self { name, objects, of_drill: Vec::new() })
    }

    /// The base, and every overlay.
    ///
    /// # Panics
    /// Where kustomize does not take one.
    pub fn all() -> &'static [Self] {
        static ALL: LazyLock<Vec<Manifests>> = LazyLock::new(|| {
            let overlays = std::fs::read_dir(repository_file("k8s/overlays")).expect("the overlays");
            let overlays = overlays.map(|entry| Manifests::at(&entry.expect("an overlay").path()));
            std::iter::once(Manifests::at(&repository_file("k8s/base"))).chain(overlays).collect()
        });
        &ALL
    }

    /// The one object of a kind; `None` where there is none.
    ///
    /// # Panics
    /// Where there are several.
    pub fn find(&self, kind: &str) -> Option<&Value> {
        let mut found = self.objects.iter().filter(|object| object["kind"] == kind);
        let first = found.next();
        assert!(found.next().is_none(), "{}: several of kind {kind}", self.name);
        first
    }

    /// The one object of a kind.
    ///
    /// # Panics
    /// Where there is none, or several.
    pub fn the(&self, kind: &str) -> &Value {
        self.find(kind).unwrap_or_else(|| panic!("{}: nothing of kind {kind}", self.name))
    }

    /// What the CronJob's jobs are made of.
    ///
    /// # Panics
    /// Where there is no CronJob.
    pub fn job(&self) -> &Value {
        &self.the("CronJob")["spec"]["jobTemplate"]["spec"]
    }

    /// The template of the pods that run: the CronJob's or the Deployment's.
    ///
    /// # Panics
    /// Where there are both, or neither.
    pub fn template(&self) -> &Value {
        match (self.find("CronJob"), self.find("Deployment")) {
            (Some(_), None) => &self.job()["template"],
            (None, Some(daemon)) => &daemon["spec"]["template"],
            _ => panic!("{}: not one of CronJob and Deployment", self.name),
        }
    }

    /// Those pods' only container.
    ///
    /// # Panics
    /// Where there are more, or none.
    pub fn container(&self) -> &Value {
        let containers = self.template()["spec"]["containers"].as_array().map_or(&[][..], Vec::as_slice);
        let [container] = containers else { panic!("{}: not one container", self.name) };
        container
    }
}

/// YAML documents, read as Kubernetes does.
///
/// # Panics
/// Where they are not YAML.
pub fn from_yaml(text: &str) -> Vec<Value> {
    static MODULES: LazyLock<PathBuf> = LazyLock::new(|| {
        installed("yamllint");
        repository_file("target/tools/yamllint")
    });
    let script = "import json, sys, yaml; json.dump([d for d in yaml.safe_load_all(sys.stdin) if d], sys.stdout)";
    let mut python = Command::new("python3");
    python.args(["-B", "-c", script]).env("PYTHONPATH", &*MODULES);
    let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3");
    let mut stdin = child.stdin.take().expect("its input");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut stdin, text.as_bytes()).expect("written"));
        child.wait_with_output().expect("its end")
    });
    assert!(output.status.success(), "not YAML:\n{text}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The entries of a list, such as `items(&pod["volumes"])`; none where there is no list.
pub fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// A string.
///
/// # Panics
/// Where it is none.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a string wanted: {value}"))
}

//! What `cargo metadata` says about the workspace.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::step::{Failure, Result, cargo, read};

/// The workspace, its packages and how they depend on each other.
pub(crate) struct Metadata {
    pub(crate) workspace_root: PathBuf,
    pub(crate) target_directory: PathBuf,
    /// Those of the workspace, and all that they depend on.
    pub(crate) packages: Vec<Package>,
    members: Vec<String>,
    pub(crate) nodes: Vec<Node>,
}

pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) rust_version: Option<String>,
    /// Everything else.
    manifest: Value,
}

/// A package of the resolved graph, with the packages that it depends on.
pub(crate) struct Node {
    pub(crate) id: String,
    /// Without those that only its tests or the model checker need.
    pub(crate) dependencies: Vec<String>,
}

impl Metadata {
    /// Asks cargo. `--locked` makes this a check as well: it fails if cargo would write `Cargo.lock` differently.
    pub(crate) fn read() -> Result<Self> {
        let json = read(&mut cargo(["metadata", "--format-version", "1", "--all-features", "--locked"]))?;
        let json: Value = serde_json::from_str(&json).map_err(|error| {
            Failure::Because(format!("the output of cargo metadata is not JSON: {error}"))
        })?;
        Ok(Self {
            workspace_root: text(&json["workspace_root"]).into(),
            target_directory: text(&json["target_directory"]).into(),
            packages: list(&json["packages"]).map(Package::new).collect(),
            members: list(&json["workspace_members"]).map(text).collect(),
            nodes: list(&json["resolve"]["nodes"]).map(Node::new).collect(),
        })
    }

    /// The packages of this repository, in the order of their names.
    pub(crate) fn members(&self) -> Vec<&Package> {
        let is_member = |package: &&Package| self.members.contains(&package.id);
        let mut members: Vec<_> = self.packages.iter().filter(is_member).collect();
        members.sort_by_key(|package| &package.name);
        members
    }

    /// The name of the package in this folder; the folder's own if there is none.
    pub(crate) fn package_in(&self, folder: &str) -> String {
        let is_there = |package: &&&Package| package.folder() == self.workspace_root.join(folder);
        self.members().iter().find(is_there).map_or(folder, |package| &package.name).to_owned()
    }

    /// Those that users build.
    pub(crate) fn published(&self) -> impl Iterator<Item = &Package> {
        // An empty list of registries, for `publish = false`.
        let is_published = |package: &&Package| {
            list(&package.manifest["publish"]).next().is_some() || package.manifest["publish"].is_null()
        };
        self.members().into_iter().filter(is_published)
    }
}

impl Package {
    fn new(json: &Value) -> Self {
        Self {
            id: text(&json["id"]),
            name: text(&json["name"]),
            version: text(&json["version"]),
            rust_version: json["rust_version"].as_str().map(str::to_owned),
            manifest: json.clone(),
        }
    }

    /// Where its manifest is.
    pub(crate) fn folder(&self) -> PathBuf {
        Path::new(&text(&self.manifest["manifest_path"])).with_file_name("")
    }

    /// The features in the order of their names.
    pub(crate) fn features(&self) -> Vec<&str> {
        let features = self.manifest["features"].as_object();
        features.into_iter().flatten().map(|(name, _)| name.as_str()).collect()
    }

    /// The features that need a later Rust than the package itself, with the version of each:
    /// `[package.metadata.rust-version]`.
    pub(crate) fn rust_version_of_features(&self) -> Vec<(&str, &str)> {
        let versions = self.manifest["metadata"]["rust-version"].as_object();
        versions
            .into_iter()
            .flatten()
            .filter_map(|(name, version)| Some((name.as_str(), version.as_str()?)))
            .collect()
    }

    /// The optional dependencies that a feature turns on.
    pub(crate) fn dependencies_of_feature(&self, feature: &str) -> Vec<&str> {
        let enabled = list(&self.manifest["features"][feature]).filter_map(Value::as_str);
        enabled.filter_map(|enabled| enabled.strip_prefix("dep:")).collect()
    }

    /// The root file of each target that is not only for tests.
    pub(crate) fn sources(&self) -> Vec<PathBuf> {
        let is_code = |target: &&Value| {
            list(&target["kind"]).any(|kind| matches!(kind.as_str(), Some("lib" | "bin" | "example")))
        };
        let code = list(&self.manifest["targets"]).filter(is_code);
        code.map(|target| text(&target["src_path"]).into()).collect()
    }

    /// Those of these fields of the manifest that are not set.
    pub(crate) fn lacks<'a>(&self, fields: &[&'a str]) -> Vec<&'a str> {
        let is_set = |field: &str| match &self.manifest[field] {
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => false,
        };
        fields.iter().copied().filter(|field| !is_set(field)).collect()
    }

    /// The flags that docs.rs passes to rustdoc.
    pub(crate) fn flags_on_docs_rs(&self) -> Vec<&str> {
        list(&self.manifest["metadata"]["docs"]["rs"]["rustdoc-args"]).filter_map(Value::as_str).collect()
    }
}

impl Node {
    fn new(json: &Value) -> Self {
        let reaches_users = |dependency: &&Value| {
            list(&dependency["dep_kinds"])
                .any(|it| it["kind"].as_str() != Some("dev") && it["target"].as_str() != Some("cfg(shuttle)"))
        };
        let dependencies = list(&json["deps"]).filter(reaches_users);
        Self { id: text(&json["id"]), dependencies: dependencies.map(|it| text(&it["pkg"])).collect() }
    }
}

fn text(json: &Value) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

fn list(json: &Value) -> impl Iterator<Item = &Value> {
    json.as_array().into_iter().flatten()
}

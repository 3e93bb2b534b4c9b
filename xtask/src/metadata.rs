//! What `cargo metadata` says about the workspace.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::step::{Failure, Result, cargo, read};

/// The workspace, its packages and how they depend on each other.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) workspace_root: PathBuf,
    pub(crate) target_directory: PathBuf,
    pub(crate) packages: Vec<Package>,
    workspace_members: Vec<String>,
    pub(crate) resolve: Resolve,
}

#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) rust_version: Option<String>,
    /// The features in their order, each with what it enables.
    pub(crate) features: BTreeMap<String, Vec<String>>,
    /// `Some` of an empty list for what is never published.
    publish: Option<Vec<String>>,
    targets: Vec<Target>,
    metadata: Option<Extra>,
}

/// The part of a manifest that cargo leaves to others.
#[derive(Deserialize)]
struct Extra {
    #[serde(default, rename = "rust-version")]
    rust_version: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

impl Package {
    /// The features that promise less than the package itself, with the Rust that each needs:
    /// `[package.metadata.rust-version]`.
    pub(crate) fn rust_version_of_features(&self) -> impl Iterator<Item = (&str, &str)> {
        let promised = self.metadata.iter().flat_map(|extra| &extra.rust_version);
        promised.map(|(feature, version)| (&**feature, &**version))
    }

    /// The optional dependencies that a feature turns on.
    pub(crate) fn dependencies_of_feature(&self, feature: &str) -> Vec<&str> {
        let enabled = self.features.get(feature).into_iter().flatten();
        enabled.filter_map(|enabled| enabled.strip_prefix("dep:")).collect()
    }

    /// The root file of each target that is not only for tests.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &PathBuf> {
        let is_code =
            |target: &&Target| target.kind.iter().any(|kind| matches!(&**kind, "lib" | "bin" | "example"));
        self.targets.iter().filter(is_code).map(|target| &target.src_path)
    }

    /// Whether it is a library that users build.
    pub(crate) fn is_published_library(&self) -> bool {
        let is_published = self.publish.as_ref().is_none_or(|registries| !registries.is_empty());
        is_published && self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "lib"))
    }
}

#[derive(Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

/// A package of the resolved graph, with what it depends on.
#[derive(Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) deps: Vec<Dependency>,
}

#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) pkg: String,
    pub(crate) dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
pub(crate) struct DependencyKind {
    /// `None` for a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// The platform or `cfg(..)` that it is for.
    pub(crate) target: Option<String>,
}

impl Metadata {
    /// Asks cargo. `--locked` makes this a check as well: it fails if cargo would write `Cargo.lock` differently.
    pub(crate) fn read() -> Result<Self> {
        let json = read(&mut cargo(["metadata", "--format-version", "1", "--all-features", "--locked"]))?;
        serde_json::from_str(&json)
            .map_err(|error| Failure::Because(format!("cargo metadata is not understood: {error}")))
    }

    /// The packages that this repository holds, in the order of their names.
    pub(crate) fn members(&self) -> Vec<&Package> {
        let is_member = |package: &&Package| self.workspace_members.contains(&package.id);
        let mut members: Vec<_> = self.packages.iter().filter(is_member).collect();
        members.sort_by_key(|package| &package.name);
        members
    }
}

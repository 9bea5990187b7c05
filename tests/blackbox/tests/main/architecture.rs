//! The rooms of the house and the arrows between them, read from the manifests and the sources.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each room may depend on among the rooms.
const ARROWS: [(&str, &[&str]); 6] = [
    ("rehydrate-core", &[]),
    ("rehydrate-store", &["rehydrate-core"]),
    ("rehydrate-guest", &["rehydrate-core"]),
    ("rehydrate-runtime", &["rehydrate-core", "rehydrate-store", "rehydrate-guest"]),
    ("rehydrate-http", &["rehydrate-runtime"]),
    ("rehydrate-cli", &["rehydrate-core", "rehydrate-store", "rehydrate-guest", "rehydrate-runtime", "rehydrate-http"]),
];

/// Everything that core may depend on.
const OF_CORE: [&str; 3] = ["postcard", "serde", "thiserror"];

/// Engines that only one room may know.
const KEPT_IN: [(&str, &str); 2] = [("wasmtime", "rehydrate-guest"), ("rocksdb", "rehydrate-store")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/blackbox lies in the checkout").to_path_buf()
}

/// A member of the workspace.
struct Package {
    name: String,
    manifest: PathBuf,
    /// What it is built from.
    normal: BTreeSet<String>,
    /// The same and what its tests use.
    all: BTreeSet<String>,
}

/// The members, as `cargo metadata` tells them.
fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(root().join("Cargo.toml"));
    let metadata = command.output().expect("cargo runs");
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("cargo prints JSON");
    metadata["packages"].as_array().expect("there are packages").iter().map(package).collect()
}

fn package(package: &Value) -> Package {
    let text = |value: &Value| value.as_str().expect("cargo gives text here").to_owned();
    let dependencies = package["dependencies"].as_array().expect("cargo lists dependencies");
    let normal = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
    Package {
        name: text(&package["name"]),
        manifest: text(&package["manifest_path"]).into(),
        normal: normal.map(|dependency| text(&dependency["name"])).collect(),
        all: dependencies.iter().map(|dependency| text(&dependency["name"])).collect(),
    }
}

fn room(name: &str) -> Package {
    packages().into_iter().find(|package| package.name == name).unwrap_or_else(|| panic!("there is no room {name}"))
}

#[test]
fn no_room_depends_on_another_that_it_may_not_see() {
    for (name, allowed) in ARROWS {
        // Also not in its tests: what they need would soon be used.
        let all = room(name).all;
        let wrong: Vec<_> =
            all.iter().filter(|one| one.starts_with("rehydrate-") && !allowed.contains(&one.as_str())).collect();
        assert!(wrong.is_empty(), "{name} must not depend on {wrong:?}");
    }
}

#[test]
fn core_depends_on_nothing_that_could_do_something() {
    assert_eq!(room("rehydrate-core").normal, OF_CORE.map(str::to_owned).into());
}

#[test]
fn each_engine_is_known_to_one_room_only() {
    for package in packages() {
        for (engine, room) in KEPT_IN {
            let part = format!("{engine}-");
            let knows = package.normal.iter().any(|name| name == engine || name.starts_with(&part));
            assert!(!knows || package.name == room, "{} must not know {engine}: only {room} does", package.name);
        }
    }
}

#[test]
fn versions_are_only_in_the_workspace_manifest() {
    for package in packages() {
        let manifest = std::fs::read_to_string(&package.manifest).expect("the manifest can be read");
        let own = manifest.lines().filter(|line| line.contains("version = \"")).collect::<Vec<_>>();
        assert!(own.is_empty(), "{} has versions of its own: {own:?}", package.manifest.display());
    }
}

#[test]
fn core_has_no_clock_no_randomness_no_float_no_async_and_no_io() {
    const FORBIDDEN: [&str; 12] = [
        "SystemTime",
        "Instant::now",
        "std::fs",
        "std::io",
        "std::net",
        "std::env",
        "std::thread",
        "async ",
        "f32",
        "f64",
        "HashMap",
        "HashSet",
    ];
    let is_test = |file: &std::path::Path| file.to_string_lossy().ends_with("_tests.rs");
    for file in sources(&root().join("host/core/src")).into_iter().filter(|file| !is_test(file)) {
        let text = std::fs::read_to_string(&file).expect("a source file can be read");
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let found: Vec<_> = FORBIDDEN.iter().filter(|word| code.contains(**word)).collect();
            assert!(found.is_empty(), "{}:{} has {found:?}", file.display(), index + 1);
        }
    }
}

#[test]
fn every_source_file_says_first_what_it_is_for() {
    let missing: Vec<_> = ["host", "guest-sdk", "sample-workflows", "tests"]
        .iter()
        .flat_map(|directory| sources(&root().join(directory)))
        .filter(|file| !std::fs::read_to_string(file).is_ok_and(|text| text.starts_with("//!")))
        .collect();
    assert!(missing.is_empty(), "these do not open with `//!`: {missing:#?}");
}

/// All Rust files below a directory, build directories left out.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

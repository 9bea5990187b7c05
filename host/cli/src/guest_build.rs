//! Building a workflow with cargo, for `rehydrate dev`.

use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

const TARGET: &str = "wasm32-wasip2";

/// A component file and the name of what it was built from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Built {
    /// The package's name, or the file's stem.
    pub name: String,
    /// The component.
    pub file: PathBuf,
}

/// What cargo says about each thing it built; the rest of its messages is not of interest.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

/// The component at `path`: a `.wasm` file as it is, a package built. cargo shows its own progress.
pub async fn component(path: &Path) -> anyhow::Result<Built> {
    if path.extension().is_some_and(|extension| extension == "wasm") {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok(Built { name, file: path.to_owned() });
    }
    if !path.join("Cargo.toml").is_file() {
        bail!("{} is no cargo package; give the directory of one, or a .wasm component", path.display());
    }
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(path)
        .args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .context("cargo can't be run; install Rust from https://rustup.rs")?;
    if !output.status.success() {
        bail!("the build failed; if the target is missing, add it with `rustup target add {TARGET}`");
    }
    choose(&String::from_utf8_lossy(&output.stdout), path)
}

/// The one component among what was built.
fn choose(messages: &str, path: &Path) -> anyhow::Result<Built> {
    let mut built: Vec<Built> = messages.lines().filter_map(component_in).collect();
    match (built.pop(), built.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => bail!(
            "{} builds no component; add `crate-type = [\"cdylib\"]` to the [lib] of its Cargo.toml",
            path.display()
        ),
        (Some(last), false) => {
            let all: Vec<String> = built.iter().chain([&last]).map(|b| b.file.display().to_string()).collect();
            bail!("{} builds several components; give one of them instead: {}", path.display(), all.join(", "))
        }
    }
}

fn component_in(line: &str) -> Option<Built> {
    let message: Message = serde_json::from_str(line).ok()?;
    let target = message.target.filter(|_| message.reason == "compiler-artifact")?;
    if !target.kind.iter().any(|kind| kind == "cdylib" || kind == "bin") {
        return None;
    }
    let file = message.filenames.into_iter().find(|file| file.extension().is_some_and(|e| e == "wasm"))?;
    Some(Built { name: package_name(&message.package_id), file })
}

/// The name in a package id: `...#name@version`, or `.../name#version` where the directory has the name.
fn package_name(id: &str) -> String {
    let (location, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    let name = match fragment.split_once('@') {
        Some((name, _)) => name,
        None => location.trim_end_matches('/').rsplit('/').next().unwrap_or_default(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(name: &str, kind: &str, file: &str) -> String {
        let id = format!("path+file:///src/{name}#0.1.0");
        let target = format!(r#"{{"name":"x","kind":["{kind}"]}}"#);
        format!(r#"{{"reason":"compiler-artifact","package_id":"{id}","target":{target},"filenames":["{file}"]}}"#)
    }

    #[test]
    fn the_component_is_found_among_what_cargo_built() {
        let messages = [
            artifact("serde", "lib", "/t/libserde.rlib"),
            artifact("macros", "proc-macro", "/t/libmacros.so"),
            artifact("job", "cdylib", "/t/job.wasm"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
            "not json".to_owned(),
        ];
        let built = choose(&messages.join("\n"), Path::new(".")).expect("a component");
        assert_eq!(built, Built { name: "job".to_owned(), file: "/t/job.wasm".into() });
    }

    #[test]
    fn a_package_is_named_by_its_id_in_both_spellings() {
        assert_eq!(package_name("path+file:///src/my-job#0.1.0"), "my-job");
        assert_eq!(package_name("path+file:///src/dir#my-job@0.1.0"), "my-job");
    }

    #[test]
    fn none_and_several_are_errors_that_say_what_to_do() {
        let none = choose(&artifact("job", "lib", "/t/libjob.rlib"), Path::new("p")).expect_err("none");
        assert!(none.to_string().contains("cdylib"), "{none}");
        let two = [artifact("a", "cdylib", "/t/a.wasm"), artifact("b", "bin", "/t/b.wasm")].join("\n");
        let several = choose(&two, Path::new("p")).expect_err("several").to_string();
        assert!(several.contains("/t/a.wasm") && several.contains("/t/b.wasm"), "{several}");
    }

    #[tokio::test]
    async fn a_wasm_file_is_taken_as_it_is_and_another_directory_is_refused() {
        let built = component(Path::new("dir/job.wasm")).await.expect("a component");
        assert_eq!(built.name, "job");
        let dir = tempfile::tempdir().expect("a directory");
        assert!(component(dir.path()).await.expect_err("no package").to_string().contains("no cargo package"));
    }
}

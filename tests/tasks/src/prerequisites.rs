//! What the build needs from the machine: a C++ compiler, libclang, the guest target of rustc; and what the tests do:
//! Node.js, Python, valgrind.
//!
//! Each is looked for first and installed only if it is missing. What can't be installed is named in one line
//! with the way to get it. Nothing else on the machine is touched.

use crate::clients::major_version;
use crate::process::{output, succeeds};
use crate::{say, workspace};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What guests are compiled to.
pub const GUEST_TARGET: &str = "wasm32-wasip2";

/// The longest any one installation may take.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// Settings that every cargo command needs, found while looking at the machine.
#[derive(Clone, Debug, Default)]
pub struct Environment(Vec<(&'static str, String)>);

impl Environment {
    /// Gives the settings to a command.
    pub fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.0.iter().map(|(name, value)| (name, value)))
    }

    /// These settings and one more.
    pub fn with(&self, name: &'static str, value: &str) -> Environment {
        let mut settings = self.0.clone();
        settings.push((name, value.to_owned()));
        Environment(settings)
    }
}

/// Looks at the machine and, if allowed, installs what is missing.
pub fn check(install: bool) -> anyhow::Result<Environment> {
    say("looking at this machine: C++ compiler, libclang, guest target");
    cpp_compiler(install)?;
    let environment = libclang(install)?;
    guest_target(install)?;
    Ok(environment)
}

fn cpp_compiler(install: bool) -> anyhow::Result<()> {
    let named = std::env::var("CXX").ok();
    let candidates = named.iter().map(String::as_str).chain(["c++", "g++", "clang++"]);
    let found = |program: &str| output(program, &["--version"]).is_some();
    if candidates.into_iter().any(found) || (install && apt_install(&["g++"])? && found("g++")) {
        return Ok(());
    }
    bail!(
        "a C++ compiler is missing (RocksDB is written in C++); install one, for example with \
         `apt-get install g++`, `dnf install gcc-c++` or `xcode-select --install`, and run this again"
    )
}

fn libclang(install: bool) -> anyhow::Result<Environment> {
    if find_libclang() {
        return Ok(Environment::default());
    }
    if install {
        if apt_install(&["libclang-14-dev", "libclang-dev"])? && find_libclang() {
            return Ok(Environment::default());
        }
        if let Some(environment) = libclang_by_pip()? {
            return Ok(environment);
        }
    }
    bail!(
        "libclang is missing (the bindings to RocksDB are made with it); install it, for example with \
         `apt-get install libclang-dev` or `dnf install clang-devel`, or set LIBCLANG_PATH to the directory it is in"
    )
}

/// Whether libclang is where the build will look for it.
fn find_libclang() -> bool {
    let mut places: Vec<PathBuf> = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from).into_iter().collect();
    places.extend(output("llvm-config", &["--libdir"]).map(PathBuf::from));
    places.extend(["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/lib64"].map(PathBuf::from));
    places.extend(["/opt/homebrew/opt/llvm/lib", "/usr/local/opt/llvm/lib"].map(PathBuf::from));
    places.push("/Library/Developer/CommandLineTools/usr/lib".into());
    for parent in ["/usr/lib", "/usr/local"] {
        let below = entries(Path::new(parent)).filter(|path| name(path).starts_with("llvm"));
        places.extend(below.map(|path| path.join("lib")));
    }
    places.extend(entries(Path::new("/usr/lib")).filter(|path| name(path).ends_with("-linux-gnu")));
    places.iter().any(|place| is_libclang(place) || entries(place).any(|file| is_libclang(&file)))
}

fn is_libclang(file: &Path) -> bool {
    let name = name(file);
    let library = name.contains(".so") || name.ends_with(".dylib");
    let named = name.starts_with("libclang.") || name.strip_prefix("libclang-").is_some_and(starts_with_digit);
    library && named && file.is_file()
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The library alone, by pip, into our own cache; it brings no headers, so those of gcc are named.
fn libclang_by_pip() -> anyhow::Result<Option<Environment>> {
    let Some(cache) = cache_directory() else { return Ok(None) };
    let target = cache.join("libclang");
    let library = target.join("clang").join("native");
    if !entries(&library).any(|file| is_libclang(&file)) {
        if output("python3", &["-m", "pip", "--version"]).is_none() {
            return Ok(None);
        }
        say("installing libclang with pip into the cache directory of this project");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
        if !succeeds(pip.arg(&target).arg("libclang"), INSTALL_LIMIT)? {
            return Ok(None);
        }
    }
    let mut settings = vec![("LIBCLANG_PATH", library.to_string_lossy().into_owned())];
    if let Some(headers) = output("gcc", &["-print-file-name=include"]) {
        settings.push(("BINDGEN_EXTRA_CLANG_ARGS", format!("-isystem {headers}")));
    }
    Ok(entries(&library).any(|file| is_libclang(&file)).then_some(Environment(settings)))
}

fn cache_directory() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = named.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
    Some(cache.join("rehydrate"))
}

/// Installs the first of these packages that apt knows; false if there is no apt or no right to use it.
fn apt_install(packages: &[&str]) -> anyhow::Result<bool> {
    if output("apt-get", &["--version"]).is_none() {
        return Ok(false);
    }
    let is_root = rustix::process::geteuid().is_root();
    if !is_root && output("sudo", &["-n", "true"]).is_none() {
        return Ok(false);
    }
    let apt = |arguments: &[&str]| {
        let mut command = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
        if !is_root {
            command.args(["-n", "--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-q").args(arguments);
        succeeds(&mut command, INSTALL_LIMIT)
    };
    say(&format!("installing {} with apt-get", packages[0]));
    if !apt(&["update"])? {
        return Ok(false);
    }
    for package in packages {
        if apt(&["install", "-y", "--no-install-recommends", package])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What counts instructions.
pub fn valgrind(install: bool) -> anyhow::Result<()> {
    let found = || output("valgrind", &["--version"]).is_some();
    if found() || (install && apt_install(&["valgrind"])? && found()) {
        return Ok(());
    }
    bail!("valgrind is missing; install it, for example with `apt-get install valgrind`, and run this again")
}

/// What runs the programs in `tests/clients` that are written in JavaScript.
pub fn node(install: bool) -> anyhow::Result<()> {
    const NODE_MIN: u32 = 18;
    let found = || {
        let is_new = major_version("node").is_some_and(|major| major >= NODE_MIN);
        is_new && major_version("npm").is_some()
    };
    if found() || (install && apt_install(&["nodejs"])? && apt_install(&["npm"])? && found()) {
        return Ok(());
    }
    bail!(
        "Node.js {NODE_MIN} or newer with npm is missing (the tests drive the Durable Functions clients for JavaScript); \
         install it, for example with `apt-get install nodejs npm` or `dnf install nodejs`, and run this again"
    )
}

/// What runs the program in `tests/clients` that is written in Python.
pub fn python(install: bool) -> anyhow::Result<()> {
    let found = || output("python3", &["-c", "import ensurepip, venv"]).is_some();
    if found() || (install && apt_install(&["python3-venv"])? && found()) {
        return Ok(());
    }
    bail!(
        "Python 3 with `venv` is missing (the tests drive the Durable Functions client for Python); install it, for \
         example with `apt-get install python3-venv` or `dnf install python3`, and run this again"
    )
}

fn guest_target(install: bool) -> anyhow::Result<()> {
    if has_guest_target()? {
        return Ok(());
    }
    let hint = format!("run `rustup target add {GUEST_TARGET}` and then this again");
    if !install {
        bail!("rustc has no target {GUEST_TARGET}; {hint}");
    }
    say(&format!("adding the target {GUEST_TARGET} to the Rust toolchain"));
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", GUEST_TARGET]);
    match succeeds(&mut rustup, INSTALL_LIMIT) {
        Ok(true) if has_guest_target()? => Ok(()),
        Ok(_) => bail!("rustc has no target {GUEST_TARGET} and rustup could not add it; {hint}"),
        Err(error) => Err(error.context(format!("rustc has no target {GUEST_TARGET}; {hint}"))),
    }
}

/// Whether the standard library for guests lies in the sysroot: true however rustc was installed.
fn has_guest_target() -> anyhow::Result<bool> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let root = workspace::Workspace::find()?.root;
    let asked =
        Command::new(rustc).args(["--print", "sysroot"]).current_dir(root).output().context("can't run rustc")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    Ok(sysroot.join("lib").join("rustlib").join(GUEST_TARGET).join("lib").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_library_itself_is_taken_for_libclang() {
        let directory = std::env::temp_dir().join(format!("rehydrate-tasks-libclang-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let is_one = |name: &str| {
            let file = directory.join(name);
            std::fs::write(&file, "").unwrap();
            is_libclang(&file)
        };
        let library = ["libclang.so", "libclang.so.1", "libclang-14.so.1", "libclang-14.0.6.so", "libclang.dylib"];
        let other = ["libclang-cpp.so.14", "libclangAST.a", "libclang.a", "libclang-cpp14.so", "clang.so"];
        let seen = (library.map(is_one), other.map(is_one));
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(seen, ([true; 5], [false; 5]));
    }
}

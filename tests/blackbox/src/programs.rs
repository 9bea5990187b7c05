//! Finds what `cargo verify` has built and installed: programs beside the test binary, components under the guest
//! target, the packages that clients in other languages need beside both.

use std::path::{Path, PathBuf};

/// The program with that name.
pub fn program(name: &str) -> PathBuf {
    built(release().join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// The component with that file name, without `.wasm`.
pub fn component(name: &str) -> PathBuf {
    built(target().join("wasm32-wasip2").join("release").join(format!("{name}.wasm")))
}

/// The source of a program in `tests/clients`, in another language.
pub fn client_source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("clients").join(path)
}

/// What is installed for a program in `tests/clients`: a path below its directory.
pub fn client_packages(path: &str) -> PathBuf {
    let found = target().join("clients").join(path);
    assert!(found.exists(), "{} is not installed; run the tests with `cargo verify`", found.display());
    found
}

fn built(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "{} is not built; run the tests with `cargo verify`", path.display());
    path
}

fn target() -> PathBuf {
    release().parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The directory of the programs: a test binary lies in its `deps`.
fn release() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    test.ancestors().nth(2).expect("a test binary lies in <target>/release/deps").to_path_buf()
}

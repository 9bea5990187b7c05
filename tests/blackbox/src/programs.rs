//! Finds what `cargo verify` has built: programs beside the test binary, components under the guest target.

use std::path::{Path, PathBuf};

/// The program with that name.
pub fn program(name: &str) -> PathBuf {
    built(release().join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// The component with that file name, without `.wasm`.
pub fn component(name: &str) -> PathBuf {
    let target = release().parent().map(Path::to_path_buf).unwrap_or_default();
    built(target.join("wasm32-wasip2").join("release").join(format!("{name}.wasm")))
}

fn built(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "{} is not built; run the tests with `cargo verify`", path.display());
    path
}

/// The directory of the programs: a test binary lies in its `deps`.
fn release() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    test.ancestors().nth(2).expect("a test binary lies in <target>/release/deps").to_path_buf()
}

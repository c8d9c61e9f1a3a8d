//! Builds the function of the repository that this runs in.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;

use crate::lock::lock;

const PACKAGE: &str = "fibonacci-generator";

/// Why the function could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The repository was not found.
    #[error(
        "{} is not in the repository of {PACKAGE}: go there, or give a function's executable",
        .0.display()
    )]
    Repository(PathBuf),
    /// Cargo could not be run.
    #[error("cannot run cargo to build {PACKAGE}: {0}")]
    Cargo(#[from] io::Error),
    /// Cargo failed. It said why on standard error.
    #[error("`cargo build --release -p {PACKAGE}` failed: see its messages above")]
    Failed,
}

/// Builds the function with `cargo build --release -p fibonacci-generator` and returns the path of
/// its executable. Cargo's progress and errors go to standard error.
///
/// The function is that of the repository that contains `CARGO_MANIFEST_DIR`, which Cargo sets for
/// what it runs, or else the current directory. It is built into this repository's own `target`
/// directory, even if `CARGO_TARGET_DIR` is set: to Cargo, two checkouts that share a target
/// directory are the same package, and it would take one's executable for the other's.
///
/// Only this package is selected, so the executable has the features that ship, not those that other
/// packages of the workspace would add. Cargo runs once per process; later and concurrent callers get
/// the result of the first.
///
/// # Errors
///
/// If there is no such repository, Cargo cannot be run, or the build fails.
pub fn build_function() -> Result<PathBuf, BuildError> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = lock(&BUILT);
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    let path = rebuild_function()?;
    *built = Some(path.clone());
    Ok(path)
}

/// Builds the function as [`build_function`] does, whether or not it has been built before.
///
/// # Errors
///
/// Those of [`build_function`].
pub fn rebuild_function() -> Result<PathBuf, BuildError> {
    let repository = repository()?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--release", "--package", PACKAGE, "--bin", PACKAGE])
        .arg("--message-format=json-render-diagnostics")
        .arg("--manifest-path")
        .arg(repository.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(repository.join("target"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut executable = None;
    for line in (cargo.stdout.take().into_iter()).flat_map(|stdout| BufReader::new(stdout).lines())
    {
        let message: Value = serde_json::from_str(&line?).unwrap_or_default();
        if message["target"]["name"] == PACKAGE
            && let Some(path) = message["executable"].as_str()
        {
            executable = Some(path.into());
        }
    }
    let succeeded = cargo.wait()?.success();
    executable.filter(|_| succeeded).ok_or(BuildError::Failed)
}

/// The nearest directory upwards that holds the function's manifest.
fn repository() -> Result<PathBuf, BuildError> {
    let start = match env::var_os("CARGO_MANIFEST_DIR") {
        Some(directory) => directory.into(),
        None => env::current_dir()?,
    };
    let is_repository = |directory: &&Path| {
        let manifest = fs::read_to_string(directory.join("Cargo.toml"));
        let name = format!("name = \"{PACKAGE}\"");
        manifest.is_ok_and(|manifest| manifest.lines().any(|line| line == name))
    };
    match start.ancestors().find(is_repository) {
        Some(directory) => Ok(directory.to_owned()),
        None => Err(BuildError::Repository(start)),
    }
}

/// The files that the function is built from: its manifest, its build script, and everything in
/// `src`. Empty outside the repository.
#[must_use]
pub fn sources() -> Vec<PathBuf> {
    let mut sources = Vec::new();
    if let Ok(repository) = repository() {
        sources.extend(["Cargo.toml", "build.rs"].map(|name| repository.join(name)));
        collect_files(&repository.join("src"), &mut sources);
    }
    sources
}

fn collect_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_files(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}

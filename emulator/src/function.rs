//! Building the function of this workspace.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;

use escargot::CargoBuild;
use escargot::format::Message;

const PACKAGE: &str = "fibonacci-generator";
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");

/// Why the function could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Cargo could not be run.
    #[error("cannot run cargo to build {PACKAGE}: {0}")]
    Cargo(#[source] io::Error),
    /// Cargo ran and failed; what it found is on standard error.
    #[error("`cargo build --release -p {PACKAGE}` failed: see what it printed above")]
    Failed,
}

/// Builds the function with `cargo build --release -p fibonacci-generator` and returns the path of
/// its binary.
///
/// Only that package is selected, so the binary has the features that ship, not those that the
/// workspace's other members would add. Cargo runs once per process; later and concurrent callers
/// get the first one's result.
///
/// # Errors
///
/// When cargo cannot be run or the build fails.
pub fn build_function() -> Result<PathBuf, BuildError> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = crate::lock(&BUILT);
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    let path = build()?;
    *built = Some(path.clone());
    Ok(path)
}

fn build() -> Result<PathBuf, BuildError> {
    let mut cargo = CargoBuild::new()
        .package(PACKAGE)
        .bin(PACKAGE)
        .release()
        .manifest_path(MANIFEST)
        .into_command()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(BuildError::Cargo)?;
    let mut executable = None;
    for line in cargo
        .stdout
        .take()
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines)
    {
        let line = line.map_err(BuildError::Cargo)?;
        match serde_json::from_str(&line) {
            Ok(Message::CompilerArtifact(artifact)) if artifact.target.name == PACKAGE => {
                executable = artifact.executable.map(Cow::into_owned).or(executable);
            }
            Ok(Message::CompilerMessage(message)) => {
                eprint!("{}", message.message.rendered.unwrap_or_default());
            }
            _ => {}
        }
    }
    let succeeded = cargo.wait().map_err(BuildError::Cargo)?.success();
    match executable {
        Some(path) if succeeded => Ok(path),
        _ => Err(BuildError::Failed),
    }
}

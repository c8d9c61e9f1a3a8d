//! Finds a function in a Rust repository, and builds it.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

/// Which function to build, and how.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Build")]
pub struct Build {
    /// The package to build [default: that of the current folder]
    #[arg(short, long, global = true, value_name = "NAME")]
    pub package: Option<String>,
    /// The binary to run [default: the package's `default-run`, or its only one]
    #[arg(long, global = true, value_name = "NAME")]
    pub bin: Option<String>,
    /// An example to run in place of a binary
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "bin")]
    pub example: Option<String>,
    /// The profile to build with; `dev` is faster to build
    #[arg(long, global = true, value_name = "NAME", default_value = "release")]
    pub profile: String,
    /// The features to build with, separated by commas
    #[arg(short = 'F', long, global = true, value_name = "NAMES")]
    pub features: Vec<String>,
}

/// Why a function could not be built, in words for its user: Cargo cannot be run or fails, there is no
/// package here, or not exactly one function of those that were asked for.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(String);

impl From<io::Error> for BuildError {
    fn from(error: io::Error) -> Self {
        Self(format!("cannot run cargo: {error}"))
    }
}

/// As much of `cargo metadata` as is of use here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_default_members: BTreeSet<String>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    default_run: Option<String>,
    targets: Vec<CargoTarget>,
}

#[derive(Deserialize)]
struct CargoTarget {
    kind: Vec<String>,
    name: String,
    src_path: PathBuf,
}

impl Package {
    fn directory(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("/"))
    }
}

impl CargoTarget {
    fn is(&self, kind: &str) -> bool {
        self.kind.iter().any(|one| one == kind)
    }
}

/// A binary or an example that can be built.
pub struct Target {
    build: Build,
    /// `bin` or `example`.
    kind: &'static str,
    name: String,
    package: String,
    manifest_path: PathBuf,
    workspace: Metadata,
}

impl Build {
    /// Finds the function in the repository of the current folder.
    ///
    /// # Errors
    ///
    /// If there is no repository, no such function, or more than one.
    pub fn find(self) -> Result<Target, BuildError> {
        self.find_from(&env::current_dir()?)
    }

    fn find_from(self, directory: &Path) -> Result<Target, BuildError> {
        let workspace = metadata(directory)?;
        let (kind, wanted) = match &self.example {
            Some(name) => ("example", Some(name)),
            None => ("bin", self.bin.as_ref()),
        };
        let packages = &workspace.packages;
        let around = packages
            .iter()
            .filter(|one| directory.starts_with(one.directory()));
        let here = around.max_by_key(|one| one.directory().components().count());
        let is_meant = |package: &Package| match (&self.package, here) {
            (Some(name), _) => package.name == *name,
            (None, Some(here)) => package.id == here.id,
            (None, None) => workspace.workspace_default_members.contains(&package.id),
        };
        let mut all = Vec::new();
        for package in packages {
            let targets = package.targets.iter();
            let of_kind = targets.filter(|target| target.is(kind));
            all.extend(of_kind.map(|target| (package, target)));
        }
        let is_wanted = |(package, target): &(&Package, &CargoTarget)| {
            let name = wanted.or(package.default_run.as_ref());
            is_meant(package) && name.is_none_or(|name| target.name == *name)
        };
        let found: Vec<_> = all.iter().copied().filter(is_wanted).collect();
        let &[(package, target)] = &found[..] else {
            let what = if kind == "bin" { "binary" } else { kind };
            let advice = match found[..] {
                [] => format!("no {what} here fits; choose a function"),
                _ => "choose a function".to_owned(),
            };
            let candidates = if found.is_empty() { all } else { found };
            let arguments = candidates
                .iter()
                .map(|(package, one)| format!("-p {} --{kind} {}", package.name, one.name));
            let arguments: Vec<_> = arguments.collect();
            return Err(BuildError(match &arguments[..] {
                [] => format!("there is no {what} here; give an executable with --bootstrap"),
                _ => format!("{advice}: {}", arguments.join(" or ")),
            }));
        };
        Ok(Target {
            kind,
            name: target.name.clone(),
            package: package.name.clone(),
            manifest_path: package.manifest_path.clone(),
            build: self,
            workspace,
        })
    }
}

fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.stdin(Stdio::null());
    cargo
}

fn metadata(directory: &Path) -> Result<Metadata, BuildError> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(directory)
        .output()?;
    serde_json::from_slice(&output.stdout).map_err(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        let reason = match said.trim().trim_start_matches("error: ") {
            "" => format!("cargo metadata: {error}"),
            said => said.replace('\n', " "),
        };
        BuildError(format!(
            "{reason}; go to a Rust package, or give an executable with --bootstrap"
        ))
    })
}

impl Target {
    /// The folder of the function's package.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("/"))
    }

    /// Builds the function and returns the path of its executable. Cargo's progress and errors go to
    /// standard error.
    ///
    /// It is built into the repository's own `target` directory, even if `CARGO_TARGET_DIR` is set: to
    /// Cargo, two checkouts that share a target directory are the same package, and it would take one's
    /// executable for the other's. Only this package is selected, so the executable has the features
    /// that ship, not those that other packages of the workspace would add.
    ///
    /// # Errors
    ///
    /// If Cargo cannot be run, or fails.
    pub fn build(&self) -> Result<PathBuf, BuildError> {
        let Self { kind, name, .. } = self;
        let mut command = cargo();
        command
            .args(["build", "--profile", &self.build.profile])
            .args([&format!("--{kind}"), name])
            .args(["--features", &self.build.features.join(",")])
            .arg("--message-format=json-render-diagnostics")
            .arg("--manifest-path")
            .arg(&self.manifest_path)
            .arg("--target-dir")
            .arg(self.workspace.workspace_root.join("target"));
        let mut cargo = command.stdout(Stdio::piped()).spawn()?;
        let mut executable = None;
        let stdout = cargo.stdout.take().into_iter();
        for line in stdout.flat_map(|stdout| BufReader::new(stdout).lines()) {
            let message: Value = serde_json::from_str(&line?).unwrap_or_default();
            if message["target"]["name"] == **name
                && message["target"]["kind"][0] == *kind
                && let Some(path) = message["executable"].as_str()
            {
                executable = Some(path.into());
            }
        }
        let succeeded = cargo.wait()?.success();
        executable.filter(|_| succeeded).ok_or_else(|| {
            let (profile, package) = (&self.build.profile, &self.package);
            BuildError(format!(
                "`cargo build --profile {profile} -p {package} --{kind} {name}` failed: see its \
                 messages above"
            ))
        })
    }

    /// The files that the function may be built from: the manifests and build scripts of all packages of
    /// this repository, and everything beside the roots of their targets but hidden files, which editors
    /// leave there.
    #[must_use]
    pub fn sources(&self) -> Vec<PathBuf> {
        let mut sources = vec![self.workspace.workspace_root.join("Cargo.toml")];
        for package in &self.workspace.packages {
            sources.push(package.manifest_path.clone());
            let is_built = |target: &&CargoTarget| {
                let mut kinds = ["test", "bench", "example"].into_iter();
                !kinds.any(|kind| target.is(kind) && kind != self.kind)
            };
            for root in package.targets.iter().filter(is_built) {
                match root.src_path.parent() {
                    Some(directory) if directory != package.directory() => {
                        collect_files(directory, &mut sources);
                    }
                    _ => sources.push(root.src_path.clone()),
                }
            }
        }
        sources
    }
}

/// Adds a file, or all files in a directory but hidden ones.
pub fn collect_files(path: &Path, files: &mut Vec<PathBuf>) {
    collect_new_files(path, files, &mut BTreeSet::new());
}

/// Links can make a circle: each directory is read once.
fn collect_new_files(path: &Path, files: &mut Vec<PathBuf>, read: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(path) else {
        return files.push(path.to_owned());
    };
    if !fs::canonicalize(path).is_ok_and(|directory| read.insert(directory)) {
        return;
    }
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            collect_new_files(&entry.path(), files, read);
        }
    }
}

/// Builds the function of the repository that this runs in: the binary of the package at its root, with
/// the release profile.
///
/// The repository is that which contains `CARGO_MANIFEST_DIR`, which Cargo sets for what it runs, or
/// else the current directory. Cargo runs once per process; later and concurrent callers get the result
/// of the first. See [`Target::build`].
///
/// # Errors
///
/// If there is no such repository, its root has no package with a binary, Cargo cannot be run, or the
/// build fails.
pub fn build_function() -> Result<PathBuf, BuildError> {
    static FIRST: LazyLock<Result<PathBuf, BuildError>> = LazyLock::new(|| {
        let directory = match env::var_os("CARGO_MANIFEST_DIR") {
            Some(directory) => directory.into(),
            None => env::current_dir()?,
        };
        let build = Build {
            profile: "release".to_owned(),
            ..Build::default()
        };
        let root = metadata(&directory)?.workspace_root;
        build.find_from(&root)?.build()
    });
    FIRST.clone()
}

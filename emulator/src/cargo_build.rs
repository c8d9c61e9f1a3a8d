//! Finds a function in a Rust repository, and builds it.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::lock::lock;

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
    #[arg(
        short = 'F',
        long,
        global = true,
        value_name = "NAMES",
        value_delimiter = ','
    )]
    pub features: Vec<String>,
}

/// Why a function could not be built, in words for its user: Cargo cannot be run or fails, there is no
/// package here, or not exactly one function of those that were asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(String);

impl BuildError {
    /// There is no such package, binary or example among those that there are.
    fn missing(what: &str, name: &str, others: impl Iterator<Item = String>) -> Self {
        let others: Vec<_> = others.collect();
        let but = if others.is_empty() { "" } else { ", but " };
        Self(format!(
            "there is no {what} {name:?} here{but}{}",
            others.join(", ")
        ))
    }
}

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

#[derive(Clone, Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    default_run: Option<String>,
    dependencies: Vec<Dependency>,
    targets: Vec<CargoTarget>,
}

#[derive(Clone, Deserialize)]
struct Dependency {
    path: Option<PathBuf>,
    /// `dev` or `build`.
    kind: Option<String>,
}

#[derive(Clone, Deserialize)]
struct CargoTarget {
    kind: Vec<String>,
    name: String,
    src_path: PathBuf,
}

impl Package {
    fn directory(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("/"))
    }

    fn targets(&self, kind: &str) -> impl Iterator<Item = &CargoTarget> {
        let is_kind = move |target: &&CargoTarget| target.kind.iter().any(|one| one == kind);
        self.targets.iter().filter(is_kind)
    }
}

/// A binary or an example that can be built.
#[derive(Clone)]
pub struct Target {
    build: Build,
    /// `bin` or `example`.
    kind: &'static str,
    name: String,
    package: Package,
    /// The package and what it depends on in this repository.
    local_packages: Vec<Package>,
    workspace_root: PathBuf,
}

impl Build {
    /// Finds the function in the repository of the current folder.
    ///
    /// # Errors
    ///
    /// If there is no repository, no such function, or more than one.
    pub fn find(&self) -> Result<Target, BuildError> {
        self.find_from(&env::current_dir()?)
    }

    fn find_from(&self, directory: &Path) -> Result<Target, BuildError> {
        let metadata = metadata(directory)?;
        let (kind, wanted) = match &self.example {
            Some(name) => ("example", Some(name)),
            None => ("bin", self.bin.as_ref()),
        };
        let packages = self.packages(&metadata, directory)?;
        let all = || {
            let of_package =
                |package| Package::targets(package, kind).map(move |one| (package, one));
            packages.iter().copied().flat_map(of_package)
        };
        let found: Vec<_> = match wanted {
            Some(name) => all().filter(|(_, target)| target.name == *name).collect(),
            None => all()
                .filter(|(package, target)| {
                    let default = package.default_run.as_ref();
                    default.is_none_or(|default| target.name == *default)
                })
                .collect(),
        };
        match (&found[..], wanted) {
            ([(package, target)], _) => Ok(Target {
                build: self.clone(),
                kind,
                name: target.name.clone(),
                package: (*package).clone(),
                local_packages: metadata.local_packages(package, kind == "example"),
                workspace_root: metadata.workspace_root.clone(),
            }),
            ([], Some(name)) => {
                let what = if kind == "bin" { "binary" } else { kind };
                let others = all().map(|(_, target)| target.name.clone());
                Err(BuildError::missing(what, name, others))
            }
            ([], None) => Err(BuildError(
                "there is no binary here; give an executable with --bootstrap".to_owned(),
            )),
            _ => {
                let arguments = (found.iter())
                    .map(|(package, one)| format!("-p {} --{kind} {}", package.name, one.name));
                let candidates: Vec<_> = arguments.collect();
                Err(BuildError(format!(
                    "choose a function: {}",
                    candidates.join(" or ")
                )))
            }
        }
    }

    /// The packages that the function may be in.
    fn packages<'a>(
        &self,
        metadata: &'a Metadata,
        directory: &Path,
    ) -> Result<Vec<&'a Package>, BuildError> {
        if let Some(name) = &self.package {
            let found = metadata.packages.iter().find(|one| one.name == *name);
            let others = metadata.packages.iter().map(|one| one.name.clone());
            return found
                .map(|one| vec![one])
                .ok_or_else(|| BuildError::missing("package", name, others));
        }
        let around = |package: &&Package| directory.starts_with(package.directory());
        let depth = |package: &&Package| package.directory().components().count();
        let here = metadata.packages.iter().filter(around).max_by_key(depth);
        let is_default =
            |package: &&Package| metadata.workspace_default_members.contains(&package.id);
        Ok(match here {
            Some(package) => vec![package],
            None => metadata.packages.iter().filter(is_default).collect(),
        })
    }
}

impl Metadata {
    /// The package and what it depends on in this repository.
    fn local_packages(&self, package: &Package, with_dev: bool) -> Vec<Package> {
        let mut found = vec![package.clone()];
        let mut next = 0;
        while let Some(package) = found.get(next).cloned() {
            next += 1;
            let is_built = |one: &&Dependency| with_dev || one.kind.as_deref() != Some("dev");
            let built = package.dependencies.iter().filter(is_built);
            for path in built.filter_map(|one| one.path.as_deref()) {
                let known = found.iter().any(|one| one.directory() == path);
                let dependency = self.packages.iter().find(|one| one.directory() == path);
                found.extend(dependency.filter(|_| !known).cloned());
            }
        }
        found
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
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = said.trim().trim_start_matches("error: ").replace('\n', " ");
        let reason = if said.is_empty() {
            format!("cargo metadata: {error}")
        } else {
            said
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
        self.package.directory()
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
            .arg(&self.package.manifest_path)
            .arg("--target-dir")
            .arg(self.workspace_root.join("target"));
        let mut cargo = command.stdout(Stdio::piped()).spawn()?;
        let mut executable = None;
        for line in
            (cargo.stdout.take().into_iter()).flat_map(|stdout| BufReader::new(stdout).lines())
        {
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
            let (profile, package) = (&self.build.profile, &self.package.name);
            BuildError(format!(
                "`cargo build --profile {profile} -p {package} --{kind} {name}` failed: see its \
                 messages above"
            ))
        })
    }

    /// The files that the function is built from, in this repository: manifests, build scripts, and
    /// everything beside the roots of its packages but hidden files, which editors leave there.
    #[must_use]
    pub fn sources(&self) -> Vec<PathBuf> {
        let mut sources = vec![self.workspace_root.join("Cargo.toml")];
        for package in &self.local_packages {
            sources.push(package.manifest_path.clone());
            let roots = (package.targets.iter())
                .filter(|target| target.kind[0] != "test" && target.kind[0] != "bench")
                .filter(|target| target.kind[0] != "example" || self.kind == "example");
            for root in roots {
                match root.src_path.parent() {
                    Some(directory) if directory != package.directory() => {
                        collect_files(directory, &mut sources);
                    }
                    _ => sources.push(root.src_path.clone()),
                }
            }
        }
        sources.sort_unstable();
        sources.dedup();
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
    static FIRST: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut first = lock(&FIRST);
    if let Some(path) = &*first {
        return Ok(path.clone());
    }
    let directory = match env::var_os("CARGO_MANIFEST_DIR") {
        Some(directory) => directory.into(),
        None => env::current_dir()?,
    };
    let build = Build {
        profile: "release".to_owned(),
        ..Build::default()
    };
    let root = metadata(&directory)?.workspace_root;
    let path = build.find_from(&root)?.build()?;
    *first = Some(path.clone());
    Ok(path)
}

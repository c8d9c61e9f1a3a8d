//! Where a report goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{self, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::flags::{Format, OutputFlags};
use crate::report::Report;
use crate::terminal::say;
use crate::text::text;

pub(crate) struct Output {
    format: Format,
    file: Option<Destination>,
    page: Option<Destination>,
}

enum Destination {
    /// A file, which there may be already.
    File(PathBuf),
    /// A pipe or a device.
    Other(File),
}

impl Output {
    /// Tries the files before a run, so that a wrong path does not cost the report.
    ///
    /// # Errors
    ///
    /// If one cannot be written, or both are the same.
    pub(crate) fn open(flags: &OutputFlags) -> Result<Self> {
        let open = |path: &Option<PathBuf>| {
            let path = path.as_ref();
            path.map(|path| {
                Destination::open(path).with_context(|| format!("cannot write {}", path.display()))
            })
            .transpose()
        };
        let (file, page) = (open(&flags.file)?, open(&flags.html)?);
        if let (Some(Destination::File(file)), Some(Destination::File(page))) = (&file, &page) {
            ensure!(
                file != page,
                "--html and --output-file name the same file: give two"
            );
        }
        Ok(Self {
            format: flags.format,
            file,
            page,
        })
    }

    /// Returns the exit status that the report calls for.
    pub(crate) fn write(self, report: &Report) -> Result<ExitCode> {
        let text = match self.format {
            Format::Text => text(report),
            // JSON allows control characters in strings, and a terminal obeys them.
            Format::Json => {
                let json = serde_json::to_string_pretty(report)?;
                json.replace(|c: char| c.is_control() && c != '\n', " ") + "\n"
            }
        };
        let violations = &report.figures.violations;
        if !violations.is_empty() && (self.file.is_some() || self.format == Format::Json) {
            say(&format!("failed: {}", violations.join("; ")));
        }
        let written = match self.file {
            Some(file) => file.write(&text).context("--output-file"),
            None => io::stdout()
                .write_all(text.as_bytes())
                .context("standard output"),
        };
        // The page holds the whole report, so write it even if nobody gets the text.
        if let Some(page) = self.page {
            page.write(&report.page()?).context("--html")?;
        }
        written?;
        Ok(if violations.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Destination {
    fn open(path: &Path) -> io::Result<Self> {
        let path = match OpenOptions::new().write(true).open(path) {
            Ok(file) if !file.metadata()?.is_file() => return Ok(Self::Other(file)),
            // Where a symbolic link leads.
            Ok(_) => fs::canonicalize(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name = path.file_name().ok_or(error)?;
                let folder = path::absolute(path)?.with_file_name("");
                fs::canonicalize(folder)?.join(name)
            }
            Err(error) => return Err(error),
        };
        let new = new_name(&path);
        File::create(&new)?;
        fs::remove_file(new)?;
        Ok(Self::File(path))
    }

    /// A file is replaced as a whole, so that a full disk does not cost an older report.
    fn write(self, text: &str) -> io::Result<()> {
        let path = match self {
            Self::File(path) => path,
            Self::Other(mut file) => return file.write_all(text.as_bytes()),
        };
        let new = new_name(&path);
        let replaced = || -> io::Result<()> {
            fs::write(&new, text)?;
            if let Ok(older) = fs::metadata(&path) {
                fs::set_permissions(&new, older.permissions())?;
            }
            fs::rename(&new, &path)
        };
        replaced().inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
    }
}

/// The name of a new file beside another.
fn new_name(path: &Path) -> PathBuf {
    path.with_added_extension(format!("new-{}", std::process::id()))
}

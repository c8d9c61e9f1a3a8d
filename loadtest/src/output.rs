//! Where a report goes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::flags::{Format, OutputFlags};
use crate::report::Report;
use crate::say;

pub(crate) struct Output {
    format: Format,
    file: Option<File>,
    page: Option<File>,
}

impl Output {
    /// Opens the files before a run, so that a wrong path does not cost the report. The files keep
    /// their contents until the report is written.
    ///
    /// # Errors
    ///
    /// If one cannot be written, or both are the same.
    pub(crate) fn open(flags: &OutputFlags) -> Result<Self> {
        let file = open(flags.file.as_deref())?;
        let page = open(flags.html.as_deref())?;
        if let (Some(file), Some(page)) = (&file, &page) {
            let (file, page) = (file.metadata()?, page.metadata()?);
            let is_same = (file.dev(), file.ino()) == (page.dev(), page.ino());
            ensure!(
                !(file.is_file() && is_same),
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
            Format::Text => report.to_string(),
            Format::Json => serde_json::to_string_pretty(report)? + "\n",
        };
        let violations = &report.violations;
        if !violations.is_empty() && (self.file.is_some() || self.format == Format::Json) {
            say(&format!("failed: {}", violations.join("; ")));
        }
        let written = match self.file {
            Some(file) => replace(file, &text).context("--output-file"),
            None => io::stdout()
                .write_all(text.as_bytes())
                .context("standard output"),
        };
        // The page holds the whole report, so write it even if nobody gets the text.
        if let Some(file) = self.page {
            replace(file, &report.page()?).context("--html")?;
        }
        written?;
        Ok(if violations.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn open(path: Option<&Path>) -> Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    path.map(|path| {
        let file = options.open(path);
        file.with_context(|| format!("cannot write {}", path.display()))
    })
    .transpose()
}

fn replace(mut file: File, text: &str) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.write_all(text.as_bytes())
}

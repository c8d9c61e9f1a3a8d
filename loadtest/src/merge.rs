//! Merges reports: counts add up, and percentiles come from the merged histogram.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cloudwatch::Metrics;
use crate::flags::MergeFlags;
use crate::measured::Measured;
use crate::report::{Part, Report};

/// Reports are merged only if their runs started within this time. Otherwise the runs did not load the
/// function together, or their clocks differ.
pub(crate) const MAX_APART: Duration = Duration::from_secs(1);

/// # Errors
///
/// If a file is not a report, two reports do not belong together, or one run is in both.
pub(crate) fn merge_files(flags: &MergeFlags) -> Result<Report> {
    let read = |path: &Path| Report::parse(&std::fs::read(path)?);
    let mut reports = Vec::new();
    for path in &flags.reports {
        let name = path.display().to_string();
        let report = read(path).with_context(|| name.clone())?;
        reports.push((name, report));
    }
    reports.sort_by_key(|(_, report)| report.measured.started_unix_ms);

    let mut runs = BTreeSet::new();
    let mut parts = Vec::new();
    let (first_name, first) = &reports[0];
    let (subject, provider) = (first.subject.clone(), first.capacity_provider.clone());
    for (name, report) in &reports {
        ensure!(
            report.measured.runs.iter().all(|run| runs.insert(run)),
            "{name}: its run is in another of these reports, too"
        );
        let other = &report.subject;
        ensure!(
            *other == subject,
            "{first_name} and {name} report different loads: {subject}; {other}"
        );
        let apart = report.measured.started_unix_ms - first.measured.started_unix_ms;
        let apart = Duration::from_millis(apart);
        ensure!(
            apart <= MAX_APART,
            "{first_name} and {name} did not start together: {:.1} s apart, or their clocks differ",
            apart.as_secs_f64()
        );
        parts.extend(report.parts.iter().map(|part| Part {
            name: format!("{name}: {}", part.name),
            ..part.clone()
        }));
        if report.parts.is_empty() {
            parts.push(Part {
                name: name.clone(),
                requests: report.measured.recorder.outcomes.requests(),
                problem: None,
            });
        }
    }
    // Each report's metrics are about the whole fleet: adding them up would count it twice.
    let metrics = reports
        .iter()
        .filter_map(|(_, report)| report.cloudwatch.clone())
        .max_by_key(|metrics: &Metrics| metrics.values.len());
    let measured = reports.into_iter().map(|(_, report)| report.measured);
    let whole = Measured::sum(measured.collect());
    let mut merged = Report::new(subject, provider, whole, parts, &flags.limits);
    merged.cloudwatch = metrics;
    Ok(merged)
}

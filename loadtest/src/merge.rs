//! Merges reports: counts add up, and percentiles come from the merged histogram.

use std::collections::BTreeSet;
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
    let mut reports = Vec::new();
    for path in &flags.reports {
        let name = path.display().to_string();
        let read = || -> Result<_> {
            let report = Report::parse(&std::fs::read(path)?)?;
            let measured = report.measured()?;
            Ok((report, measured))
        };
        let (report, measured) = read().with_context(|| name.clone())?;
        reports.push((name, report, measured));
    }
    reports.sort_by_key(|(_, _, measured)| measured.started);

    let mut runs = BTreeSet::new();
    let mut parts = Vec::new();
    let (first_name, first, _) = &reports[0];
    let subject = &first.subject;
    for (name, report, measured) in &reports {
        for run in &measured.runs {
            ensure!(
                runs.insert(run),
                "{name}: its run is in another of these reports, too"
            );
        }
        let other = &report.subject;
        ensure!(
            other == subject,
            "{first_name} and {name} report different loads: {subject}; {other}"
        );
        let apart = measured.started.duration_since(first.started());
        let apart = apart.unwrap_or_default();
        ensure!(
            apart <= MAX_APART,
            "{first_name} and {name} did not start together: {:.1} s apart, or their clocks differ",
            apart.as_secs_f64()
        );
        parts.extend(match &report.parts[..] {
            [] => vec![Part {
                name: name.clone(),
                requests: report.outcomes.requests(),
                problem: None,
            }],
            parts => parts
                .iter()
                .map(|part| Part {
                    name: format!("{name}: {}", part.name),
                    ..part.clone()
                })
                .collect(),
        });
    }
    // Each report's metrics are about the whole fleet: adding them up would count it twice.
    let metrics = reports
        .iter()
        .filter_map(|(_, report, _)| report.cloudwatch.clone())
        .max_by_key(Metrics::count);
    let (subject, provider) = (subject.clone(), first.capacity_provider.clone());
    let measured = reports.into_iter().map(|(_, _, measured)| measured);
    let whole = Measured::sum(measured.collect())?;
    let mut merged = Report::new(subject, provider, whole, parts, &flags.limits)?;
    merged.cloudwatch = metrics;
    Ok(merged)
}

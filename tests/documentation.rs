//! What the documents claim.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::start;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use walkdir::{DirEntry, WalkDir};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Path and text of every Markdown document of the repository.
fn documents() -> Vec<(PathBuf, String)> {
    let is_ours = |entry: &DirEntry| {
        let name = entry.file_name();
        entry.depth() == 0 || name != "target" && !name.as_encoded_bytes().starts_with(b".")
    };
    let entries = WalkDir::new(ROOT).into_iter().filter_entry(is_ours);
    let paths = entries.map(|entry| entry.unwrap().into_path());
    let documents = paths.filter(|path| path.extension().is_some_and(|it| it == "md"));
    let documents: Vec<_> = documents
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    assert!(documents.len() > 3, "{documents:?}");
    documents
}

/// Text and target of every link to a file of the repository.
fn relative_links(text: &str) -> Vec<(&str, &str)> {
    text.match_indices("](")
        .map(|(at, _)| {
            let label = text[..at].rsplit_once('[').map_or("", |(_, label)| label);
            let target = text[at + 2..].split(')').next().unwrap();
            (label, target)
        })
        .filter(|(_, target)| !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_';
    let anchor: String = heading.to_lowercase().chars().filter(kept).collect();
    anchor.replace(' ', "-")
}

/// Info string and contents of every fenced block.
fn fenced_blocks(text: &str) -> Vec<(&str, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            let contents = lines.by_ref().take_while(|line| line.trim() != "```");
            blocks.push((info, contents.collect::<Vec<_>>().join("\n")));
        }
    }
    blocks
}

#[test]
fn every_relative_link_leads_somewhere() {
    for (path, text) in documents() {
        for (_, target) in relative_links(&text) {
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let target_path = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(target_path.exists(), "{}: {target}", path.display());
            if !fragment.is_empty() {
                let target_text = fs::read_to_string(target_path).unwrap();
                let mut headings = target_text.lines().filter(|line| line.starts_with('#'));
                let found =
                    headings.any(|line| anchor(line.trim_start_matches('#').trim()) == fragment);
                assert!(found, "{}: {target}", path.display());
            }
        }
    }
}

#[test]
fn every_test_that_the_requirements_name_exists() {
    let path = Path::new(ROOT).join("docs/requirements.md");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches("\n### ").count(), 15);
    assert_eq!(text.matches("- Met in:").count(), 15);
    let shown = text.lines().filter(|line| line.starts_with("- Shown by:"));
    let tests: Vec<_> = shown.map(relative_links).collect();
    assert_eq!(tests.len(), 15);
    for (name, file) in tests.into_iter().flatten() {
        let file_text = fs::read_to_string(path.parent().unwrap().join(file)).unwrap();
        let is_test = [format!("fn {name}("), format!("run \"{name}\"")]
            .iter()
            .any(|definition| file_text.contains(definition));
        assert!(is_test, "{name} is not in {file}");
    }
}

#[test]
fn the_table_of_log_lines_has_what_the_function_logs() {
    let root = Path::new(ROOT);
    let readme = fs::read_to_string(root.join("infra/README.md")).unwrap();
    let (_, section) = readme.split_once("\n### What the function logs").unwrap();
    let mut documented = Vec::new();
    for row in section.lines().take_while(|line| !line.starts_with('#')) {
        if let [_, level, messages, ..] = row.split('|').collect::<Vec<_>>()[..] {
            let messages = messages.split('`').skip(1).step_by(2);
            documented.extend(messages.map(|message| (level.trim(), message)));
        }
    }
    let mut sources = String::new();
    for path in fs::read_dir(root.join("runtime/src")).unwrap() {
        let path = path.unwrap().path();
        // The function is not a tower service.
        if path.is_file() && !path.ends_with("service.rs") {
            sources += &fs::read_to_string(path).unwrap();
        }
    }
    let mut logged = Vec::new();
    for (level, begin) in [
        ("ERROR", "error!("),
        ("WARN", "warn!("),
        ("INFO", "info!("),
        ("WARN", "let message = \"log"), // log.rs writes this line itself.
    ] {
        let texts = sources.match_indices(begin).map(|(at, _)| &sources[at..]);
        logged.extend(texts.map(|text| (level, text.split('"').nth(1).unwrap())));
    }
    // That is the error of a handler, and this function's returns none.
    logged.retain(|(_, text)| *text != "{}");
    // In the text of a log macro, `{…}` stands for a value.
    let is_same = |line: &(&str, &str), row: &(&str, &str)| {
        let (start, rest) = line.1.split_once('{').unwrap_or((line.1, line.1));
        let end = rest.split_once('}').map_or(rest, |(_, end)| end);
        line.0 == row.0 && row.1.starts_with(start) && row.1.ends_with(end)
    };
    assert!(!documented.is_empty());
    for row in &documented {
        let found = logged.iter().any(|line| is_same(line, row));
        assert!(found, "{row:?} is in infra/README.md, but not logged");
    }
    for line in &logged {
        let found = documented.iter().any(|row| is_same(line, row));
        assert!(found, "{line:?} is not in infra/README.md");
    }
}

/// A block `json event` is followed by a block `json reply`.
#[test]
fn example_events_get_the_replies_shown() {
    let function = start();
    let mut examples = 0;
    for (path, text) in documents() {
        let blocks = fenced_blocks(&text);
        for pair in blocks.windows(2) {
            let [("json event", event), (info, reply)] = pair else {
                continue;
            };
            assert_eq!(*info, "json reply", "{}: {event}", path.display());
            let replied = String::from_utf8(function.invoke(event)).unwrap();
            assert_eq!(&replied, reply, "{}: {event}", path.display());
            examples += 1;
        }
    }
    assert!(examples >= 8, "{examples} examples");
}

/// Runs a shell script in the repository, for ten minutes at most.
fn shell(script: &str) -> Child {
    // Version 2 of the AWS CLI may not be the first in the path.
    let aws = r#"[ ! -x /usr/bin/aws ] || aws() { /usr/bin/aws "$@"; }"#;
    Command::new("timeout")
        .args(["600", "bash", "-e", "-o", "pipefail", "-c"])
        .arg(format!("{aws}\n{script}"))
        .current_dir(ROOT)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Those that need no account; what follows as a block of JSON is what they print last.
#[test]
#[ignore = "needs the AWS CLI 2, curl and socat"]
fn every_command_for_this_machine_works() {
    let mut local = shell("exec cargo local");
    let mut lines = BufReader::new(local.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("in a browser")));
    let mut ran = 0;
    let mut failed = Vec::new();
    for (path, text) in documents() {
        let mut blocks = fenced_blocks(&text).into_iter().peekable();
        while let Some((info, script)) = blocks.next() {
            let runs_here = script.starts_with("cargo local ") || script.contains("127.0.0.1");
            if info != "sh" || !runs_here {
                continue;
            }
            let output = shell(&script).wait_with_output().unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            let expected = blocks.next_if(|(info, _)| *info == "json");
            let is_right = expected.is_none_or(|(_, json)| printed.trim_end().ends_with(&json));
            if !output.status.success() || !is_right {
                failed.push(format!("{}: {script}: {printed}", path.display()));
            }
            ran += 1;
        }
    }
    // Before anything can fail, because the emulator would outlive this test.
    kill(Pid::from_raw(local.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(local.wait().unwrap().success());
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(ran >= 5, "{ran} blocks ran");
}

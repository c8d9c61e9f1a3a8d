//! Flags, files, and what is refused before anything is sent.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::support::{
    InvokeApi, assert_contains, held_back, line_with, loadtest, on_managed_instances, refused,
    right, right_reply, run, scratch, signal, start, wait,
};

#[test]
fn refuses_contradictory_flags_in_one_line() {
    let api = InvokeApi::start(right);
    for (flags, complaint) in [
        ("--n 5 --mix", "cannot be used with '--mix'"),
        ("--ramp 5m", "--rate"),
        ("--ramp 5m -r 10", "before the --ramp"),
        ("-d 0s", "--duration 0"),
        ("-d 10", "--duration"),
        ("--qualifier=", "a value is required for '--qualifier"),
        ("--function-name=", "required for '--function-name"),
        ("-c 0", "0 is not in 1..=65535"),
        ("-c 65536", "65536 is not in 1..=65535"),
        ("-r 0", "0 is not in 1.."),
        ("-r 1.5", "invalid digit"),
        ("-r 100001", "give at most 100000, or more --generators"),
        // Together they can schedule more requests than a 32-bit number holds.
        (
            "--generators 65535 --generator-function nobody -c 65535 -r 4294967295",
            "--generator-function: ",
        ),
        ("--max-throttled 101", "a number from 0 to 100"),
        ("--max-throttled NaN", "0 to 100"),
        ("--vcpu-hour=-1", "a number from 0 to 1000"),
        ("-O /nowhere/report", "/nowhere/report"),
        ("--generators 2", "--generator-function"),
        ("--generator-function loadtest", "--generators"),
        ("--generator-endpoint-url http://[::1]", "--generators"),
        ("--generators 0 --generator-function f", "0 is not in 1.."),
        ("merge", "<REPORT>"),
        ("merge one.json", "2 values"),
        ("-c 2 merge one.json two.json", "cannot be used with"),
        ("marge", "unrecognized subcommand 'marge'"),
        (
            "--function-name fibonacci",
            "ResourceNotFoundException: ResourceNotFoundException of the test (check the function's name",
        ),
    ] {
        refused(&mut api.command(flags), complaint);
    }
    for url in [
        "localhost:9000",
        "http://127.0.0.1:99999",
        "http://",
        "ftp://localhost",
        "http://me@localhost:1",
        "http://localhost:1?query",
    ] {
        let mut command = loadtest(&format!("--endpoint-url {url}"));
        refused(&mut command, "is not a URL such as http://127.0.0.1:9000");
    }
    assert_eq!(api.invocations(), 0);
}

#[test]
fn points_out_that_two_flags_differ_by_one_hyphen() {
    let one_hyphen = "-n, with one hyphen, is the number of requests";
    for n in ["-1", "1001", "0..=1001", "7..=3", "ten", "0..10"] {
        refused(&mut loadtest(&format!("--n {n}")), one_hyphen);
    }
    let two_hyphens = "--n, with two hyphens, is the N of the events";
    for requests in ["0..=1000", "0", "ten", "-1"] {
        refused(&mut loadtest(&format!("-n {requests}")), two_hyphens);
    }
    let help = run(&mut loadtest("--help")).stdout;
    assert_contains(&help, "(not -n, the number of requests)");
    assert_contains(&help, "(not --n, the N of the events)");
}

#[test]
fn refuses_two_outputs_that_are_the_same_file() {
    let api = InvokeApi::start(right);
    let (file, link) = (scratch("same-file"), scratch("link-to-same-file"));
    fs::write(&file, "an older report").unwrap();
    let (folder, new) = (scratch("link-to-folder"), scratch("new-file"));
    for (target, link) in [(&file, &link), (&scratch("."), &folder)] {
        let _ = fs::remove_file(link);
        symlink(target, link).unwrap();
    }

    for (file, other) in [
        (&file, &file),
        (&file, &link),
        (&new, &folder.join("new-file")),
    ] {
        let mut command = api.command("-n 1 -O");
        refused(
            command.arg(file).arg("--html").arg(other),
            "name the same file",
        );
    }

    assert_eq!(api.invocations(), 0);
    assert_eq!(fs::read_to_string(file).unwrap(), "an older report");
}

#[test]
fn writes_the_page_if_standard_output_is_closed_and_works_if_standard_error_is() {
    let api = InvokeApi::start(right);
    let page = scratch("closed.html");
    let closed = || std::io::pipe().unwrap().1;

    let mut command = api.command("-n 1 --html");
    command.arg(&page).stdout(closed()).stderr(Stdio::piped());
    let ended = wait(command.spawn().unwrap()).failed();
    assert_contains(&ended.stderr, "standard output: Broken pipe");
    assert_contains(&fs::read_to_string(page).unwrap(), r#""ok":1"#);

    let mut command = api.command("-n 10 -o json");
    command.stdout(Stdio::piped()).stderr(closed());
    let report = wait(command.spawn().unwrap()).passed().report();
    assert_eq!(report["outcomes"]["ok"], 10);
}

#[test]
fn describes_the_capacity_provider_and_the_cost_before_and_after_a_run_on_aws() {
    let api = InvokeApi::describe(&on_managed_instances(), right);

    let flags = "-r 1000 -d 1s -n 20 -w 5 --n 1000 -o json --cloudwatch 0s";
    let ended = run(&mut api.on_aws(flags)).passed();

    let said = format!(
        "invoking fibonacci-generator at http://0.0.0.0:{}/\n\
         capacity provider fleet: Active, arm64, at most 12 vCPUs\n\
         cost: $0.00 for at most 25 requests, and $0.00 for their 0.00 GB if they leave the \
         function's Region\n",
        api.address.port()
    );
    assert_eq!(ended.stderr, said);
    let report = ended.report();
    let fleet = "capacity provider fleet: Active, arm64, at most 12 vCPUs";
    assert_eq!(report["capacity_provider"], fleet);
    let bytes = 25 * right_reply(br#"{"n": 1000}"#).len();
    assert_eq!(report["reply_bytes"], bytes);
    let dollars = report["dollars_outside_region"].as_f64().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
    let expected = bytes as f64 * 0.09e-9;
    assert!((dollars - expected).abs() < 1e-9, "{report}");
}

/// Starts a run on AWS, and ends it when it has said this.
fn says(flags: &str, text: &'static str) -> String {
    let (api, _arrivals, _release) = held_back();
    let mut child = start(&mut api.on_aws(flags));
    let line = line_with(child.stderr.take().unwrap(), text);
    signal("-9", child.id());
    wait(child);
    line
}

#[test]
fn says_before_a_run_on_aws_that_it_would_send_more_than_10_gb() {
    assert_eq!(
        says("-n 900000 --n 1000", "GB, which"),
        "the function will send 96 GB, which are free within its Region: run this on an instance or in \
         CloudShell there"
    );
    assert_eq!(
        says("--n 1000", "cost: "),
        "cost: $0.20 per million requests, and $9.62 for their 106.86 GB if they leave the function's \
         Region"
    );

    // Generators are in the Region.
    let api = InvokeApi::start(right);
    let flags = "-n 900000 --n 1000 --generators 1 --generator-function fibonacci-generator";
    let said = run(&mut api.on_aws(flags)).stderr;
    assert_contains(&said, "for their 96.");
    assert!(!said.contains("GB, which"), "{said}");
}

#[test]
fn the_costs_in_the_readme_are_what_the_load_tester_says() {
    let readme = include_str!("../README.md");
    let mut examples = 0;
    for (at, _) in readme.match_indices("```text\ncost: ") {
        let (before, stated) = (&readme[..at], readme[at..].lines().nth(1).unwrap());
        let (_, example) = before.rsplit_once("cargo loadtest ").unwrap();
        let (example, _) = example.split_once("\n```").unwrap();
        let (generators, rest) = example.split_once(" \\\n").unwrap_or(("", example));
        assert!(generators.starts_with("--generators") || generators.is_empty());
        let (flags, _) = rest.split_once(" --html").unwrap();
        assert_eq!(says(flags, "cost: "), stated, "{flags:?}");
        examples += 1;
    }
    assert_eq!(examples, 3);
}

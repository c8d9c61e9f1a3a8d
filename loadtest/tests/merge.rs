//! Reports are merged exactly, or not at all.

use serde_json::{Value, json};

use crate::support::{
    Ended, InvokeApi, assert_contains, file, histogram, loadtest, metrics, refused, right, run,
    scratch, throttled,
};

/// Two reports of loads that started 300 ms apart, the later one first.
fn two_reports() -> [Value; 2] {
    let api = InvokeApi::start(async |invocation| match invocation.number % 7 {
        0 => throttled(),
        _ => right(invocation).await,
    });
    let report_of = |flags: &str| {
        let ended = api.run(&format!("{flags} --n 0..=1000 -o json"));
        ended.report()
    };
    let (mut later, earlier) = (report_of("-n 300 -c 2"), report_of("-n 200"));
    later["started_unix_ms"] = (earlier["started_unix_ms"].as_u64().unwrap() + 300).into();
    [later, earlier]
}

fn merge(flags: &str) -> Ended {
    run(&mut loadtest(&format!("merge {flags}")))
}

/// Writes both of them.
fn write(name: &str, reports: [&Value; 2]) -> [String; 2] {
    let names = ["a", "b"].map(|which| format!("{name}-{which}.json"));
    for (name, report) in names.iter().zip(reports) {
        file(name, &report.to_string());
    }
    names
}

fn sum(reports: &[Value], pointer: &str) -> u64 {
    reports
        .iter()
        .map(|report| report.pointer(pointer).unwrap().as_u64().unwrap())
        .sum()
}

#[test]
fn counts_add_up_and_percentiles_come_from_the_merged_histogram() {
    let mut reports = two_reports();
    for (report, count) in reports.iter_mut().zip([5, 70]) {
        report["warm_up_outcomes"]["ok"] = count.into();
    }
    reports[0]["interrupted"] = true.into();
    let [a, b] = write("exact", [&reports[0], &reports[1]]);

    let merged = merge(&format!("{a} {b} -o json")).passed().report();

    for pointer in [
        "/outcomes/ok",
        "/outcomes/throttled",
        "/warm_up_outcomes/ok",
        "/reply_bytes",
        "/concurrency",
    ] {
        let merged = merged.pointer(pointer).unwrap();
        assert_eq!(*merged, sum(&reports, pointer), "{pointer}");
    }
    let sent = ["/outcomes/ok", "/outcomes/throttled"].map(|pointer| sum(&reports, pointer));
    assert_eq!(sent.iter().sum::<u64>(), 500);
    let mut expected = histogram(&reports[0]);
    expected.add(histogram(&reports[1])).unwrap();
    assert_eq!(histogram(&merged), expected);
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99_9", 0.999)] {
        let merged = &merged["latency_microseconds"][name];
        assert_eq!(*merged, expected.value_at_quantile(quantile), "{name}");
    }
    // From the start of the earlier one.
    assert_eq!(merged["started_unix_ms"], reports[1]["started_unix_ms"]);
    let later_end = 0.3 + reports[0]["elapsed_seconds"].as_f64().unwrap();
    let elapsed = merged["elapsed_seconds"].as_f64().unwrap();
    // The sum of two floating-point numbers may differ in its last digit.
    assert!(elapsed > later_end - 1e-6, "{merged}");
    assert_eq!(merged["interrupted"], true);
    assert_eq!(merged["parts"].as_array().unwrap().len(), 2);
    assert_eq!(merged["parts"][0]["name"], b);

    let failed = merge(&format!("{a} {b} --max-throttled 1")).failed();
    assert_contains(&failed.stdout, "more than --max-throttled 1");
}

#[test]
fn a_merged_report_can_be_merged_again_and_has_the_most_of_what_cloudwatch_saw() {
    let [mut a, mut b] = two_reports();
    a["cloudwatch"] = metrics();
    b["cloudwatch"] = metrics();
    let fewer = b["cloudwatch"].as_object_mut().unwrap();
    fewer.remove("throttles");
    let c = InvokeApi::start(right).run("-n 10 --n 0..=1000 -o json");
    let mut c = c.report();
    c["started_unix_ms"] = b["started_unix_ms"].clone();
    c["endpoint"] = b["endpoint"].clone();
    let [one, other] = write("again", [&a, &b]);
    let c = file("again-c.json", &c.to_string());

    merge(&format!("{one} {other} -o json -O again-two.json")).passed();
    let ended = merge(&format!("again-two.json {c} -o json")).passed();

    let report = ended.report();
    assert_eq!(report["cloudwatch"], a["cloudwatch"]);
    let parts = report["parts"].as_array().unwrap().iter();
    let names: Vec<_> = parts.map(|part| part["name"].as_str().unwrap()).collect();
    let of_two = |name: &str| format!("again-two.json: {name}");
    assert_eq!(names, [of_two(&other), of_two(&one), c]);
}

#[test]
fn refuses_in_one_line_what_is_damaged_or_does_not_belong_together_and_merges_nothing() {
    let [a, b] = two_reports();
    let good = file("good.json", &a.to_string());
    let refuse = |bad: &str, complaint: &str| {
        let mut command = loadtest(&format!("merge {good} {bad} -o json -O not-merged.json"));
        refused(&mut command, complaint);
        assert!(!scratch("not-merged.json").exists(), "{complaint}");
    };
    let started = b["started_unix_ms"].as_u64().unwrap();
    let different = "report different loads";
    for (pointer, value, complaint) in [
        ("/version", json!(1), "its version is 1, not 3"),
        ("/version", json!("one"), "not a report of the load tester"),
        ("/histogram", json!("AAAAAAAAAAAA"), "not deflated"),
        ("/histogram", json!("HISTFAAA"), "a histogram: cut short"),
        ("/histogram", json!("!"), "a histogram: not base64"),
        ("/histogram", a["histogram"].clone(), "do not add up"),
        ("/outcomes/ok", json!(7), "its counts do not add up"),
        ("/outcomes/ok", json!(u64::MAX), "its counts do not add up"),
        ("/outcomes/ok", json!(-1), "not a report of the load tester"),
        ("/intervals/0/histogram", json!(""), "histogram: cut short"),
        ("/intervals", json!([]), "its counts do not add up"),
        ("/interval_ms", json!(0), "its intervals are too short"),
        ("/elapsed_seconds", json!(-1.0), "an impossible time"),
        ("/cpu_seconds", json!(-1e3), "an impossible time"),
        ("/runs", json!([]), "it consists of no run"),
        ("/due", json!({"requests": 1}), "not a report of the"),
        ("/runs", a["runs"].clone(), "its run is in another of"),
        ("/started_unix_ms", json!(started + 1_400), "1.1 s apart"),
        ("/started_unix_ms", json!(started - 5_000), "5.3 s apart"),
        ("/function_name", json!("another"), different),
        ("/endpoint", json!("http://[::1]/"), different),
        ("/events", json!("n = 3"), different),
        ("/latency_measured_from", json!("due"), different),
        (
            "/qualifier",
            json!("blue"),
            "bad.json and good.json report different loads: fibonacci-generator:blue at ",
        ),
    ] {
        let mut bad = b.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        refuse(&file("bad.json", &bad.to_string()), complaint);
    }
    for (text, complaint) in [
        ("", "not a report of the load tester: EOF"),
        ("{}", "its version is null"),
        ("[3]", "not a report of the load tester"),
        (&b.to_string()[..500], "load tester: EOF"),
    ] {
        refuse(&file("bad.json", text), complaint);
    }
    refuse("/nowhere.json", "/nowhere.json: No such file");
    refuse("/", "Is a directory");
    refuse(&good, "its run is in another of these reports, too");
}

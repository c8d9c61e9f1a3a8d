//! Reading an event: with the function's parser and with others. All of them accept these events.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use fibonacci_generator::event;
use fibonacci_generator::sequence::Index;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use simd_json::Buffers;
use simd_json::prelude::ValueAsScalar;

fn ours(payload: &mut [u8]) -> Option<Index> {
    event::parse(payload).ok()
}

fn value(payload: &mut [u8]) -> Option<Index> {
    let event: Value = serde_json::from_slice(payload).ok()?;
    let n = if let Some(n) = event.get("n") {
        n.as_u64()?.try_into().ok()?
    } else {
        event.get("requestContext")?.as_object()?;
        let query = event.get("queryStringParameters")?;
        query.get("n")?.as_str()?.parse().ok()?
    };
    Index::new(n)
}

fn simd_json_tape(payload: &mut [u8]) -> Option<Index> {
    let tape = simd_json::to_tape(payload).ok()?;
    let event = tape.as_value();
    let n = if let Some(n) = event.get("n") {
        n.as_u16()?
    } else {
        event.get("requestContext")?.as_object()?;
        let query = event.get("queryStringParameters")?;
        query.get("n")?.as_str()?.parse().ok()?
    };
    Index::new(n)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    n: Option<u16>,
    request_context: Option<IgnoredAny>,
    #[serde(borrow)]
    query_string_parameters: Option<Query<'a>>,
}

#[derive(Deserialize)]
struct Query<'a> {
    n: Option<&'a str>,
}

fn simd_json_serde() -> impl FnMut(&mut [u8]) -> Option<Index> {
    let mut buffers = Buffers::default();
    move |payload| {
        let event: Event = simd_json::serde::from_slice_with_buffers(payload, &mut buffers).ok()?;
        let n = if let Some(n) = event.n {
            n
        } else {
            event.request_context?;
            event.query_string_parameters?.n?.parse().ok()?
        };
        Index::new(n)
    }
}

/// The event of a Function URL, as Lambda sends it.
fn http_event() -> Vec<u8> {
    let event: Value =
        serde_json::from_str(include_str!("../tests/events/function_url.json")).expect("JSON");
    event.to_string().into_bytes()
}

/// A direct event of about `len` bytes, most of them in a member that parsers ignore.
fn large_event(len: usize) -> Vec<u8> {
    let item = r#", {"id": 1234, "name": "item 1234", "tags": ["a", "b"], "price": 9.75}"#;
    let items = item.repeat(len / item.len());
    format!(r#"{{"ignored": [null{items}], "n": 10}}"#).into_bytes()
}

fn event(criterion: &mut Criterion) {
    println!("cargo bench takes under four minutes in all; event takes half a minute");
    let payloads = [
        ("9 B", br#"{"n": 10}"#.to_vec()),
        ("1.3 KB, HTTP", http_event()),
        ("100 KB", large_event(100_000)),
        ("1 MB", large_event(1_000_000)),
    ];
    for (name, payload) in payloads {
        let group = &mut criterion.benchmark_group(format!("event/{name}"));
        group.throughput(Throughput::Bytes(payload.len() as u64));
        if payload.len() > 10_000 {
            group.sampling_mode(SamplingMode::Flat);
        }
        read(group, "serde_json visitor (ours)", &payload, ours);
        read(group, "serde_json::Value", &payload, value);
        read(group, "simd-json tape", &payload, simd_json_tape);
        let with_serde = simd_json_serde();
        read(
            group,
            "simd-json serde, buffers reused",
            &payload,
            with_serde,
        );
    }
}

fn read(
    group: &mut BenchmarkGroup<WallTime>,
    parser: &str,
    payload: &[u8],
    mut parse: impl FnMut(&mut [u8]) -> Option<Index>,
) {
    // simd-json changes its input, so each parser gets a copy, which is made off the clock.
    let copy = || payload.to_vec();
    assert_eq!(parse(&mut copy()), Index::new(10), "{parser}");
    group.bench_function(parser, |b| {
        b.iter_batched_ref(copy, |payload| parse(payload), BatchSize::SmallInput);
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(40)
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500));
    targets = event
}

criterion_main!(benches);

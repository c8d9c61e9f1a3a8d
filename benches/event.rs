//! Reading an event: with the function's parser and with others. All of them accept these events.

use std::fmt::Write;
use std::time::Duration;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group};
use fibonacci_generator::event;
use fibonacci_generator::sequence::Index;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use simd_json::Buffers;
use simd_json::prelude::ValueAsScalar;

fn value(payload: &[u8]) -> Option<Index> {
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

fn simd_json_serde(payload: &mut [u8], buffers: &mut Buffers) -> Option<Index> {
    let event: Event = simd_json::serde::from_slice_with_buffers(payload, buffers).ok()?;
    let n = if let Some(n) = event.n {
        n
    } else {
        event.request_context?;
        event.query_string_parameters?.n?.parse().ok()?
    };
    Index::new(n)
}

/// The event of a Function URL, as Lambda sends it.
fn http_event() -> Vec<u8> {
    let event: Value =
        serde_json::from_str(include_str!("../tests/events/function_url.json")).expect("JSON");
    event.to_string().into_bytes()
}

/// A direct event of at least `len` bytes, most of them in a member that parsers ignore.
fn large_event(len: usize) -> Vec<u8> {
    let mut event = r#"{"ignored": [null"#.to_owned();
    let mut id = 0;
    while event.len() < len {
        write!(
            event,
            r#", {{"id": {id}, "name": "item {id}", "tags": ["a", "b"], "price": 9.75}}"#
        )
        .expect("memory");
        id += 1;
    }
    event.push_str(r#"], "n": 10}"#);
    event.into_bytes()
}

fn event(criterion: &mut Criterion) {
    let payloads = [
        ("9 B", br#"{"n": 10}"#.to_vec()),
        ("1.3 KB, HTTP", http_event()),
        ("100 KB", large_event(100_000)),
        ("1 MB", large_event(1_000_000)),
    ];
    for (name, payload) in payloads {
        let mut buffers = Buffers::default();
        let expected = Index::new(10);
        assert_eq!(event::parse(&payload).ok(), expected);
        assert_eq!(value(&payload), expected);
        assert_eq!(simd_json_tape(&mut payload.clone()), expected);
        assert_eq!(
            simd_json_serde(&mut payload.clone(), &mut buffers),
            expected
        );

        let mut group = criterion.benchmark_group(format!("event/{name}"));
        group.throughput(Throughput::Bytes(payload.len() as u64));
        if payload.len() > 10_000 {
            group.sampling_mode(SamplingMode::Flat);
        }
        // simd-json changes its input, so each parser gets a copy, which is made off the clock.
        let copy = || payload.clone();
        group.bench_function("serde_json visitor (ours)", |b| {
            b.iter_batched_ref(copy, |payload| event::parse(payload), BatchSize::SmallInput);
        });
        group.bench_function("serde_json::Value", |b| {
            b.iter_batched_ref(copy, |payload| value(payload), BatchSize::SmallInput);
        });
        group.bench_function("simd-json tape", |b| {
            b.iter_batched_ref(
                copy,
                |payload| simd_json_tape(payload),
                BatchSize::SmallInput,
            );
        });
        group.bench_function("simd-json serde, buffers reused", |b| {
            b.iter_batched_ref(
                copy,
                |payload| simd_json_serde(payload, &mut buffers),
                BatchSize::SmallInput,
            );
        });
    }
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

fn main() {
    println!("cargo bench takes under four minutes in all; event takes half a minute");
    benches();
    Criterion::default().configure_from_args().final_summary();
}

//! The bytes of a reply, ready to be sent: from the table, and from what one would write instead.

mod handlers;

use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    AxisScale, BenchmarkGroup, BenchmarkId, Criterion, PlotConfiguration, criterion_group,
    criterion_main,
};
use fibonacci_generator::sequence::{Index, MAX_INDEX};
use fibonacci_generator::{event, reply};
use once_cell::sync::Lazy;

const INDICES: [u16; 10] = [0, 1, 3, 10, 30, 100, 200, 400, 700, 1000];

/// What the function's binary contains, computed when it is first needed.
struct Table {
    heads: Vec<String>,
    sequence: String,
    prefix_ends: Vec<usize>,
}

#[expect(clippy::non_std_lazy_statics, reason = "once_cell is what is measured")]
static TABLE: Lazy<Table> = Lazy::new(|| {
    let mut sequence = String::new();
    let mut prefix_ends = Vec::new();
    for (index, term) in handlers::terms(MAX_INDEX).enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(sequence, "{separator}{term}").expect("a String takes all text");
        prefix_ends.push(sequence.len());
    }
    let head = |n| {
        format!(
            r#"{{"statusCode": 200, "headers": {{"Content-Type": "application/json"}}, "body": "{{\"n\": {n}, \"sequence\": ["#
        )
    };
    Table {
        heads: (0..=MAX_INDEX).map(head).collect(),
        sequence,
        prefix_ends,
    }
});

fn ours(n: u16) -> [&'static [u8]; 3] {
    reply::slices(Ok(Index::new(n).expect("at most 1000")))
}

fn once_cell(n: u16) -> [&'static [u8]; 3] {
    let table = &*TABLE;
    let prefix = &table.sequence[..table.prefix_ends[usize::from(n)]];
    [&table.heads[usize::from(n)], prefix, r#"]}"}"#].map(str::as_bytes)
}

fn stock(n: u16) -> Vec<u8> {
    serde_json::to_vec(&handlers::stock(n)).expect("strings and a number")
}

fn iterative(n: u16) -> Vec<u8> {
    serde_json::to_vec(&handlers::iterative(n)).expect("strings and a number")
}

fn replies(criterion: &mut Criterion) {
    println!("reply takes about a minute");
    let group = &mut criterion.benchmark_group("reply");
    group.plot_config(PlotConfiguration::default().summary_scale(AxisScale::Logarithmic));
    for n in INDICES {
        assert!(once_cell(n) == ours(n));
        assert!(iterative(n) == stock(n));
        time(group, "ours", n, ours);
        time(group, "once_cell", n, once_cell);
        time(group, "stock", n, stock);
        time(group, "iterative", n, iterative);
    }
}

fn time<T>(group: &mut BenchmarkGroup<WallTime>, program: &str, n: u16, reply: impl Fn(u16) -> T) {
    group.bench_with_input(BenchmarkId::new(program, n), &n, |b, &n| {
        b.iter(|| reply(black_box(n)));
    });
}

/// All that happens between the last byte of an event and the first byte of its reply.
fn event_to_reply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("event_to_reply");
    for n in [0, 10, 100, 1000] {
        let payload = format!(r#"{{"n": {n}}}"#).into_bytes();
        group.bench_with_input(BenchmarkId::new("ours", n), &*payload, |b, payload| {
            b.iter(|| reply::slices(event::parse(black_box(payload))));
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
    targets = replies, event_to_reply
}

criterion_main!(benches);

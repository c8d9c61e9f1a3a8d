//! The bytes of a reply, ready to be sent: from the table, and computed without one.

mod without_table;

use std::hint::black_box;
use std::io::{self, Write};

use criterion::{Criterion, criterion_group, criterion_main};
use fibonacci_generator::event;
use fibonacci_generator::reply::Reply;
use fibonacci_generator::sequence::{Index, MAX_INDEX};
use once_cell::sync::Lazy;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::value::RawValue;

use without_table::Response;

const INDICES: [u16; 4] = [0, 10, 100, 1000];

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
    for term in without_table::terms(MAX_INDEX) {
        if !sequence.is_empty() {
            sequence.push_str(", ");
        }
        sequence.push_str(&term.to_string());
        prefix_ends.push(sequence.len());
    }
    Table {
        heads: (0..=MAX_INDEX).map(head).collect(),
        sequence,
        prefix_ends,
    }
});

const TAIL: &str = r#"]}"}"#;

fn head(n: u16) -> String {
    format!(
        r#"{{"statusCode": 200, "headers": {{"Content-Type": "application/json"}}, "body": "{{\"n\": {n}, \"sequence\": ["#
    )
}

fn table(n: u16) -> [&'static [u8]; 3] {
    Reply::from(Index::new(n).expect("at most 1000")).slices()
}

fn lazy_table(n: u16) -> [&'static [u8]; 3] {
    let table = &*TABLE;
    let prefix = &table.sequence[..table.prefix_ends[usize::from(n)]];
    [&table.heads[usize::from(n)], prefix, TAIL].map(str::as_bytes)
}

fn iteration(n: u16) -> String {
    head(n) + &without_table::prefix(n) + TAIL
}

#[derive(Serialize)]
struct Body {
    n: u16,
    sequence: Vec<Box<RawValue>>,
}

fn iteration_and_serde_json(n: u16) -> String {
    let sequence = without_table::terms(n).map(|term| RawValue::from_string(term.to_string()));
    let sequence = sequence.collect::<Result<_, _>>().expect("numbers");
    to_json(&Response::new(to_json(&Body { n, sequence })))
}

/// Writes JSON with the spaces that the function's replies have.
fn to_json(value: &impl Serialize) -> String {
    let mut json = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut json, Spaced);
    value
        .serialize(&mut serializer)
        .expect("strings and numbers");
    String::from_utf8(json).expect("JSON")
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: Write + ?Sized>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        to.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        to.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}

fn reply(criterion: &mut Criterion) {
    for n in INDICES {
        let expected = table(n).concat();
        assert!(lazy_table(n).concat() == expected);
        assert!(iteration(n).as_bytes() == expected);
        assert!(iteration_and_serde_json(n).as_bytes() == expected);

        let mut group = criterion.benchmark_group(format!("reply/{n}"));
        group.bench_function("table", |b| b.iter(|| table(black_box(n))));
        group.bench_function("table behind once_cell", |b| {
            b.iter(|| lazy_table(black_box(n)));
        });
        group.bench_function("num-bigint", |b| b.iter(|| iteration(black_box(n))));
        group.bench_function("num-bigint and serde_json", |b| {
            b.iter(|| iteration_and_serde_json(black_box(n)));
        });
    }
}

/// All that happens between the last byte of an event and the first byte of its reply.
fn event_to_reply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("event_to_reply");
    for n in INDICES {
        let payload = format!(r#"{{"n": {n}}}"#);
        group.bench_function(n.to_string(), |b| {
            b.iter(|| Reply::from(event::parse(black_box(payload.as_bytes()))).slices());
        });
    }
}

criterion_group!(benches, reply, event_to_reply);
criterion_main!(benches);

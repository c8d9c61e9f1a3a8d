//! What is measured.

use std::sync::Arc;

use fibonacci_generator::reply::Reply;
use fibonacci_generator::sequence::{self, Index};

use crate::competitors::Response;
use crate::runtime_api::Event;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Ours,
    Off,
    Multi,
    Old,
    Raw,
    RawOff,
    NoOp,
    Stock,
    Seam,
    Iterative,
    Python,
}

impl Program {
    pub(crate) const ALL: [Self; 11] = [
        Self::Ours,
        Self::Off,
        Self::Multi,
        Self::Old,
        Self::Raw,
        Self::RawOff,
        Self::NoOp,
        Self::Stock,
        Self::Seam,
        Self::Iterative,
        Self::Python,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Off => "off",
            Self::Multi => "multi",
            Self::Old => "old",
            Self::Raw => "raw",
            Self::RawOff => "raw-off",
            Self::NoOp => "no-op",
            Self::Stock => "stock",
            Self::Seam => "seam",
            Self::Iterative => "iterative",
            Self::Python => "python",
        }
    }

    /// A direct event and the program's reply to it.
    pub(crate) fn event(self, n: u16) -> Arc<Event> {
        let index = Index::new(n).expect("at most 1000");
        let reply = match self {
            Self::NoOp => b"{}".to_vec(),
            Self::Stock | Self::Iterative => {
                let response = Response::new(n, sequence::prefix(index));
                serde_json::to_vec(&response).expect("strings and a number")
            }
            _ => Reply::from(index).slices().concat(),
        };
        let payload = format!(r#"{{"n": {n}}}"#).into_bytes();
        Arc::new(Event { payload, reply })
    }
}

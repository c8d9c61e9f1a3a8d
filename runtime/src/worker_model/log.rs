//! The lines that the function logs.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use lambda_runtime::tracing::field::{Field, Visit};
use lambda_runtime::tracing::{Event, Metadata, Subscriber, span};

#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Line>>>);

#[derive(Debug, Default)]
struct Line {
    /// Empty if the line is about no invocation.
    request_id: String,
    message: String,
}

impl Log {
    /// How many lines there are about this invocation that contain one of these texts.
    pub(super) fn count(&self, request_id: &str, messages: &[&str]) -> usize {
        let lines = self.0.lock().unwrap();
        let lines = lines.iter().filter(|line| line.request_id == request_id);
        let is_one = |line: &&Line| messages.iter().any(|text| line.message.contains(text));
        lines.filter(is_one).count()
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("lmi_runtime")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().unwrap().push(line);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "requestId" {
            value.clone_into(&mut self.request_id);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

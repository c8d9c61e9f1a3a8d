//! The metrics of a run, from moto's CloudWatch.

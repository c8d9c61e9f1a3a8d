//! What a run costs besides the fleet, in us-east-1.

use crate::load::as_f64;
use crate::share::Share;
use crate::terminal::say;

/// <https://aws.amazon.com/lambda/pricing/>
pub(crate) const DOLLARS_PER_MILLION_REQUESTS: f64 = 0.20;

/// The first 10 TB of a month, to the internet: <https://aws.amazon.com/ec2/pricing/on-demand/>
const DOLLARS_PER_GB: f64 = 0.09;

/// A run that sends more than this should be where data transfer is free.
const MUCH_GB: f64 = 10.0;

/// GB and dollars of replies to callers outside the function's Region.
pub(crate) fn data_transfer(bytes: f64) -> (f64, f64) {
    (bytes / 1e9, bytes / 1e9 * DOLLARS_PER_GB)
}

/// Says what a run will cost.
pub(crate) fn say_cost(share: &Share, are_callers_generators: bool) {
    let (load, reply_bytes) = (&share.load, share.events.reply_bytes());
    let requests = load.due().map(|due| due.requests).or(load.requests);
    let requests = requests.map(|requests| as_f64(requests.saturating_add(share.warm_up)));
    let millions = requests.unwrap_or(1e6) / 1e6;
    let requests_cost = millions * DOLLARS_PER_MILLION_REQUESTS;
    let of = match requests {
        Some(requests) => format!("for at most {requests} requests"),
        None => "per million requests".to_owned(),
    };
    let data = reply_bytes.map(|bytes| data_transfer(millions * 1e6 * bytes));
    let data_cost = data.map(|(gb, dollars)| {
        format!(", and ${dollars:.2} for their {gb:.2} GB if they leave the function's Region")
    });
    let data_cost = data_cost.unwrap_or_default();
    say(&format!("cost: ${requests_cost:.2} {of}{data_cost}"));
    // Generators are in the Region already.
    if requests.is_some()
        && !are_callers_generators
        && let Some((gb, _)) = data.filter(|(gb, _)| *gb > MUCH_GB)
    {
        say(&format!(
            "the function will send {gb:.0} GB, which are free within its Region: run this on an \
             instance or in CloudShell there"
        ));
    }
}

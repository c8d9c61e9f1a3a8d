//! HTTP events through the real binary.
//!
//! `events/` holds one of each kind, with every member that AWS documents for it:
//! - [Function URL](https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html)
//! - [HTTP API, payload format 2.0, and REST API, 1.0](https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html)
//! - [Application Load Balancer](https://docs.aws.amazon.com/lambda/latest/dg/services-alb.html)
//! - [VPC Lattice, version 2](https://docs.aws.amazon.com/vpc-lattice/latest/ug/lambda-functions.html)

use crate::support::{
    Expected, NEGATIVE, NOT_AN_INTEGER, NOT_JSON, REQUIRED, TOO_LARGE, assert_reply, start,
};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Map, Value, json};

const EVENTS: [(&str, &str); 6] = [
    ("Function URL", include_str!("events/function_url.json")),
    ("HTTP API", include_str!("events/http_api.json")),
    ("REST API", include_str!("events/rest_api.json")),
    ("load balancer", include_str!("events/load_balancer.json")),
    (
        "load balancer, multi-value headers",
        include_str!("events/load_balancer_multi_value.json"),
    ),
    ("VPC Lattice", include_str!("events/vpc_lattice.json")),
];

/// Asserts the replies to events of every kind whose query and body are these parts alone.
#[track_caller]
fn assert_replies(cases: impl IntoIterator<Item = (Expected, Value)>) {
    assert_replies_of(|_| true, cases);
}

#[track_caller]
fn assert_replies_of(
    is_meant: impl Fn(&str) -> bool,
    cases: impl IntoIterator<Item = (Expected, Value)>,
) {
    let function = start();
    for (expected, parts) in cases {
        for (_, event) in EVENTS.iter().filter(|(kind, _)| is_meant(kind)) {
            let mut event: Map<_, _> = serde_json::from_str(event).unwrap();
            event.retain(|name, _| name != "body" && !name.ends_with("ueryStringParameters"));
            event.extend(parts.as_object().unwrap().clone());
            assert_reply(&function, Value::from(event).to_string(), expected);
        }
    }
}

fn query(n: impl Into<Value>) -> Value {
    json!({ "queryStringParameters": { "n": n.into() } })
}

fn base64_body(body: impl AsRef<[u8]>) -> Value {
    json!({ "body": BASE64_STANDARD.encode(body), "isBase64Encoded": true })
}

#[test]
fn takes_n_from_the_query() {
    let function = start();
    for (_, event) in EVENTS {
        assert_reply(&function, event, Ok(10));
    }
    assert_replies(["5", "05", "0000000000000000000000005"].map(|n| (Ok(5), query(n))));
    assert_replies(["0", "-0", "-000"].map(|n| (Ok(0), query(n))));
}

#[test]
fn refuses_the_query_as_it_does_a_direct_event() {
    let refuses = |message, values: &[&str]| {
        assert_replies(values.iter().map(|n| (Err(message), query(*n))));
    };
    refuses(
        NOT_AN_INTEGER,
        &[
            "x", "1.0", "1e2", "+1", " 1", "1 ", "1,2", "--1", "-", "٣", "0x1", "\u{0}",
        ],
    );
    refuses(NEGATIVE, &["-1", "-01", "-99999999999999999999"]);
    refuses(
        TOO_LARGE,
        &["1001", "01001", "65536", "99999999999999999999"],
    );
}

#[test]
fn takes_n_from_the_body_where_the_query_has_none() {
    let without_n = [
        (json!(null), json!(null)),
        (json!({}), json!({})),
        (json!({"n": ""}), json!({"n": ["1", ""]})),
        (json!({"n": null}), json!({"n": null})),
        (json!({"n": 1}), json!({"n": [1]})),
        (json!({"n": []}), json!({"n": "1"})),
        (json!({"n": ["1", ""]}), json!({"n": [["1"]]})),
        (json!([]), json!({"n": []})),
        (json!("n"), json!({"n": [["1"]]})),
    ];
    assert_replies(without_n.map(|(query, multiple)| {
        let parts = json!({
            "queryStringParameters": query,
            "multiValueQueryStringParameters": multiple,
            "body": r#"{"n": 7}"#,
        });
        (Ok(7), parts)
    }));
    assert_replies([
        (Ok(7), json!({ "body": r#"{"\u006e": 7}"# })),
        (Ok(7), base64_body(r#"{"n": 7}"#)),
    ]);
}

#[test]
fn takes_the_last_of_several_values() {
    let multiple = json!({ "multiValueQueryStringParameters": { "n": ["1", "5"] } });
    assert_replies([(Ok(5), query(["1", "5"].as_slice())), (Ok(5), multiple)]);
}

#[test]
fn decodes_the_query_of_a_load_balancer_and_of_nobody_else() {
    let refused = Err(NOT_AN_INTEGER);
    let others = json!({"n": "5", "%n": "7", "%256E": "7", "n%20": "7"});
    for (query, decoded, undecoded) in [
        (json!({"n": "%35"}), Ok(5), refused),
        (json!({"n": "%2D0"}), Ok(0), refused),
        (json!({"%6e": "5"}), Ok(5), Err(REQUIRED)),
        (json!({"%6E": "7", "n": "%35"}), Ok(5), refused),
        (others, Ok(5), Ok(5)),
        (json!({"n": "%"}), refused, refused),
        (json!({"n": "5%ff"}), refused, refused),
        (json!({"n": "%32%3"}), refused, refused),
    ] {
        let object = query.as_object().unwrap().iter();
        let arrays: Value = object.map(|(key, n)| (key.clone(), json!([n]))).collect();
        let parts = [
            json!({ "queryStringParameters": query }),
            json!({ "multiValueQueryStringParameters": arrays }),
        ];
        let is_balancer = |kind: &str| kind.starts_with("load balancer");
        assert_replies_of(is_balancer, parts.clone().map(|part| (decoded, part)));
        assert_replies_of(
            |kind| !is_balancer(kind),
            parts.map(|part| (undecoded, part)),
        );
    }
}

#[test]
fn prefers_the_query_to_the_body() {
    let bodies = [r#"{"n": 7}"#, "not JSON"];
    assert_replies(bodies.map(|body| {
        let parts = json!({ "queryStringParameters": { "n": "10" }, "body": body });
        (Ok(10), parts)
    }));
}

#[test]
fn reads_the_body_as_it_does_a_direct_event() {
    let refuses = |message, bodies: &[&str]| {
        let spelled = |body| [json!({ "body": body }), base64_body(body)];
        let parts = bodies.iter().flat_map(|body| spelled(*body));
        assert_replies(parts.map(|part| (Err(message), part)));
    };
    refuses(
        REQUIRED,
        &["", "{}", "null", "[]", r#""x""#, r#"{"n": null}"#],
    );
    refuses(
        REQUIRED,
        &[r#"{"requestContext": {}, "body": "{\"n\": 1}"}"#],
    );
    refuses(NOT_AN_INTEGER, &[r#"{"n": "1"}"#, r#"{"n": 1.0}"#]);
    refuses(NEGATIVE, &[r#"{"n": -1}"#]);
    refuses(TOO_LARGE, &[r#"{"n": 1001}"#]);
    refuses(
        NOT_JSON,
        &["x", "n=1", "{", " ", "\u{feff}{}", r#"{"n": 01}"#],
    );
    assert_replies([(Err(NOT_JSON), base64_body(b"{\"n\": 1, \"\xff\": 0}"))]);
}

#[test]
fn takes_bad_base64_for_what_is_not_json() {
    let bodies = [
        r#"{"n": 7}"#,
        "eyJuIjogN30",
        "eyJuIjogN30==",
        "eyJu\nIjogN30=",
        "eyJuIjogN31=", // a bit that stands for nothing is 1
    ];
    assert_replies(bodies.map(|body| {
        let parts = json!({ "body": body, "isBase64Encoded": true });
        (Err(NOT_JSON), parts)
    }));
}

#[test]
fn takes_a_part_of_the_wrong_type_for_absent() {
    let bodies = [
        json!(7),
        json!({"n": 7}),
        json!(["x"]),
        json!(true),
        json!(null),
    ];
    assert_replies(bodies.map(|body| (Err(REQUIRED), json!({ "body": body }))));
    assert_replies([json!("true"), json!(1), json!(null)].map(|encoded| {
        let parts = json!({ "body": r#"{"n": 7}"#, "isBase64Encoded": encoded });
        (Ok(7), parts)
    }));
}

#[test]
fn tells_a_direct_event_by_n_or_by_the_lack_of_a_request_context_object() {
    let cases = [
        (Ok(3), "n", json!(3)),
        (Err(REQUIRED), "n", json!(null)),
        (Err(REQUIRED), "requestContext", json!(null)),
        (Err(REQUIRED), "requestContext", json!([])),
        (Err(REQUIRED), "requestContext", json!("x")),
        (Err(REQUIRED), "requestContext", json!(1)),
    ];
    assert_replies(cases.map(|(expected, name, value)| {
        let mut parts = query("10");
        parts[name] = value;
        (expected, parts)
    }));
}

#[test]
fn reads_escapes_as_the_characters_that_they_stand_for() {
    let function = start();
    for (part, expected) in [
        (r#""queryStringParameters": {"\u006e": "\u0035"}"#, Ok(5)),
        (
            r#""queryStringParameters": {"n": "\ud800"}"#,
            Err(NOT_AN_INTEGER),
        ),
        (r#""body": "{\u0022n\": \u0035}""#, Ok(5)),
        (r#""body": "\ud800""#, Err(NOT_JSON)),
        (r#""body": "{\"n\": 1, \"\ud800\": 0}""#, Err(NOT_JSON)),
        (r#""body": "{\"n\": 5, \"\\ud800\": 0}""#, Ok(5)),
    ] {
        let event = format!(r#"{{"requestContext": {{}}, {part}}}"#);
        assert_reply(&function, event, expected);
    }
}

#[test]
fn reads_a_body_of_6_mb() {
    let open = format!(r#"{{"ignored": {}0, "n": 5}}"#, "[0,".repeat(1_000_000));
    let closed = open.replace("0, \"n\"", &format!("0{}, \"n\"", "]".repeat(1_000_000)));
    // One kind of event, because it takes this test longer to write one than the function to read it.
    let cases = [
        (Err(NOT_JSON), json!({ "body": open })),
        (Ok(5), json!({ "body": closed })),
        (Ok(5), base64_body(closed)),
    ];
    assert_replies_of(|kind| kind == "Function URL", cases);
}

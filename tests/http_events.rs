//! HTTP events through the real binary.
//!
//! `events/` holds one of each kind, with every member that AWS documents for it:
//! - [Function URL](https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html)
//! - [HTTP API, payload format 2.0, and REST API, 1.0](https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html)
//! - [Application Load Balancer](https://docs.aws.amazon.com/lambda/latest/dg/services-alb.html)
//! - [VPC Lattice, version 2](https://docs.aws.amazon.com/vpc-lattice/latest/ug/lambda-functions.html)

use crate::support::{
    Expected, NEGATIVE, NOT_AN_INTEGER, NOT_JSON, REQUIRED, TOO_LARGE, reply, start,
};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

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

/// Asserts the reply to an event of every kind, after `change` is made to it.
#[track_caller]
fn assert_replies(expected: Expected, change: impl Fn(&mut Value)) {
    assert_replies_to(&EVENTS, expected, change);
}

#[track_caller]
fn assert_replies_to(events: &[(&str, &str)], expected: Expected, change: impl Fn(&mut Value)) {
    let function = start();
    for (kind, event) in events {
        let mut event = serde_json::from_str(event).unwrap();
        change(&mut event);
        let replied = String::from_utf8(function.invoke(event.to_string())).unwrap();
        assert_eq!(replied, reply(expected), "{kind}: {event}");
    }
}

fn set_query(event: &mut Value, n: &Value) {
    event["queryStringParameters"] = json!({ "n": n });
    event
        .as_object_mut()
        .unwrap()
        .remove("multiValueQueryStringParameters");
}

fn set_body(event: &mut Value, body: impl Into<Value>) {
    let object = event.as_object_mut().unwrap();
    object.remove("queryStringParameters");
    object.remove("multiValueQueryStringParameters");
    object.insert("body".into(), body.into());
}

fn set_base64_body(event: &mut Value, body: &[u8]) {
    set_body(event, BASE64_STANDARD.encode(body));
    event["isBase64Encoded"] = true.into();
}

#[test]
fn takes_n_from_the_query() {
    assert_replies(Ok(10), |_| ());
    for n in ["5", "05", "0000000000000000000000005"] {
        assert_replies(Ok(5), |event| set_query(event, &n.into()));
    }
    for n in ["0", "-0", "-000"] {
        assert_replies(Ok(0), |event| set_query(event, &n.into()));
    }
}

#[test]
fn refuses_the_query_as_it_does_a_direct_event() {
    for (message, values) in [
        (
            NOT_AN_INTEGER,
            &[
                "x", "1.0", "1e2", "+1", " 1", "1 ", "1,2", "--1", "-", "٣", "0x1", "\u{0}",
            ][..],
        ),
        (NEGATIVE, &["-1", "-01", "-99999999999999999999"]),
        (
            TOO_LARGE,
            &["1001", "01001", "65536", "99999999999999999999"],
        ),
    ] {
        for n in values {
            assert_replies(Err(message), |event| set_query(event, &json!(n)));
        }
    }
}

#[test]
fn takes_n_from_the_body_where_the_query_has_none() {
    for (query, multiple) in [
        (Value::Null, Value::Null),
        (json!({}), json!({})),
        (json!({"n": ""}), json!({"n": ["1", ""]})),
        (json!({"n": null}), json!({"n": null})),
        (json!({"n": 1}), json!({"n": [1]})),
        (json!({"n": []}), json!({"n": "1"})),
        (json!({"n": ["1", ""]}), json!({"n": [["1"]]})),
        (json!([]), json!({"n": []})),
        (json!("n"), json!({"n": [["1"]]})),
    ] {
        assert_replies(Ok(7), |event| {
            set_body(event, r#"{"n": 7}"#);
            event["queryStringParameters"] = query.clone();
            event["multiValueQueryStringParameters"] = multiple.clone();
        });
    }
    assert_replies(Ok(7), |event| set_base64_body(event, b"{\"n\": 7}"));
    assert_replies(Ok(7), |event| set_body(event, r#"{"\u006e": 7}"#));
}

#[test]
fn takes_the_last_of_several_values() {
    assert_replies(Ok(5), |event| set_query(event, &json!(["1", "5"])));
    assert_replies(Ok(5), |event| {
        set_query(event, &Value::Null);
        event["multiValueQueryStringParameters"] = json!({"n": ["1", "5"]});
    });
}

#[test]
fn decodes_the_query_of_a_load_balancer_and_of_nobody_else() {
    let function = start();
    for (query, decoded, undecoded) in [
        (json!({"n": "%35"}), Ok(5), Err(NOT_AN_INTEGER)),
        (json!({"n": "%2D0"}), Ok(0), Err(NOT_AN_INTEGER)),
        (json!({"%6e": "5"}), Ok(5), Err(REQUIRED)),
        (json!({"%6E": "7", "n": "%35"}), Ok(5), Err(NOT_AN_INTEGER)),
        (
            json!({"n": "5", "%n": "7", "%256E": "7", "n%20": "7"}),
            Ok(5),
            Ok(5),
        ),
        (json!({"n": "%"}), Err(NOT_AN_INTEGER), Err(NOT_AN_INTEGER)),
        (
            json!({"n": "5%ff"}),
            Err(NOT_AN_INTEGER),
            Err(NOT_AN_INTEGER),
        ),
        (
            json!({"n": "%32%3"}),
            Err(NOT_AN_INTEGER),
            Err(NOT_AN_INTEGER),
        ),
    ] {
        for (kind, event) in EVENTS {
            let mut event: Value = serde_json::from_str(event).unwrap();
            let expected = if kind.starts_with("load balancer") {
                decoded
            } else {
                undecoded
            };
            for is_multi_value in [false, true] {
                set_query(&mut event, &Value::Null);
                event["body"] = Value::Null;
                if is_multi_value {
                    let object = query.as_object().unwrap().iter();
                    event["multiValueQueryStringParameters"] = object
                        .map(|(key, value)| (key.clone(), json!([value])))
                        .collect();
                } else {
                    event["queryStringParameters"] = query.clone();
                }
                let replied = String::from_utf8(function.invoke(event.to_string())).unwrap();
                assert_eq!(replied, reply(expected), "{kind}: {event}");
            }
        }
    }
}

#[test]
fn prefers_the_query_to_the_body() {
    assert_replies(Ok(10), |event| event["body"] = r#"{"n": 7}"#.into());
    assert_replies(Ok(10), |event| event["body"] = "not JSON".into());
}

#[test]
fn reads_the_body_as_it_does_a_direct_event() {
    for (message, bodies) in [
        (
            REQUIRED,
            &[
                "",
                "{}",
                "null",
                "[]",
                r#""x""#,
                r#"{"n": null}"#,
                r#"{"requestContext": {}, "body": "{\"n\": 1}"}"#,
            ][..],
        ),
        (NOT_AN_INTEGER, &[r#"{"n": "1"}"#, r#"{"n": 1.0}"#]),
        (NEGATIVE, &[r#"{"n": -1}"#]),
        (TOO_LARGE, &[r#"{"n": 1001}"#]),
        (
            NOT_JSON,
            &["x", "n=1", "{", " ", "\u{feff}{}", r#"{"n": 01}"#],
        ),
    ] {
        for body in bodies {
            assert_replies(Err(message), |event| set_body(event, *body));
            assert_replies(Err(message), |event| {
                set_base64_body(event, body.as_bytes());
            });
        }
    }
    assert_replies(Err(NOT_JSON), |event| {
        set_base64_body(event, b"{\"n\": 1, \"\xff\": 0}");
    });
}

#[test]
fn takes_bad_base64_for_what_is_not_json() {
    for body in [
        r#"{"n": 7}"#,
        "eyJuIjogN30",
        "eyJuIjogN30==",
        "eyJu\nIjogN30=",
    ] {
        assert_replies(Err(NOT_JSON), |event| {
            set_body(event, body);
            event["isBase64Encoded"] = true.into();
        });
    }
}

#[test]
fn takes_a_part_of_the_wrong_type_for_absent() {
    for body in json!([7, {"n": 7}, ["x"], true, null]).as_array().unwrap() {
        assert_replies(Err(REQUIRED), |event| set_body(event, body.clone()));
    }
    for encoded in [json!("true"), json!(1), json!(null)] {
        assert_replies(Ok(7), |event| {
            set_body(event, r#"{"n": 7}"#);
            event["isBase64Encoded"] = encoded.clone();
        });
    }
}

#[test]
fn takes_an_event_with_n_for_a_direct_one() {
    assert_replies(Ok(3), |event| event["n"] = 3.into());
    assert_replies(Err(REQUIRED), |event| event["n"] = Value::Null);
}

#[test]
fn takes_an_event_without_a_request_context_object_for_a_direct_one() {
    for context in [json!(null), json!([]), json!("x"), json!(1)] {
        assert_replies(Err(REQUIRED), |event| {
            event["requestContext"] = context.clone();
        });
    }
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
        let replied = String::from_utf8(function.invoke(&event)).unwrap();
        assert_eq!(replied, reply(expected), "{event}");
    }
}

#[test]
fn reads_a_body_of_6_mb() {
    // One kind of event, because it takes this test longer to write one than the function to read it.
    let events = &EVENTS[..1];
    let body = format!(r#"{{"ignored": {}0, "n": 5}}"#, "[0,".repeat(1_000_000));
    assert_replies_to(events, Err(NOT_JSON), |event| {
        set_body(event, &*body);
    });
    let body = body.replace("0, \"n\"", &format!("0{}, \"n\"", "]".repeat(1_000_000)));
    assert_replies_to(events, Ok(5), |event| set_body(event, &*body));
    assert_replies_to(events, Ok(5), |event| {
        set_base64_body(event, body.as_bytes());
    });
}

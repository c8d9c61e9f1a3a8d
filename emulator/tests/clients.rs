//! AWS's other clients against the emulator: boto3 and the AWS CLI.

use std::path::Path;
use std::process::Stdio;

use crate::support::{Gate, function, start, workers};
use emulator::Emulator;
use serde_json::{Value, json};
use tokio::process::Command;

/// Runs a client and returns its exit status, standard output and standard error.
async fn run(
    emulator: &Emulator,
    program: &str,
    arguments: &[&str],
) -> (Option<i32>, String, String) {
    let output = Command::new(program)
        .args(arguments)
        .env(
            "AWS_ENDPOINT_URL",
            format!("http://{}", emulator.invoke_address()),
        )
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Runs a script with a client of the emulator in `client`.
async fn python(emulator: &Emulator, script: &str) -> String {
    let endpoint = format!("http://{}", emulator.invoke_address());
    let script = format!(
        "import base64, boto3, botocore.config, json\n\
         client = boto3.client('lambda', endpoint_url='{endpoint}', config=botocore.config.Config(\
         retries={{'total_max_attempts': 1}}))\n{script}"
    );
    let (status, output, error) = run(emulator, "python3", &["-c", &script]).await;
    assert_eq!(status, Some(0), "{error}");
    output
}

#[tokio::test]
#[ignore = "needs boto3"]
async fn boto3_cannot_tell_the_difference() {
    let emulator = start(function()).await;
    let script = r#"
context = base64.b64encode(b'{"custom": {"a": "b"}}').decode()
reply = client.invoke(FunctionName='function', Qualifier='$LATEST.PUBLISHED', LogType='Tail',
                      ClientContext=context, Payload='{"context": {}}')
print(reply['StatusCode'], reply['ExecutedVersion'], 'FunctionError' in reply)
print(json.load(reply['Payload'])['client_context']['custom'])
reply = client.invoke(FunctionName='function', LogType='Tail', Payload='{"log": "here"}')
print(json.loads(base64.b64decode(reply['LogResult']))['message'])
reply = client.invoke(FunctionName='function', Payload='{"fail": "no"}')
print(reply['StatusCode'], reply['FunctionError'], json.load(reply['Payload'])['errorMessage'])
print(client.invoke(FunctionName='function')['Payload'].read())
print(client.invoke(FunctionName='function', InvocationType='Event')['StatusCode'])
print(client.invoke(FunctionName='function', InvocationType='DryRun')['StatusCode'])
"#;
    let expected = "200 $LATEST.PUBLISHED False\n\
                    {'a': 'b'}\n\
                    here\n\
                    200 Unhandled no\n\
                    b'{}'\n\
                    202\n\
                    204\n";
    assert_eq!(python(&emulator, script).await, expected);
}

#[tokio::test]
#[ignore = "needs boto3"]
async fn boto3_raises_the_exceptions_that_it_raises_for_aws() {
    let emulator = start(workers(1)).await;
    let gate = Gate::new().await;
    let script = r"
def refused(exception, **arguments):
    try:
        client.invoke(**arguments)
    except exception as error:
        response = error.response
        print(type(error).__name__, response['ResponseMetadata']['HTTPStatusCode'],
              response.get('Reason'), response['Error']['Message'])
refused(client.exceptions.InvalidRequestContentException, FunctionName='function', Payload='{')
refused(client.exceptions.ResourceNotFoundException, FunctionName='other')
refused(client.exceptions.RequestTooLargeException, FunctionName='function', Payload='1' * 7000000)
refused(client.exceptions.TooManyRequestsException, FunctionName='function')
";
    let (held, output) = tokio::join!(emulator.invoke(gate.event()), async {
        let inside = gate.entered().await;
        let output = python(&emulator, script).await;
        drop(inside);
        output
    });
    held.unwrap();
    let expected = "InvalidRequestContentException 400 None Could not parse request body into json: \
                    Could not parse payload into json: EOF while parsing an object at line 1 column 1\n\
                    ResourceNotFoundException 404 None Function not found: \
                    arn:aws:lambda:us-east-1:123456789012:function:other\n\
                    RequestTooLargeException 413 None Request must be smaller than 6291456 bytes \
                    for the InvokeFunction operation\n\
                    TooManyRequestsException 429 ConcurrentInvocationLimitExceeded Rate Exceeded.\n";
    assert_eq!(output, expected);
}

/// `aws lambda invoke`, as the README writes it. Returns what it prints and the reply.
async fn aws(
    emulator: &Emulator,
    arguments: &[&str],
    reply: &str,
) -> (Option<i32>, String, String) {
    // Version 2 may not be the first in the path.
    let program = if Path::new("/usr/bin/aws").exists() {
        "/usr/bin/aws"
    } else {
        "aws"
    };
    let reply = Path::new(env!("CARGO_TARGET_TMPDIR")).join(reply);
    let endpoint = format!("http://{}", emulator.invoke_address());
    let reply = reply.to_str().unwrap();
    let mut all = vec![
        "lambda",
        "invoke",
        "--endpoint-url",
        &endpoint,
        "--region",
        "us-east-1",
    ];
    all.extend([
        "--no-sign-request",
        "--cli-binary-format",
        "raw-in-base64-out",
    ]);
    all.extend(arguments);
    all.push(reply);
    let (status, output, error) = run(emulator, program, &all).await;
    if status != Some(0) {
        return (status, output, error);
    }
    (status, output, std::fs::read_to_string(reply).unwrap())
}

#[tokio::test]
#[ignore = "needs the AWS CLI version 2"]
async fn the_aws_cli_cannot_tell_the_difference() {
    let emulator = start(function()).await;
    let arguments = [
        "--function-name",
        "function",
        "--payload",
        r#"{"echo": {"n": 10}}"#,
    ];
    let (status, output, reply) = aws(&emulator, &arguments, "cli-reply").await;
    let printed: Value = serde_json::from_str(&output).unwrap();
    let expected = json!({ "StatusCode": 200, "ExecutedVersion": "$LATEST.PUBLISHED" });
    assert_eq!(
        (status, printed, &*reply),
        (Some(0), expected, r#"{"n":10}"#)
    );

    let arguments = [
        "--function-name",
        "function:$LATEST.PUBLISHED",
        "--log-type",
        "Tail",
        "--query",
        "LogResult",
        "--payload",
        r#"{"log": "here"}"#,
    ];
    let (status, output, reply) = aws(&emulator, &arguments, "cli-log").await;
    assert_eq!((status, &*reply), (Some(0), "null"));
    let log = base64::Engine::decode(
        &base64::prelude::BASE64_STANDARD,
        output.trim().trim_matches('"'),
    );
    assert!(String::from_utf8(log.unwrap()).unwrap().contains("here"));
}

#[tokio::test]
#[ignore = "needs the AWS CLI version 2"]
async fn the_aws_cli_reports_the_errors_that_it_reports_for_aws() {
    let emulator = start(function()).await;
    for (function_name, payload, message) in [
        (
            "function",
            "{",
            "An error occurred (InvalidRequestContentException) when calling the Invoke operation: \
             Could not parse request body into json: Could not parse payload into json: \
             EOF while parsing an object at line 1 column 1",
        ),
        (
            "other",
            "{}",
            "An error occurred (ResourceNotFoundException) when calling the Invoke operation: \
             Function not found: arn:aws:lambda:us-east-1:123456789012:function:other",
        ),
    ] {
        let arguments = ["--function-name", function_name, "--payload", payload];
        let (status, _, error) = aws(&emulator, &arguments, "cli-none").await;
        assert_eq!((status, error.trim()), (Some(254), message));
    }
}

//! Clients and runtimes that nobody here wrote: boto3, the AWS CLI, and AWS's for Python and Go.

use std::process::Stdio;

use crate::support::{
    all_poll, call, executable, folder, function, hold, patient, payload, scratch, start,
    terminate, within, workers,
};
use emulator::Emulator;
use serde_json::json;
use tokio::process::Command;

/// Runs a client in the shell, with an argument, and returns its standard output and standard error.
async fn run(emulator: &Emulator, script: &str, argument: &str) -> (String, String) {
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh", argument])
        .env(
            "AWS_ENDPOINT_URL",
            format!("http://{}", emulator.invoke_address()),
        )
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = within("a client", command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (said, error) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{error}");
    (said, error)
}

/// Runs a script with a client of the emulator in `client`. It fails if two things are not the `same`.
async fn python(emulator: &Emulator, script: &str) {
    let script = format!(
        r"
import base64, boto3, botocore.config, botocore.exceptions, json
client = boto3.client('lambda', config=botocore.config.Config(retries={{'total_max_attempts': 1}}))
def same(got, expected):
    assert got == expected, got
{script}"
    );
    run(emulator, "exec python3 -c \"$1\"", &script).await;
}

#[tokio::test]
#[ignore = "needs boto3"]
async fn boto3_waits_for_and_invokes_and_describes_the_function() {
    let emulator = start(function()).await;
    let script = r#"
for name, arguments in (('function_exists', {}), ('function_active', {}), ('function_active_v2', {}),
                        ('function_updated', {}), ('function_updated_v2', {}),
                        ('published_version_active', {'Qualifier': '$LATEST.PUBLISHED'})):
    client.get_waiter(name).wait(FunctionName='function', WaiterConfig={'MaxAttempts': 1}, **arguments)
context = base64.b64encode(b'{"custom": {"a": "b"}}').decode()
reply = client.invoke(FunctionName='function', Qualifier='$LATEST.PUBLISHED', LogType='None',
                      ClientContext=context, Payload='{"context": {}}')
same((reply['StatusCode'], reply['ExecutedVersion'], 'FunctionError' in reply),
     (200, '$LATEST.PUBLISHED', False))
same(json.load(reply['Payload'])['client_context']['custom'], {'a': 'b'})
reply = client.invoke(FunctionName='function', Payload='{"fail": "no"}')
same((reply['StatusCode'], reply['FunctionError']), (200, 'Unhandled'))
same(json.load(reply['Payload'])['errorMessage'], 'no')
same(client.invoke(FunctionName='function')['Payload'].read(), b'{}')
for kind, status in ('Event', 202), ('DryRun', 204):
    reply = client.invoke(FunctionName='function', InvocationType=kind)
    same((reply['StatusCode'], reply.get('ExecutedVersion')), (status, None))
for name in ('arn:aws:lambda:us-east-1:123456789012:function:function', '123456789012:function:function',
             'function:$LATEST.PUBLISHED'):
    same(client.invoke(FunctionName=name, Payload='1')['Payload'].read(), b'1')

same(client.get_function(FunctionName='function')['Configuration']['State'], 'Active')
same([one['FunctionName'] for page in client.get_paginator('list_functions').paginate()
      for one in page['Functions']], ['function'])
same(client.get_function_url_config(FunctionName='function')['AuthType'], 'NONE')
scaling = client.get_function_scaling_config(FunctionName='function', Qualifier='$LATEST.PUBLISHED')
same(scaling['AppliedFunctionScalingConfig']['MaxExecutionEnvironments'], 1)
configuration = client.get_function_configuration(FunctionName='function')['CapacityProviderConfig']
provider = configuration['LambdaManagedInstancesCapacityProviderConfig']['CapacityProviderArn']
for name in provider, 'local':
    same(client.get_capacity_provider(CapacityProviderName=name)['CapacityProvider']['State'], 'Active')
"#;
    python(&emulator, script).await;
}

#[tokio::test]
#[ignore = "needs boto3"]
async fn boto3_raises_the_exceptions_that_it_raises_for_aws() {
    let emulator = start(workers(1)).await;
    let script = r"
def refused(exception, code, status, operation, reason=None, **arguments):
    try:
        operation(**arguments)
        assert False, arguments
    except exception as error:
        response = error.response
        same((response['Error']['Code'], response['ResponseMetadata']['HTTPStatusCode'],
              response.get('Reason')), (code, status, reason))
for code, status, arguments in (
    ('InvalidRequestContentException', 400, {'Payload': '{'}),
    ('ResourceNotFoundException', 404, {'FunctionName': 'other'}),
    ('ResourceNotFoundException', 404,
     {'FunctionName': 'arn:aws:lambda:eu-west-1:123456789012:function:function'}),
    ('RequestTooLargeException', 413, {'Payload': '1' * 7000000}),
    ('InvalidParameterValueException', 400, {'Qualifier': '$LATEST'}),
    ('InvalidParameterValueException', 400, {'LogType': 'Tail'}),
    ('ValidationException', 400, {'FunctionName': 'a b'}),
    ('AccessDeniedException', 403, {'FunctionName': '210987654321:function:function'}),
    ('TooManyRequestsException', 429, {'reason': 'ConcurrentInvocationLimitExceeded'}),
):
    exception = getattr(client.exceptions, code, None) or client.exceptions.ClientError
    refused(exception, code, status, client.invoke, **{'FunctionName': 'function', **arguments})
refused(client.exceptions.ResourceNotFoundException, 'ResourceNotFoundException', 404,
        client.get_function_configuration, FunctionName='other')
refused(botocore.exceptions.ClientError, 'NotImplemented', 501, boto3.client('s3').list_buckets)
";
    let _held = hold(&emulator).await;
    python(&emulator, script).await;
}

/// Runs commands of the AWS CLI as the README writes them, and prints the reply in between.
#[tokio::test]
#[ignore = "needs the AWS CLI version 2"]
async fn the_aws_cli_waits_for_and_invokes_the_function_and_reports_errors() {
    let emulator = start(function()).await;
    // Version 2 may not be the first in the path.
    let script = r#"
        [ -x /usr/bin/aws ] && PATH=/usr/bin:$PATH
        options="--endpoint-url $AWS_ENDPOINT_URL --region us-east-1 --no-sign-request"
        invoke() {
            aws lambda invoke $options --cli-binary-format raw-in-base64-out "$reply" \
                --function-name "$1" --payload "$2"
        }
        reply=$1
        aws lambda wait function-active-v2 $options --function-name function || exit
        invoke 'function:$LATEST.PUBLISHED' '{"echo": {"n": 10}}' && echo && cat "$reply"
        invoke function '{' || echo " $?"
        invoke other '{}' || echo " $?"
    "#;
    let reply = scratch("cli-reply");
    let (output, error) = run(&emulator, script, reply.to_str().unwrap()).await;
    let output: String = output.split_whitespace().collect();
    let expected = r#"{"StatusCode":200,"ExecutedVersion":"$LATEST.PUBLISHED"}{"n":10}254254"#;
    assert_eq!(output, expected);
    let expected = "
An error occurred (InvalidRequestContentException) when calling the Invoke operation: Could not parse request body into json: Could not parse payload into json: EOF while parsing an object at line 1 column 1

An error occurred (ResourceNotFoundException) when calling the Invoke operation: Function not found: arn:aws:lambda:us-east-1:123456789012:function:other:$LATEST
";
    assert_eq!(error, expected);
}

/// With AWS's runtime interface client, which starts a process for each worker. Each registers an
/// extension if none has polled yet, and has a hook for SIGTERM.
#[tokio::test]
#[ignore = "needs awslambdaric"]
async fn runs_a_python_function_and_ends_each_of_its_workers_in_order() {
    let app = r"
import os, signal, sys, threading, urllib.error, urllib.request
API = 'http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/2020-01-01/extension/'
def call(path, data, name, value):
    return urllib.request.urlopen(urllib.request.Request(API + path, data, {name: value}))
def hook(signal, frame):
    open(f'ended-{os.getpid()}', 'w').close()
    os._exit(0)
signal.signal(signal.SIGTERM, hook)
try:
    registered = call('register', b'{}', 'Lambda-Extension-Name', f'worker-{os.getpid()}')
    ready = ('event/next', None, 'Lambda-Extension-Identifier',
             registered.headers['Lambda-Extension-Identifier'])
    threading.Thread(target=call, args=ready, daemon=True).start()
except urllib.error.HTTPError:
    pass
def handler(event, context):
    if event.get('fail'): raise ValueError(event['fail'])
    return {'event': event, 'id': context.aws_request_id, 'arn': context.invoked_function_arn}
";
    let script = "#!/bin/sh\nexec python3 -m awslambdaric app.handler\n";
    for (name, workers) in [("python", 1), ("python-workers", 3)] {
        std::fs::write(folder(name).join("app.py"), app).unwrap();
        let mut settings = patient(&executable(&format!("{name}/bootstrap"), script));
        settings.max_concurrency = workers;
        // With this the runtime polls in a thread of its own, and so lets Python's signal handlers run.
        settings.environment = vec![("AWS_EXECUTION_ENV".into(), "AWS_Lambda_python3.12".into())];
        let emulator = start(settings).await;
        all_poll(&emulator, workers).await;
        let reply = call(&emulator, r#"{"n": 10}"#).await;
        let expected = json!({
            "event": { "n": 10 },
            "id": reply.request_id.to_string(),
            "arn": format!("arn:aws:lambda:us-east-1:123456789012:function:{name}"),
        });
        assert_eq!(payload(&reply), expected);
        let failed = call(&emulator, r#"{"fail": "no such luck"}"#).await;
        assert!(failed.function_error);
        assert_eq!(payload(&failed)["errorType"], "ValueError");
        all_poll(&emulator, workers).await;
        terminate(emulator).await;
        let files = std::fs::read_dir(scratch(name)).unwrap().flatten();
        let ended = files.filter(|file| file.file_name().to_string_lossy().starts_with("ended-"));
        assert_eq!(ended.count(), usize::from(workers));
    }
}

/// AWS's library for Go, which polls as often as there are workers.
#[tokio::test]
#[ignore = "needs Go"]
async fn runs_a_go_function() {
    let directory = folder("go");
    let main = "package main\n\
                import \"github.com/aws/aws-lambda-go/lambda\"\n\
                func main() { lambda.Start(func(event map[string]any) (any, error) { return event, nil }) }\n";
    std::fs::write(directory.join("main.go"), main).unwrap();
    let script =
        "go mod init hello && go get github.com/aws/aws-lambda-go && go build -o bootstrap";
    let mut build = Command::new("sh");
    build
        .args(["-c", script])
        .current_dir(&directory)
        .kill_on_drop(true);
    let output = within("go build", build.output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let mut settings = patient(&directory.join("bootstrap"));
    settings.max_concurrency = 3;
    let emulator = start(settings).await;
    all_poll(&emulator, 3).await;
    let reply = call(&emulator, r#"{"n": 10}"#).await;
    assert_eq!(&reply.payload[..], br#"{"n":10}"#);
    terminate(emulator).await;
}

//! Clients and runtimes that nobody here wrote: boto3, the AWS CLI, and AWS's for Python and Go.

use std::process::Stdio;

use crate::support::{
    all_poll, call, executable, folder, function, hold, patient, payload, scratch, start,
    terminate, within, workers,
};
use emulator::{Emulator, Settings};
use serde_json::json;
use tokio::process::Command;

/// Runs a client and returns its exit status, standard output and standard error.
async fn run(
    emulator: &Emulator,
    program: &str,
    arguments: &[&str],
) -> (Option<i32>, String, String) {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env(
            "AWS_ENDPOINT_URL",
            format!("http://{}", emulator.invoke_address()),
        )
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = within(program, command.output())
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
        "import base64, boto3, botocore.config, botocore.exceptions, json\n\
         client = boto3.client('lambda', endpoint_url='{endpoint}', config=botocore.config.Config(\
         retries={{'total_max_attempts': 1}}))\n{script}"
    );
    let (status, output, error) = run(emulator, "python3", &["-c", &script]).await;
    assert_eq!(status, Some(0), "{error}");
    output
}

#[tokio::test]
#[ignore = "needs boto3"]
async fn boto3_invokes_the_function() {
    let emulator = start(function()).await;
    let script = r#"
context = base64.b64encode(b'{"custom": {"a": "b"}}').decode()
reply = client.invoke(FunctionName='function', Qualifier='$LATEST.PUBLISHED', LogType='None',
                      ClientContext=context, Payload='{"context": {}}')
print(reply['StatusCode'], reply['ExecutedVersion'], 'FunctionError' in reply)
print(json.load(reply['Payload'])['client_context']['custom'])
reply = client.invoke(FunctionName='function', Payload='{"fail": "no"}')
print(reply['StatusCode'], reply['FunctionError'], json.load(reply['Payload'])['errorMessage'])
print(client.invoke(FunctionName='function')['Payload'].read())
for kind in 'Event', 'DryRun':
    reply = client.invoke(FunctionName='function', InvocationType=kind)
    print(reply['StatusCode'], reply.get('ExecutedVersion'))
for name in ('arn:aws:lambda:us-east-1:123456789012:function:function', '123456789012:function:function',
             'function:$LATEST.PUBLISHED'):
    print(client.invoke(FunctionName=name, Payload='1')['Payload'].read())
"#;
    let expected = "200 $LATEST.PUBLISHED False\n\
                    {'a': 'b'}\n\
                    200 Unhandled no\n\
                    b'{}'\n\
                    202 None\n\
                    204 None\n\
                    b'1'\nb'1'\nb'1'\n";
    assert_eq!(python(&emulator, script).await, expected);
}

#[tokio::test]
#[ignore = "needs boto3"]
async fn boto3_raises_the_exceptions_that_it_raises_for_aws() {
    let emulator = start(workers(1)).await;
    let script = r"
def refused(exception, **arguments):
    try:
        client.invoke(**arguments)
    except exception as error:
        response = error.response
        print(type(error).__name__, response['Error']['Code'],
              response['ResponseMetadata']['HTTPStatusCode'], response.get('Reason'),
              response['Error']['Message'])
exceptions = client.exceptions
refused(exceptions.InvalidRequestContentException, FunctionName='function', Payload='{')
refused(exceptions.ResourceNotFoundException, FunctionName='other')
refused(exceptions.ResourceNotFoundException,
        FunctionName='arn:aws:lambda:eu-west-1:123456789012:function:function')
refused(exceptions.RequestTooLargeException, FunctionName='function', Payload='1' * 7000000)
refused(exceptions.InvalidParameterValueException, FunctionName='function', Qualifier='$LATEST')
refused(exceptions.InvalidParameterValueException, FunctionName='function', LogType='Tail')
refused(botocore.exceptions.ClientError, FunctionName='a b')
refused(botocore.exceptions.ClientError, FunctionName='210987654321:function:function')
refused(exceptions.TooManyRequestsException, FunctionName='function')
";
    let _held = hold(&emulator).await;
    let output = python(&emulator, script).await;
    let starts = [
        "InvalidRequestContentException InvalidRequestContentException 400 None Could not parse \
         request body into json: Could not parse payload into json: ",
        "ResourceNotFoundException ResourceNotFoundException 404 None Function not found: \
         arn:aws:lambda:us-east-1:123456789012:function:other:$LATEST",
        "ResourceNotFoundException ResourceNotFoundException 404 None Functions from 'eu-west-1' are \
         not reachable in this region ('us-east-1')",
        "RequestTooLargeException RequestTooLargeException 413 None Request must be smaller than \
         6291456 bytes for the InvokeFunction operation",
        "InvalidParameterValueException InvalidParameterValueException 400 None Managed Instances \
         run published versions: invoke $LATEST.PUBLISHED.",
        "InvalidParameterValueException InvalidParameterValueException 400 None Tail logs are not \
         supported for functions configured with capacity provider",
        "ClientError ValidationException 400 None 1 validation error detected: Value 'a b' at \
         'functionName' failed to satisfy constraint: Member must satisfy regular expression \
         pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?",
        "ClientError AccessDeniedException 403 None User: ",
        "TooManyRequestsException TooManyRequestsException 429 ConcurrentInvocationLimitExceeded \
         Rate Exceeded.",
    ];
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines.len(), starts.len(), "{output}");
    for (line, start) in lines.into_iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[tokio::test]
#[ignore = "needs boto3"]
async fn boto3_waits_for_and_lists_the_function() {
    let emulator = start(function()).await;
    let script = r"
for name, arguments in (('function_exists', {}), ('function_active', {}), ('function_active_v2', {}),
                        ('function_updated', {}), ('function_updated_v2', {}),
                        ('published_version_active', {'Qualifier': '$LATEST.PUBLISHED'})):
    client.get_waiter(name).wait(FunctionName='function', WaiterConfig={'MaxAttempts': 1}, **arguments)
print(client.get_function(FunctionName='function')['Configuration']['State'])
print([one['FunctionName'] for page in client.get_paginator('list_functions').paginate()
       for one in page['Functions']])
print(client.get_function_url_config(FunctionName='function')['AuthType'])
print(client.get_function_scaling_config(FunctionName='function', Qualifier='$LATEST.PUBLISHED')
      ['AppliedFunctionScalingConfig']['MaxExecutionEnvironments'])
configuration = client.get_function_configuration(FunctionName='function')['CapacityProviderConfig']
provider = configuration['LambdaManagedInstancesCapacityProviderConfig']['CapacityProviderArn']
for name in provider, 'local':
    print(client.get_capacity_provider(CapacityProviderName=name)['CapacityProvider']['State'])
try:
    boto3.client('s3', endpoint_url=client.meta.endpoint_url).list_buckets()
except botocore.exceptions.ClientError as error:
    print(error.response['Error']['Code'])
try:
    client.get_function_configuration(FunctionName='other')
except client.exceptions.ResourceNotFoundException as error:
    print(error.response['Error']['Message'])
";
    let expected = "Active\n\
                    ['function']\n\
                    NONE\n\
                    1\n\
                    Active\n\
                    Active\n\
                    NotImplemented\n\
                    Function not found: arn:aws:lambda:us-east-1:123456789012:function:other\n";
    assert_eq!(python(&emulator, script).await, expected);
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
    let arguments = ["-c", script, "sh", reply.to_str().unwrap()];
    let (_, output, error) = run(&emulator, "sh", &arguments).await;
    let output: String = output.split_whitespace().collect();
    let expected = r#"{"StatusCode":200,"ExecutedVersion":"$LATEST.PUBLISHED"}{"n":10}254254"#;
    assert_eq!(output, expected);
    let errors: Vec<_> = error.lines().filter(|line| !line.is_empty()).collect();
    let expected = [
        "An error occurred (InvalidRequestContentException) when calling the Invoke operation: \
         Could not parse request body into json: Could not parse payload into json: EOF while parsing \
         an object at line 1 column 1",
        "An error occurred (ResourceNotFoundException) when calling the Invoke operation: Function \
         not found: arn:aws:lambda:us-east-1:123456789012:function:other:$LATEST",
    ];
    assert_eq!(errors, expected);
}

/// Settings for AWS's runtime interface client for Python, which starts a process for each worker. It
/// runs `app.py` in a folder of this name.
fn python_function(name: &str, app: &str) -> Settings {
    std::fs::write(folder(name).join("app.py"), app).unwrap();
    let script = "#!/bin/sh\nexec python3 -m awslambdaric app.handler\n";
    patient(&executable(&format!("{name}/bootstrap"), script))
}

#[tokio::test]
#[ignore = "needs awslambdaric"]
async fn runs_a_python_function() {
    let app = "def handler(event, context):\n    \
               if event.get('fail'): raise ValueError(event['fail'])\n    \
               return {'event': event, 'id': context.aws_request_id, 'arn': context.invoked_function_arn}\n";
    let settings = python_function("python", app);
    for workers in [1, 2] {
        let mut settings = settings.clone();
        settings.max_concurrency = workers;
        let emulator = start(settings).await;
        all_poll(&emulator, workers).await;
        let reply = call(&emulator, r#"{"n": 10}"#).await;
        let returned = payload(&reply);
        assert_eq!(returned["event"], json!({ "n": 10 }));
        assert_eq!(returned["id"], reply.request_id.to_string());
        assert_eq!(
            returned["arn"],
            "arn:aws:lambda:us-east-1:123456789012:function:python"
        );
        let failed = call(&emulator, r#"{"fail": "no such luck"}"#).await;
        assert!(failed.function_error);
        assert_eq!(payload(&failed)["errorType"], "ValueError");
        terminate(emulator).await;
    }
}

/// Each worker is a process, whose handler registers an extension if none has polled yet, and has a hook
/// for SIGTERM.
#[tokio::test]
#[ignore = "needs awslambdaric"]
async fn ends_every_worker_of_a_python_function_in_order() {
    let app = r"
import os, signal, sys, threading, urllib.error, urllib.request
API = f'http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2020-01-01/extension/'
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
    return os.getpid()
"
    .replace(
        "{os.environ['AWS_LAMBDA_RUNTIME_API']}",
        "{os.environ[\"AWS_LAMBDA_RUNTIME_API\"]}",
    );
    let mut settings = python_function("hooks", &app);
    settings.max_concurrency = 3;
    // With this the runtime polls in a thread of its own, and so lets Python's signal handlers run.
    settings.environment = vec![("AWS_EXECUTION_ENV".into(), "AWS_Lambda_python3.12".into())];
    let emulator = start(settings).await;
    all_poll(&emulator, 3).await;
    terminate(emulator).await;
    let files = std::fs::read_dir(scratch("hooks")).unwrap().flatten();
    let ended = files.filter(|file| file.file_name().to_string_lossy().starts_with("ended-"));
    assert_eq!(ended.count(), 3);
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

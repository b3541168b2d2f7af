//! What an operator reads who has the wrong profile, region, stack, credentials or rights: the tool
//! itself, against a server that answers as AWS does.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Output},
    thread,
};

const REGION: &str = "eu-west-1";

/// Status, headers and body of an answer.
type Answer = (u16, &'static str, String);

/// What services answer by their protocol: the query protocol of CloudFormation, JSON 1.0 of SQS and
/// Step Functions, REST with JSON of Lambda, and REST with XML of S3.
fn query_error(status: u16, code: &str, message: &str) -> Answer {
    let body = format!(
        "<ErrorResponse xmlns=\"http://cloudformation.amazonaws.com/doc/2010-05-15/\">\n  <Error>\n    \
         <Type>Sender</Type>\n    <Code>{code}</Code>\n    <Message>{message}</Message>\n  </Error>\n  \
         <RequestId>1f3a</RequestId>\n</ErrorResponse>\n"
    );
    (status, "content-type: text/xml", body)
}

fn json_error(code: &str, message: &str) -> Answer {
    let body =
        format!("{{\"__type\":\"com.amazon.coral.service#{code}\",\"message\":\"{message}\"}}");
    (400, "content-type: application/x-amz-json-1.0", body)
}

fn lambda_denial(message: &str) -> Answer {
    let body = format!("{{\"Message\":\"{message}\"}}");
    (403, "content-type: application/json\r\nx-amzn-errortype: AccessDeniedException", body)
}

fn s3_error(status: u16, code: &str, message: &str) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}\
         </Message><RequestId>4442587FB7D0A2F9</RequestId><HostId>…</HostId></Error>"
    );
    (status, "content-type: application/xml", body)
}

fn denied(action: &str) -> String {
    format!(
        "User: arn:aws:iam::123456789012:user/me is not authorized to perform: {action} because no \
         identity-based policy allows the {action} action"
    )
}

/// What CloudFormation says of a stack with these outputs.
fn stack_with(outputs: &[(&str, &str)]) -> Answer {
    let outputs = outputs
        .iter()
        .map(|(key, value)| {
            format!(
                "<member><OutputKey>{key}</OutputKey><OutputValue>{value}</OutputValue></member>"
            )
        })
        .collect::<Vec<_>>()
        .concat();
    let body = format!(
        "<DescribeStacksResponse xmlns=\"http://cloudformation.amazonaws.com/doc/2010-05-15/\">\
         <DescribeStacksResult><Stacks><member><StackName>sluice</StackName>\
         <CreationTime>2026-11-20T21:00:00Z</CreationTime><StackStatus>CREATE_COMPLETE</StackStatus>\
         <Outputs>{outputs}</Outputs></member></Stacks></DescribeStacksResult>\
         <ResponseMetadata><RequestId>1f3a</RequestId></ResponseMetadata></DescribeStacksResponse>"
    );
    (200, "content-type: text/xml", body)
}

fn sluice() -> Answer {
    stack_with(&[
        ("WorkQueueUrl", "https://sqs.eu-west-1.amazonaws.com/123456789012/sluice-work"),
        ("DeadLetterQueueUrl", "https://sqs.eu-west-1.amazonaws.com/123456789012/sluice-dead"),
        ("UploadBucketName", "sluice-uploads"),
        ("ArchiveBucketName", "sluice-archive"),
        ("StateMachineArn", "arn:aws:states:eu-west-1:123456789012:stateMachine:devices"),
        ("RedriveFunctionName", "sluice-redrive"),
        ("ConsumerMappingId", "b5c1"),
    ])
}

/// Answers all calls, `of_stack` those of CloudFormation and `of_others` the others, for as long as
/// the test runs. Returns where.
fn serve(of_stack: Answer, of_others: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let request = read(&mut connection);
            let is_of_stack = request.contains("Action=DescribeStacks");
            let (status, headers, body) = if is_of_stack { &of_stack } else { &of_others };
            let length = body.len();
            // The tool may have gone.
            write!(
                connection,
                "HTTP/1.1 {status} As AWS\r\n{headers}\r\ncontent-length: {length}\r\n\
                 connection: close\r\n\r\n{body}"
            )
            .ok();
        }
    });
    url
}

/// Head and body of a request.
fn read(connection: &mut TcpStream) -> String {
    let mut reader = BufReader::new(connection);
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let begin = text.len();
        if reader.read_line(&mut text).unwrap() == 0 || text[begin..].trim().is_empty() {
            break;
        }
        let line = text[begin..].to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    text + &String::from_utf8_lossy(&body)
}

/// A home with the profile `ops`, whose session has no token.
fn home(test: &str) -> PathBuf {
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(home.join(".aws")).unwrap();
    let config = "[profile ops]\nregion = eu-west-1\nsso_session = work\n\
                  sso_account_id = 123456789012\nsso_role_name = Operator\n\n[sso-session work]\n\
                  sso_region = eu-west-1\nsso_start_url = https://work.awsapps.com/start\n";
    fs::write(home.join(".aws/config"), config).unwrap();
    home
}

/// The tool with these words, and nothing in its environment but this.
fn run(test: &str, words: &str, environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(words.split(' '))
        .env_clear()
        .env("HOME", home(test))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// The one sentence of a verb that could not do what it was asked to do.
fn sentence(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nothing for a script to read");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    text.trim_end().strip_prefix("error: ").unwrap().to_owned()
}

/// The same with keys, a region and a server.
fn at_server(test: &str, words: &str, of_stack: Answer, of_others: Answer) -> String {
    let url = serve(of_stack, of_others);
    let environment = [
        ("AWS_ENDPOINT_URL", url.as_str()),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    sentence(&run(test, words, &environment)).replace(&url, "<url>")
}

#[test]
fn without_credentials_or_a_region_it_says_where_they_come_from() {
    let said = |words, environment: &[(&str, &str)]| sentence(&run("nothing", words, environment));
    assert_eq!(
        said("status", &[]),
        "no region is set: give --region, or set AWS_REGION, or a region in the profile"
    );
    assert_eq!(
        said("status", &[("AWS_REGION", REGION)]),
        "there are no credentials for AWS: log in (`aws sso login`), name a profile with --profile, \
         or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    );
    assert_eq!(
        said("status --profile opps", &[]),
        "there is no profile `opps`: there are ops; choose one with --profile"
    );
    assert_eq!(
        said("status", &[("AWS_PROFILE", "opps"), ("AWS_REGION", REGION)]),
        "there is no profile `opps`: there are ops; choose one with --profile"
    );
    for (words, environment) in
        [("status --profile ops", vec![]), ("status", vec![("AWS_PROFILE", "ops")])]
    {
        let said = said(words, &environment);
        assert!(said.starts_with("the credentials of profile `ops` cannot be had ("), "{said}");
        assert!(
            said.ends_with("log in again, for instance with `aws sso login --profile ops`"),
            "{said}"
        );
    }
}

#[test]
fn a_stack_that_is_not_there_is_told_with_the_region() {
    let missing = query_error(400, "ValidationError", "Stack with id mine does not exist");
    assert_eq!(
        at_server("missing", "status --stack mine", missing, sluice()),
        "there is no stack `mine` in eu-west-1 at <url>: name it with --stack or SLUICE_STACK, or \
         another region with --region"
    );
    assert_eq!(
        at_server("other", "status", stack_with(&[("Url", "https://example.com")]), sluice()),
        "stack `sluice` has no output WorkQueueUrl: name a stack of Sluice with --stack, or update \
         it to this version"
    );
    let words = "status --region eu-west-1 --endpoint-url http://127.0.0.1:9";
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let said = sentence(&run("silent", words, &keys));
    assert!(
        said.starts_with("nothing answers at http://127.0.0.1:9: start the local stack"),
        "{said}"
    );
}

#[test]
fn credentials_that_have_expired_or_are_unknown_are_told_apart() {
    let old = "The security token included in the request is expired";
    let bad = "The security token included in the request is invalid.";
    let expired = format!(
        "the credentials have expired: log in again (`aws sso login`), or take new ones ({old})"
    );
    let unknown = format!(
        "AWS does not know these credentials: check AWS_ACCESS_KEY_ID, the profile, and whether they \
         are for this partition ({bad})"
    );
    for (words, of_stack, of_others, expected) in [
        ("status", query_error(403, "ExpiredToken", old), sluice(), &expired),
        ("status", sluice(), json_error("ExpiredTokenException", old), &expired),
        ("trace devices/1", sluice(), s3_error(400, "ExpiredToken", old), &expired),
        ("status", query_error(403, "InvalidClientTokenId", bad), sluice(), &unknown),
        ("status", sluice(), json_error("UnrecognizedClientException", bad), &unknown),
        ("trace devices/1", sluice(), s3_error(403, "InvalidAccessKeyId", bad), &unknown),
    ] {
        let name = of_stack.2.len() + of_others.2.len();
        let said = at_server(&format!("credentials-{name}"), words, of_stack, of_others);
        assert_eq!(said, *expected, "{words}");
    }
}

#[test]
fn a_right_that_is_missing_is_named() {
    for (action, words, of_stack, of_others) in [
        (
            "cloudformation:DescribeStacks",
            "status",
            query_error(403, "AccessDenied", &denied("cloudformation:DescribeStacks")),
            sluice(),
        ),
        (
            "sqs:GetQueueAttributes",
            "status",
            sluice(),
            json_error("AccessDeniedException", &denied("sqs:GetQueueAttributes")),
        ),
        (
            "lambda:InvokeFunction",
            "reconcile",
            sluice(),
            lambda_denial(&denied("lambda:InvokeFunction")),
        ),
        (
            "lambda:GetEventSourceMapping",
            "pause --dry-run",
            sluice(),
            lambda_denial(&denied("lambda:GetEventSourceMapping")),
        ),
        (
            "s3:ListBucketVersions",
            "trace devices/1",
            sluice(),
            s3_error(403, "AccessDenied", &denied("s3:ListBucketVersions")),
        ),
    ] {
        let test = action.replace(':', "-");
        assert_eq!(
            at_server(&test, words, of_stack, of_others),
            format!(
                "you lack the right `{action}`: have it added to your role ({})",
                denied(action)
            )
        );
    }
}

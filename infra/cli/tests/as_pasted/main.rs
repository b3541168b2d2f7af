//! What `cargo demo --keep` prints, and what the documents say, works as it is pasted: every command
//! is run by a shell, in the words in which a person finds it.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on stops, and clippy knows only the test functions as tests"
)]

mod demo;
mod documents;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use demo::Demo;
use local::{Project, Tools};
use serde_json::Value;

/// The most that anything is waited for: far more than it ever takes.
const CEILING: Duration = Duration::from_mins(10);

const POLL: Duration = Duration::from_millis(200);

/// Whether the output of a command shows that it did what it is there for.
type Check = fn(&str) -> bool;

/// For each printed command: a part of it, and what its output has to show. The demo of 20 files has
/// two that are poisoned.
const PRINTED: [(&str, Check); 11] = [
    ("s3 cp", |_| true),
    ("dynamodb get-item", |output| json(output)["Item"]["deviceId"]["S"] == "mine"),
    ("grep", |output| ["forwarded", "started"].iter().all(|line| output.contains(line))),
    ("list-executions", |output| json(output)["executions"].as_array().unwrap().len() == 3),
    ("receive-message", |output| {
        let letters = json(output)["Messages"].as_array().unwrap().clone();
        !letters.is_empty()
            && letters.iter().all(|letter| letter["MessageAttributes"]["errorClass"].is_object())
    }),
    (r#""dryRun": true"#, |output| json(output)["selected"] == 2),
    (r#"{"before": "now"}"#, |output| {
        let archived = &json(output)["archived"];
        archived["NotJson"] == 1 && archived["InvalidDeviceState"] == 1
    }),
    ("s3 ls", |output| output.lines().count() == 2),
    (r#""mode": "restore""#, |output| json(output)["restored"] == 2),
    ("cargo sluice trace", |output| output.starts_with("in the table: device mine has")),
    // Stays, and so is started beside the test; see below.
    ("cargo lambda watch", |_| true),
];

/// Of these, those that a person repeats until the answer is there.
const A_FEW_SECONDS_LATER: [&str; 2] = ["dynamodb get-item", "grep"];

#[test]
fn every_command_works_as_it_is_printed() {
    build();
    let demo = Demo::start();
    demo.refuses_another();

    let mut checks = PRINTED.to_vec();
    let mut watch = None;
    for command in demo.commands() {
        let found = checks.iter().position(|(part, _)| command.contains(part));
        let (part, check) = checks.remove(found.unwrap_or_else(|| panic!("unknown: {command}")));
        if part == "cargo lambda watch" {
            watch = Some(command);
        } else if A_FEW_SECONDS_LATER.contains(&part) {
            eventually(|| check(&paste(&command).ok()?).then_some(()));
        } else {
            let output = paste(&command).unwrap_or_else(|error| panic!("{command}: {error}"));
            assert!(check(&output), "{command}: {output}");
        }
    }
    assert!(
        checks.is_empty(),
        "not printed: {:?}",
        checks.iter().map(|it| it.0).collect::<Vec<_>>()
    );

    documents::run(&watch.unwrap());

    let endpoint = demo.endpoint();
    let errors = demo.interrupt();
    assert!(errors.contains("stopping …\nstopped"), "{errors}");
    let left = demo::processes_with(&format!("AWS_ENDPOINT_URL={endpoint}"));
    assert!(left.is_empty(), "still running: {left:?}");

    up_and_down();
}

/// Ends the stack in the background, whatever else fails.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        // The test has said what is wrong; there may be nothing left to end.
        paste("cargo sluice down").ok();
    }
}

/// The stack in the background: reached as it says, alone in the checkout, and gone after `down`.
fn up_and_down() {
    let _ended = Ended;
    let printed = paste("cargo sluice up").unwrap();
    let endpoint = demo::endpoint_in(&printed);
    let refused = paste("cargo sluice up").unwrap_err();
    assert!(refused.contains("error: another demo is running in this checkout"), "{refused}");
    let status = paste(". target/sluice/demo/sluice.env && cargo sluice status").unwrap();
    assert!(status.starts_with("sluice-demo in us-east-1"), "{status}");
    let down = paste("cargo sluice down").unwrap();
    assert!(down.starts_with("the stack is down"), "{down}");
    let left = demo::processes_with(&format!("AWS_ENDPOINT_URL={endpoint}"));
    assert!(left.is_empty(), "still running: {left:?}");
    assert_eq!(paste("cargo sluice down").unwrap(), "no stack is up in this checkout\n");
}

/// Builds the functions first, without a limit: from an empty target folder on a slow machine this
/// takes longer than anything that is waited for here.
fn build() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let project = Project::find().unwrap();
        let tools = Tools::install(&project).await.unwrap();
        local::build(&project, &tools).await.unwrap();
    });
}

fn root() -> PathBuf {
    Project::find().unwrap().root
}

/// A shell that finds the program under test wherever a text says `cargo sluice`.
fn shell(command: &str) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", &command.replace("cargo sluice", env!("CARGO_BIN_EXE_sluice"))]);
    // `steadiness.py` moves the clock with it, and rustc hangs under it.
    shell.current_dir(root()).env_remove("LD_PRELOAD");
    shell
}

/// Runs a command as in another terminal, in the folder of the checkout.
fn paste(command: &str) -> Result<String, String> {
    output_of(shell(command))
}

/// The standard output of a command that succeeds, or all that it printed.
fn output_of(mut shell: Command) -> Result<String, String> {
    let output = shell.output().unwrap();
    let [out, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.success() { Ok(out) } else { Err(format!("{}: {out}{errors}", output.status)) }
}

/// The first JSON document in a text: the AWS command line prints one of its own below an answer.
fn json(text: &str) -> Value {
    let mut documents = serde_json::Deserializer::from_str(text).into_iter();
    documents.next().and_then(Result::ok).unwrap_or_else(|| panic!("no JSON: {text}"))
}

fn eventually<T>(ask: impl Fn() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.elapsed() < CEILING, "not within {} s", CEILING.as_secs());
        sleep(POLL);
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

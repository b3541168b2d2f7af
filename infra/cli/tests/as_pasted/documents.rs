use std::collections::HashSet;
use std::fs;
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value;

use super::demo::Beside;
use super::{eventually, json, output_of, paste, read, root, shell};

/// Commands that are not run here, by how they begin, each with the reason.
const NOT_RUN: [(&str, &str); 13] = [
    ("cargo test ", "it is what runs this; that its names exist is checked"),
    ("cargo sluice bench", "takes many minutes; `.ci/run` runs it with `--guard`"),
    ("cargo sluice demo", "one is running; the tests of the companions deploy what it would"),
    ("cargo sluice watch", "has to have a terminal; its unit tests draw on one of 80 by 24"),
    ("cargo sluice logs -f", "does not end; without -f it is run here"),
    ("cargo sluice plan --from-metrics", "the emulator has no metrics; unit tests have an answer"),
    ("cargo sluice up", "the demo has the place of the stack; run once that has ended"),
    ("cargo sluice down", "it would end the demo; run once that has ended"),
    ("cargo sluice simulate", "takes a minute; the tests of the simulation run shorter ones"),
    ("sam build", "the demo has just run it, for the architecture of this machine"),
    ("sam deploy", "deploys to AWS; the demo has run it for the emulator"),
    ("infra/tests/steadiness.py", "runs all tests, several times"),
    ("uv pip compile", "asks a package registry for the newest versions"),
];

/// Commands that the emulator refuses, by how they begin, with its answer and the reason. That the
/// service answers shows that the command line understood the command.
const REFUSED: [(&str, &str); 2] = [
    // The stack of the demo has no archive of events, and no log of them.
    ("aws events start-replay", "ResourceNotFoundException"),
    ("aws logs filter-log-events", "ResourceNotFoundException"),
];

/// Runs each command in the documents. `watch` is the printed command that serves the functions.
pub(crate) fn run(watch: &str) {
    let commands = in_documents();
    let mut seen = HashSet::new();
    let mut served = None;
    // What a person has set before, in the shell that all of this is pasted into.
    let mut prelude = String::new();
    for command in &commands {
        if let Some((start, reason)) = NOT_RUN.iter().find(|(start, _)| command.starts_with(start))
        {
            assert!(!reason.is_empty());
            seen.insert(*start);
            if *start == "cargo test " {
                check_test(command);
            }
            // What a deployment is given.
            if let Some((_, inner)) = command.split_once("$(") {
                run_for_aws(inner.trim_end_matches(')'), &mut seen);
            }
        } else if command.starts_with("PATH=") && command.ends_with(":$PATH\"") {
            prelude = format!("{command}; ");
        } else if command.starts_with("cargo sluice ") {
            run_for_sluice(command);
        } else if command.split_whitespace().any(|word| word == "aws") {
            run_for_aws(command, &mut seen);
        } else if command.starts_with("cargo sluice plan ") {
            let answer = paste(command).unwrap_or_else(|error| panic!("{command}: {error}"));
            assert!(answer.contains("better settings"), "{command}: {answer}");
        } else if command.contains("cargo lambda watch") {
            assert_eq!(command, watch, "the documents and the demo say the same");
            served = Some(serve(command));
        } else if command.contains("cargo lambda invoke") {
            assert!(served.is_some(), "{command} comes after the command that serves it");
            invoke(&format!("{prelude}{command}"));
        } else {
            panic!("not known how to run: {command}");
        }
    }
    assert!(served.is_some(), "the documents tell how to run a function");
    let all = NOT_RUN.iter().map(|it| it.0).chain(REFUSED.iter().map(|it| it.0));
    let unused: Vec<_> = all.filter(|start| !seen.contains(start)).collect();
    assert!(unused.is_empty(), "in no document: {unused:?}");
}

/// The commands in all blocks of the documents that name no language.
fn in_documents() -> Vec<String> {
    let root = root();
    let mut paths = vec![root.join("README.md"), root.join("infra/bench/README.md")];
    let documents = fs::read_dir(root.join("infra/docs")).unwrap();
    paths.extend(documents.map(|entry| entry.unwrap().path()));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    let commands: Vec<_> = paths.iter().flat_map(|path| commands_in(&read(path))).collect();
    assert!(commands.len() > 20, "{commands:?}");
    commands
}

fn commands_in(document: &str) -> Vec<String> {
    let mut commands = Vec::new();
    // The block that a line is in: the language that it names.
    let mut block: Option<&str> = None;
    let mut command = String::new();
    for line in document.lines().map(str::trim) {
        if let Some(language) = line.strip_prefix("```") {
            block = if block.is_some() { None } else { Some(language) };
        } else if block == Some("") && !line.is_empty() {
            if let Some(line) = line.strip_suffix('\\') {
                command.push_str(line);
                continue;
            }
            command.push_str(line.split("  #").next().unwrap_or(line).trim());
            if command.ends_with('|') {
                command.push(' ');
            } else {
                commands.push(std::mem::take(&mut command));
            }
        }
    }
    assert!(block.is_none() && command.is_empty(), "a block does not end");
    commands
}

/// Runs a command that is meant for AWS, with the stack of the demo in place of yours.
fn run_for_aws(command: &str, seen: &mut HashSet<&'static str>) {
    let command = filled_in(command);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut shell = shell(&command);
    let path = format!(
        "{}:{}",
        root().join("target/sluice/demo").display(),
        std::env::var("PATH").unwrap()
    );
    shell.env("PATH", path).current_dir(folder);
    let result = output_of(shell);
    if let Some((start, answer)) = REFUSED.iter().find(|(start, _)| command.starts_with(start)) {
        seen.insert(start);
        let refused = result.unwrap_err();
        assert!(refused.contains(answer), "{command}: {refused}");
    } else {
        let output = result.unwrap_or_else(|error| panic!("{command}: {error}"));
        // An error of the function is no error of the command.
        assert!(!output.contains("FunctionError"), "{command}: {output}");
    }
}

/// Runs a verb of the operator's tool on the stack of the demo. It may find that the stack needs
/// somebody, since there are dead letters in it, but not that it cannot do what it was asked.
fn run_for_sluice(command: &str) {
    let command = format!(". target/sluice/demo/sluice.env; {}", filled_in(command));
    let output = shell(&command).output().unwrap();
    let [out, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(matches!(output.status.code(), Some(0 | 1)), "{command}: {out}{errors}");
    assert!(!out.is_empty(), "{command} printed nothing: {errors}");
}

/// The command with what the stack of the demo has for each name in angle brackets.
fn filled_in(command: &str) -> String {
    const DESCRIBE: &str =
        "target/sluice/demo/aws cloudformation describe-stacks --stack-name sluice-demo";
    let described = paste(DESCRIBE).unwrap();
    let outputs = json(&described)["Stacks"][0]["Outputs"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut known: Vec<_> = outputs
        .iter()
        .map(|output| (text(&output["OutputKey"]), text(&output["OutputValue"])))
        .collect();
    let bus = "arn:aws:events:us-east-1:000000000000:event-bus/default";
    let archive = known.iter().find(|(name, _)| name == "ArchiveBucketName").unwrap().1.clone();
    known.extend([
        ("stack".to_owned(), "sluice-demo".to_owned()),
        // Any bucket but the one that the uploads of the demo are in.
        ("bucket".to_owned(), archive),
        ("any name".to_owned(), "any".to_owned()),
        ("key".to_owned(), "none".to_owned()),
        ("version".to_owned(), "none".to_owned()),
        ("ARN of the default bus".to_owned(), bus.to_owned()),
        ("EventArchiveArn".to_owned(), "arn:aws:events:us-east-1:000000000000:archive/none".into()),
    ]);
    let mut filled = command.to_owned();
    for (name, value) in known {
        filled = filled.replace(&format!("<{name}>"), &value);
    }
    assert!(!filled.contains('<'), "a name that the stack does not have: {filled}");
    filled
}

/// What a line runs exists: the tests, and in them a function or a module of the name.
fn check_test(command: &str) {
    let words: Vec<_> = command.split_whitespace().collect();
    let tests: Vec<_> =
        words.windows(2).filter(|two| two[0] == "--test").map(|two| two[1]).collect();
    for test in &tests {
        let search = format!(
            "(grep -lx 'name = \"{test}\"' */*/Cargo.toml; ls -d */*/tests/{test} */*/tests/{test}.rs) \
             2>/dev/null | cut -d/ -f1,2 | sort -u | grep ."
        );
        let folder = paste(&search).unwrap_or_else(|_| panic!("no test {test}: {command}"));
        let name = words.last().unwrap().trim_end_matches("::");
        if !tests.contains(&name) {
            let search = format!("grep -rwE '(fn|mod) {name}' {}", folder.trim());
            assert!(paste(&search).is_ok(), "no {name}: {command}");
        }
    }
}

/// Serves the functions, until the value is dropped.
fn serve(command: &str) -> Beside {
    assert!(TcpStream::connect(ADDRESS).is_err(), "something else is at {ADDRESS}");
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("watch.log");
    let watch = Beside::start(command, &log);
    eventually(|| TcpStream::connect(ADDRESS).ok());
    watch
}

/// Where `cargo lambda watch` listens, unless it is told another port.
const ADDRESS: &str = "127.0.0.1:9000";

/// Invokes a function. The first time, cargo-lambda builds it.
fn invoke(command: &str) {
    let output = paste(command).unwrap_or_else(|error| panic!("{command}: {error}"));
    let answer = json(&output);
    let as_meant = if command.contains(" consumer ") {
        // The bucket of the sample is not there, and both events have got their outcome.
        answer["batchItemFailures"].as_array().is_some_and(Vec::is_empty)
    } else if command.contains(" redrive ") {
        answer["complete"] == true
    } else {
        command.contains(" forwarder ") && answer["forwarded"] == 1
    };
    assert!(as_meant, "{command}: {output}");
}

//! Programs in other languages that tests ask: JSON on their standard input, JSON as their answer.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::{Serialize, de::DeserializeOwned};

pub(crate) fn ask<A: DeserializeOwned>(command: &mut Command, question: &impl Serialize) -> A {
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = program.stdin.take().unwrap();
    stdin.write_all(&serde_json::to_vec(question).unwrap()).unwrap();
    drop(stdin);
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

//! What the API of `infra/stacks/stream.yaml` makes of a body that a device posts, by its own model and
//! mapping template. Evaluated by `api.py`, because the emulator's API has no way to Kinesis.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use local::{Companion, Project, Tools};

/// The requests that each body may become, one for each way to print JSON, or none if it is refused.
pub(crate) async fn requests(stream: &str, bodies: &[&str]) -> Vec<Vec<String>> {
    let project = Project::find().unwrap();
    let tools = Tools::install(&project).await.unwrap();
    let mut python = Command::new(tools.bin().join("python"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("api.py"))
        .arg(project.root.join(Companion::Stream.template()))
        .arg(stream)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(&serde_json::to_vec(bodies).unwrap()).unwrap();
    drop(stdin);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "api.py: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

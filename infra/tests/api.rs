//! What the API of `infra/stacks/stream.yaml` makes of a body that a device posts, by its own model and
//! mapping template. Evaluated by `api.py`, because the emulator's API has no way to Kinesis.

use std::path::Path;
use std::process::Command;

use local::{Companion, Project, Tools};

use crate::script::ask;

/// The requests that each body may become, one for each way to print JSON, or none if it is refused.
pub(crate) async fn requests(stream: &str, bodies: &[&str]) -> Vec<Vec<String>> {
    let project = Project::find().unwrap();
    let tools = Tools::install(&project).await.unwrap();
    let mut python = Command::new(tools.bin().join("python"));
    python
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("api.py"))
        .arg(project.root.join(Companion::Stream.template()))
        .arg(stream);
    ask(&mut python, &bodies)
}

//! The small templates of `infra/stacks`, which join the main stack by its outputs.

use std::collections::HashMap;
use std::fmt;

use clap::ValueEnum;

use crate::Error;
use crate::emulator::{Emulator, REGION};
use crate::project::{Project, RunFolder};
use crate::stack::{Stack, outputs_of};
use crate::supervise::Job;
use crate::tools::Tools;

/// A stack beside the main one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Companion {
    /// Tells who touches the stack by hand
    Guard,
    /// Takes states by an API and a stream
    Stream,
    /// Keeps a table of the uploads for Athena
    Catalog,
}

impl Companion {
    pub const ALL: [Self; 3] = [Self::Guard, Self::Stream, Self::Catalog];

    /// The parameters that it wants of the main stack.
    pub fn parameters_of_main(self) -> &'static [&'static str] {
        match self {
            Self::Guard => &[],
            Self::Stream => &["KeyPrefix=devices/"],
            Self::Catalog => &["Ingestion=Fanout"],
        }
    }

    /// Its template, as a path below the root of the checkout.
    pub fn template(self) -> String {
        format!("infra/stacks/{self}.yaml")
    }
}

impl fmt::Display for Companion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guard => "guard",
            Self::Stream => "stream",
            Self::Catalog => "catalog",
        })
    }
}

/// Deploys a companion beside the stack, as `<stack>-<companion>`, and returns its outputs.
///
/// Its parameters have the names of the main stack's outputs, so it is given all of these: SAM leaves
/// out what the template has no parameter for.
pub async fn deploy_beside(
    project: &Project,
    tools: &Tools,
    run: &RunFolder,
    emulator: &Emulator,
    stack: &Stack,
    companion: Companion,
) -> Result<HashMap<String, String>, Error> {
    let clients = stack.clients();
    let name = format!("{}-{companion}", stack.name);
    let mut parameters = vec![format!("MainStackName={}", stack.name)];
    let outputs = outputs_of(&clients, &stack.name, emulator.log()).await?;
    parameters.extend(outputs.iter().map(|(output, value)| format!("{output}={value}")));
    Job::new(project, &tools.python, &tools.sam(), run.log(&format!("deploy-{name}")))
        .args(["deploy", "--stack-name", &name, "--region", REGION, "--resolve-s3"])
        .args(["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--template-file"])
        .args([project.root.join(companion.template())])
        .args(["--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"])
        .args(["--parameter-overrides"])
        .args(&parameters)
        .for_the_emulator(&stack.endpoint, REGION)
        .run("sam deploy")
        .await?;
    outputs_of(&clients, &name, emulator.log()).await
}

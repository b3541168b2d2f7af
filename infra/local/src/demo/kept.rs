use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::DemoError;
use crate::{Companion, Error, Job, Project, RunFolder, Stack, Tools, for_cargo};

/// How a shell reaches a stack, and no other.
#[derive(Debug)]
pub struct Reach {
    /// A script that runs the pinned AWS command line for this stack.
    aws: PathBuf,
    /// What `cargo sluice` needs to find the stack, for a shell to read.
    variables: PathBuf,
}

/// Python that runs a command in a terminal, and types ahead.
const TERMINAL: &str = "import os, pty, sys; typed = [b'', b'y\\n']; \
    sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:], stdin_read=lambda _: typed.pop())))";

impl Reach {
    /// Writes the files. `aws` is the command line of AWS.
    pub fn prepare(run: &RunFolder, stack: &Stack, aws: &Path) -> Result<Self, Error> {
        let script = run.path.join("aws");
        write(&script, &command_line_for(stack, aws, &run.path))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
            .map_err(Error::file("make executable", &script))?;
        let variables = run.path.join("sluice.env");
        write(&variables, &variables_for(stack))?;
        Ok(Self { aws: script, variables })
    }

    /// Runs a command that is meant for AWS as it is pasted into a terminal, where `aws` and
    /// `cargo sluice` reach this stack. If it asks something, the answer is `y`.
    pub async fn paste(
        &self,
        project: &Project,
        tools: &Tools,
        run: &RunFolder,
        command: &str,
    ) -> Result<(), Error> {
        let folder = quoted(&run.path);
        let variables = quoted(&self.variables);
        let command_line = format!("PATH={folder}:$PATH; . {variables}; {command}");
        let job = Job::new(project, &tools.python, &tools.python, run.log("pasted")).args([
            "-c",
            TERMINAL,
            "bash",
            "-c",
            &command_line,
        ]);
        for_cargo(job, project, tools)?.run(command).await
    }
}

/// What a person needs to talk to a stack that stays up.
pub(crate) struct Kept<'a> {
    stack: &'a Stack,
    reach: Reach,
    /// The environment of the functions, for `cargo lambda watch`.
    environment: PathBuf,
}

impl<'a> Kept<'a> {
    /// Writes the files.
    pub(crate) async fn prepare(
        run: &RunFolder,
        stack: &'a Stack,
        aws: &Path,
    ) -> Result<Self, DemoError> {
        let reach = Reach::prepare(run, stack, aws)?;
        let environment = run.path.join("functions.env");
        let variables = environment_of_functions(stack).await?;
        let lines: Vec<_> =
            variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write(&environment, &format!("{}\n", lines.join("\n")))?;
        Ok(Self { stack, reach, environment })
    }

    /// Each line that is indented is a command. The tests run all of them as they are printed.
    /// `until` is what ends the stack.
    pub(crate) fn print(&self, until: &str) {
        let Self { stack, .. } = self;
        let outputs = &stack.outputs;
        let aws = as_pasted(&self.reach.aws);
        println!(
            "\
The stack stays up until {until}. These commands talk to it from another terminal, in this folder.
The program `aws` in them is the AWS command line, and reaches nothing but this stack.

Upload a file:

  echo '{{\"deviceId\":\"mine\",\"state\":{{\"on\":true}}}}' | {aws} s3 cp - s3://{bucket}/devices/mine/state.json

See a few seconds later the state of its device, and everything that was logged about the file:

  {aws} dynamodb get-item --table-name {table} --key '{{\"deviceId\":{{\"S\":\"mine\"}}}}'
  grep devices/mine/state.json {log}

See the newest executions, and the first dead letters:

  {aws} stepfunctions list-executions --max-items 3 --state-machine-arn {machine}
  {aws} sqs receive-message --max-number-of-messages 3 --visibility-timeout 0 --message-attribute-names All --queue-url {dead_letters}

Say what a redrive would do; run it, which archives the poisoned files, because no retry helps them;
see the archive; and put everything in it back into the work queue, where it fails once more:

  {aws} lambda invoke --function-name {redrive} --payload '{{\"before\": \"now\", \"dryRun\": true}}' /dev/stdout
  {aws} lambda invoke --function-name {redrive} --payload '{{\"before\": \"now\"}}' /dev/stdout
  {aws} s3 ls --recursive s3://{archive}/dead-letters/
  {aws} lambda invoke --function-name {redrive} --payload '{{\"mode\": \"restore\", \"prefix\": \"dead-letters/\"}}' /dev/stdout

Operate it with the tool of infra/docs/operations.md (once this shell has read the file, every verb
of `cargo sluice` is about this stack):

  . {variables} && cargo sluice trace devices/mine/state.json

Run a function from its source (infra/docs/development.md), with the environment that it has here:

  PATH=\"$(cargo sluice tools):$PATH\" cargo lambda watch --invoke-address 127.0.0.1 --env-file {environment}

Any SDK reaches the stack at {endpoint}, with the region {region} and
the credentials test and test.
",
            bucket = outputs.upload_bucket_name,
            table = outputs.device_state_table_name.as_deref().unwrap_or_default(),
            log = as_pasted(&stack.log),
            machine = outputs.state_machine_arn,
            dead_letters = outputs.dead_letter_queue_url,
            redrive = outputs.redrive_function_name,
            archive = outputs.archive_bucket_name,
            environment = as_pasted(&self.environment),
            variables = as_pasted(&self.reach.variables),
            endpoint = stack.endpoint,
            region = stack.region(),
        );
    }
}

/// What the stacks beside the main one are called (infra/docs/companions.md).
pub(crate) fn print_beside(stacks: &[(Companion, HashMap<String, String>)]) {
    for (companion, outputs) in stacks {
        println!("Beside it is the stack of {}:\n", companion.template());
        for (output, value) in BTreeMap::from_iter(outputs) {
            println!("  {output} = {value}");
        }
        println!();
    }
}

fn write(path: &Path, content: &str) -> Result<(), Error> {
    fs::write(path, content).map_err(Error::file("write", path))
}

/// The path as a word of a shell, and relative if it lies below the current folder.
fn as_pasted(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| path.strip_prefix(here).ok());
    quoted(short.unwrap_or(path))
}

fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    if path.chars().all(|character| character.is_alphanumeric() || "/._-+".contains(character)) {
        return path.into_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// Nothing of a person's own AWS settings gets through, and the endpoint is given in the command,
/// so that it cannot reach AWS by accident.
fn command_line_for(stack: &Stack, aws: &Path, home: &Path) -> String {
    format!(
        "#!/bin/sh\n\
         # The AWS command line, for the stack of `cargo demo --keep` or `cargo sluice up`, which write this file.\n\
         exec env -i PATH=\"$PATH\" HOME={home} PYTHONUTF8=1 AWS_EC2_METADATA_DISABLED=true \\\n\
         \x20 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION={region} \\\n\
         \x20 {aws} --endpoint-url {endpoint} \"$@\"\n",
        home = quoted(home),
        region = stack.region(),
        aws = quoted(aws),
        endpoint = stack.endpoint,
    )
}

/// For a shell, and for nothing of a person's own AWS settings to get through.
fn variables_for(stack: &Stack) -> String {
    let mut lines =
        "# The stack of `cargo demo --keep` or `cargo sluice up`, which write this file.\n\
                     unset AWS_PROFILE AWS_SESSION_TOKEN\n"
            .to_owned();
    for (name, value) in [
        ("AWS_ENDPOINT_URL", stack.endpoint.as_str()),
        ("AWS_REGION", stack.region()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("SLUICE_STACK", stack.name.as_str()),
    ] {
        lines = format!("{lines}export {name}={value}\n");
    }
    lines
}

/// The variables of all functions together: one of the same name means the same in each.
async fn environment_of_functions(stack: &Stack) -> Result<BTreeMap<String, String>, DemoError> {
    let mut all = BTreeMap::new();
    let lambda = stack.clients().lambda;
    let outputs = &stack.outputs;
    let functions = [
        outputs.forwarder_function_name.as_deref(),
        Some(outputs.consumer_function_name.as_str()),
        Some(outputs.redrive_function_name.as_str()),
    ];
    for function in functions.into_iter().flatten() {
        let answer = lambda
            .get_function_configuration()
            .function_name(function)
            .send()
            .await
            .map_err(|error| stack.error("GetFunctionConfiguration")(&error))?;
        let variables = answer.environment.and_then(|environment| environment.variables);
        for (name, value) in variables.unwrap_or_default() {
            if all.get(&name).is_some_and(|other| *other != value) {
                return Err(DemoError::Disagreement(name));
            }
            all.insert(name, value);
        }
    }
    for (name, value) in [
        ("AWS_ENDPOINT_URL", stack.endpoint.as_str()),
        ("AWS_REGION", stack.region()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ] {
        all.insert(name.to_owned(), value.to_owned());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(quoted(Path::new("target/sluice/demo/aws")), "target/sluice/demo/aws");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}

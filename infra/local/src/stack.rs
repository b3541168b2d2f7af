use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_cloudformation::config::{Credentials, SharedCredentialsProvider};

use crate::Error;
use crate::build::Build;
use crate::emulator::{Emulator, REGION};
use crate::project::{Project, RunFolder};
use crate::supervise::Job;
use crate::tools::Tools;

/// A deployed stack: where it is, and what its template calls its parts.
#[derive(Debug, Clone)]
pub struct Stack {
    pub name: String,
    pub endpoint: String,
    pub outputs: Outputs,
    /// Log of the emulator that it runs in.
    pub log: PathBuf,
}

/// The outputs of `template.yaml`. Those that not every choice of parameters has are optional.
#[derive(Debug, Clone)]
pub struct Outputs {
    pub upload_bucket_name: String,
    pub work_queue_url: String,
    pub dead_letter_queue_url: String,
    /// With `Ordered`.
    pub ordered_dead_letter_queue_url: Option<String>,
    /// Without a `StateMachineArn`.
    pub device_state_table_name: Option<String>,
    pub state_machine_arn: String,
    /// With every `Ingestion` but `Queue`.
    pub forwarder_function_name: Option<String>,
    pub consumer_function_name: String,
    pub redrive_function_name: String,
    /// With `Ordered`.
    pub ordered_redrive_function_name: Option<String>,
    pub archive_bucket_name: String,
    /// With `Ingestion=Fanout`.
    pub upload_topic_arn: Option<String>,
}

/// A client for each service. Belongs to the async runtime that uses it first, because its
/// connections do.
#[derive(Debug, Clone)]
pub struct Clients {
    pub cloudformation: aws_sdk_cloudformation::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub lambda: aws_sdk_lambda::Client,
    pub s3: aws_sdk_s3::Client,
    pub sfn: aws_sdk_sfn::Client,
    pub sqs: aws_sdk_sqs::Client,
}

/// Deploys the build with `sam deploy`, as a user would, and reads the outputs. `parameters` are
/// template parameters beside the architecture, such as `DeferralBaseSeconds=1`.
pub async fn deploy(
    project: &Project,
    tools: &Tools,
    run: &RunFolder,
    build: &Build,
    emulator: &Emulator,
    name: &str,
    parameters: &[&str],
) -> Result<Stack, Error> {
    let endpoint = emulator.endpoint();
    Job::new(project, &tools.python, &tools.sam(), run.log(&format!("deploy-{name}")))
        .args(["deploy", "--stack-name", name, "--region", REGION, "--resolve-s3"])
        .args(["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--template-file"])
        .args([&build.template])
        .args(["--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"])
        // MiniStack knows neither saved queries nor alarms that compute.
        .args(["--parameter-overrides", &build.architecture, "Observability=Basic"])
        .args(parameters)
        .for_the_emulator(&endpoint, REGION)
        .run("sam deploy")
        .await?;

    let found = outputs_of(&Clients::new(&endpoint), name, emulator.log()).await?;
    let outputs = read_outputs(found, name)?;
    Ok(Stack { name: name.to_owned(), endpoint, outputs, log: emulator.log().to_owned() })
}

/// The outputs of a stack by their names.
pub(crate) async fn outputs_of(
    clients: &Clients,
    stack: &str,
    log: &Path,
) -> Result<HashMap<String, String>, Error> {
    let described = clients
        .cloudformation
        .describe_stacks()
        .stack_name(stack)
        .send()
        .await
        .map_err(|error| Error::aws("DescribeStacks", log, &error))?;
    let described = described
        .stacks()
        .first()
        .ok_or_else(|| Error::NoStack { stack: stack.to_owned(), log: log.to_owned() })?;
    let outputs = described.outputs().iter().filter_map(|output| {
        Some((output.output_key()?.to_owned(), output.output_value()?.to_owned()))
    });
    Ok(outputs.collect())
}

fn read_outputs(mut found: HashMap<String, String>, stack: &str) -> Result<Outputs, Error> {
    let ordered_dead_letter_queue_url = found.remove("OrderedDeadLetterQueueUrl");
    let device_state_table_name = found.remove("DeviceStateTableName");
    let forwarder_function_name = found.remove("ForwarderFunctionName");
    let ordered_redrive_function_name = found.remove("OrderedRedriveFunctionName");
    let upload_topic_arn = found.remove("UploadTopicArn");
    let mut take = |output: &'static str| {
        found.remove(output).ok_or_else(|| Error::MissingOutput { stack: stack.to_owned(), output })
    };
    Ok(Outputs {
        upload_bucket_name: take("UploadBucketName")?,
        work_queue_url: take("WorkQueueUrl")?,
        dead_letter_queue_url: take("DeadLetterQueueUrl")?,
        ordered_dead_letter_queue_url,
        device_state_table_name,
        state_machine_arn: take("StateMachineArn")?,
        forwarder_function_name,
        consumer_function_name: take("ConsumerFunctionName")?,
        redrive_function_name: take("RedriveFunctionName")?,
        ordered_redrive_function_name,
        archive_bucket_name: take("ArchiveBucketName")?,
        upload_topic_arn,
    })
}

impl Stack {
    /// Clients for the async runtime of the caller.
    pub fn clients(&self) -> Clients {
        Clients::new(&self.endpoint)
    }

    pub fn region(&self) -> &'static str {
        REGION
    }

    /// Wraps a failed call, with the way to the emulator's log.
    pub fn error(
        &self,
        operation: &'static str,
    ) -> impl Fn(&(dyn std::error::Error + 'static)) -> Error {
        let log = self.log.clone();
        move |error| Error::aws(operation, &log, error)
    }
}

impl Clients {
    /// Clients with this endpoint and dummy credentials: nothing of the user's AWS settings is
    /// read.
    pub fn new(endpoint: &str) -> Self {
        let credentials = Credentials::new("test", "test", None, None, "the emulator");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static(REGION))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url(endpoint)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Self {
            cloudformation: aws_sdk_cloudformation::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            lambda: aws_sdk_lambda::Client::new(&config),
            // The bucket in the path: there are no host names on a loopback address.
            s3: aws_sdk_s3::Client::from_conf(
                aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build(),
            ),
            sfn: aws_sdk_sfn::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
        }
    }
}

impl Error {
    pub(crate) fn aws(
        operation: &'static str,
        log: &Path,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            message = format!("{message}: {next}");
            cause = next.source();
        }
        Self::Aws { operation, message, log: log.to_owned() }
    }
}

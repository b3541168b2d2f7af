//! The two places in which the scenarios run.

use std::time::Duration;

use aws_sdk_cloudformation::types::Capability;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use aws_sdk_sqs::types::QueueAttributeName;
use local::{Clients, Emulator, EmulatorOptions, Project, RunFolder, Tools};
use serde_json::json;
use testing::{Aws, Object};
use tokio::time::sleep;

/// How long an execution takes.
pub(crate) const EXECUTION: Duration = Duration::from_secs(4);

/// After so many receives a message is a dead letter.
pub(crate) const MAX_RECEIVES: u32 = 2;

/// A work queue and its dead-letter queue.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(crate) client: aws_sdk_sqs::Client,
    pub(crate) work: String,
    pub(crate) dead: String,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) standard: Queues,
    pub(crate) fifo: Queues,
    pub(crate) step_functions: aws_sdk_sfn::Client,
    pub(crate) state_machine_arn: String,
    pub(crate) s3: aws_sdk_s3::Client,
    /// Set up by hand: no function of ours writes versions, so the simulated S3 takes none by a call.
    simulated: Option<Aws>,
}

/// A bucket without versions, and one with them.
pub(crate) const PLAIN: &str = "fidelity-plain";
pub(crate) const VERSIONED: &str = "fidelity-versioned";

impl World {
    pub(crate) fn simulated() -> Self {
        let (aws, ordered) = (Aws::new(), Aws::with_fifo_queues());
        aws.step_functions().executions_succeed(EXECUTION);
        for aws in [&aws, &ordered] {
            aws.work_queue().is_received_at_most(MAX_RECEIVES);
        }
        for bucket in [PLAIN, VERSIONED] {
            aws.s3().has_bucket(bucket);
        }
        let queues = |aws: &Aws| Queues {
            client: aws.sqs_client(),
            work: aws.work_queue().url(),
            dead: aws.dead_letter_queue().url(),
        };
        Self {
            standard: queues(&aws),
            fifo: queues(&ordered),
            step_functions: aws.step_functions_client(),
            state_machine_arn: aws.step_functions().state_machine_arn(),
            s3: aws.s3_client(),
            simulated: Some(aws),
        }
    }

    /// It ends with the emulator.
    pub(crate) async fn emulated() -> Result<(Self, Emulator), local::Error> {
        let project = Project::find()?;
        let tools = Tools::install(&project).await?;
        let run = RunFolder::take(&project, "fidelity")?;
        let options = EmulatorOptions::default();
        let emulator = Emulator::start(&project, &tools, &run, &options).await?;
        let Clients { cloudformation, sqs, sfn, s3, .. } = Clients::new(&emulator.endpoint());

        for bucket in [PLAIN, VERSIONED] {
            s3.create_bucket().bucket(bucket).send().await.unwrap();
        }
        let enabled =
            VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let versioning = s3.put_bucket_versioning().bucket(VERSIONED);
        versioning.versioning_configuration(enabled).send().await.unwrap();

        let state_machine_arn = state_machine(&cloudformation).await;
        let world = Self {
            standard: queues(&sqs, false).await,
            fifo: queues(&sqs, true).await,
            step_functions: sfn,
            state_machine_arn,
            s3,
            simulated: None,
        };
        Ok((world, emulator))
    }

    /// Writes versions of one key, the oldest first, and gives their ids.
    pub(crate) async fn writes_versions(&self, key: &str, contents: &[&[u8]]) -> Vec<String> {
        let mut ids = Vec::new();
        for content in contents {
            if let Some(aws) = &self.simulated {
                let id = format!("version-{}", String::from_utf8_lossy(content));
                aws.s3().has(VERSIONED, Object::new(key, content).version(&id));
                ids.push(id);
            } else {
                let put = self.s3.put_object().bucket(VERSIONED).key(key);
                let written = put.body(content.to_vec().into()).send().await.unwrap();
                ids.push(written.version_id.expect("a version"));
            }
        }
        ids
    }

    /// Deletes the current version, and gives the id of the marker that stands for that.
    pub(crate) async fn deletes(&self, key: &str) -> String {
        if let Some(aws) = &self.simulated {
            let marker = Object { is_delete_marker: true, ..Object::new(key, b"") };
            aws.s3().has(VERSIONED, marker.version("marker"));
            return "marker".to_owned();
        }
        let deleted = self.s3.delete_object().bucket(VERSIONED).key(key).send().await.unwrap();
        deleted.version_id.expect("a marker")
    }
}

/// A machine whose executions take their time and succeed. The emulator wants a role that exists.
async fn state_machine(cloudformation: &aws_sdk_cloudformation::Client) -> String {
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "Service": "states.amazonaws.com" },
        "Action": "sts:AssumeRole",
    }] });
    let definition = json!({ "StartAt": "Wait", "States": {
        "Wait": { "Type": "Wait", "Seconds": EXECUTION.as_secs(), "End": true },
    } });
    let template = json!({
        "Resources": {
            "Role": {
                "Type": "AWS::IAM::Role",
                "Properties": { "AssumeRolePolicyDocument": trust },
            },
            "Machine": {
                "Type": "AWS::StepFunctions::StateMachine",
                "Properties": {
                    "StateMachineName": "machine",
                    "RoleArn": { "Fn::GetAtt": ["Role", "Arn"] },
                    "DefinitionString": definition.to_string(),
                },
            },
        },
        "Outputs": { "Arn": { "Value": { "Ref": "Machine" } } },
    });
    let stack = cloudformation.create_stack().stack_name("fidelity");
    let stack = stack.capabilities(Capability::CapabilityIam);
    stack.template_body(template.to_string()).send().await.unwrap();
    loop {
        let described = cloudformation.describe_stacks().stack_name("fidelity").send().await;
        let described = described.unwrap();
        let stack = &described.stacks()[0];
        let status = stack.stack_status().expect("a status").as_str();
        assert!(!status.contains("ROLLBACK") && !status.contains("FAILED"), "{stack:?}");
        if let Some(arn) = stack.outputs().first().and_then(|output| output.output_value()) {
            return arn.to_owned();
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn queues(client: &aws_sdk_sqs::Client, is_fifo: bool) -> Queues {
    let create = async |name: &str, attributes: &[(QueueAttributeName, String)]| {
        let suffix = if is_fifo { ".fifo" } else { "" };
        let mut call = client.create_queue().queue_name(format!("{name}{suffix}"));
        if is_fifo {
            call = call.attributes(QueueAttributeName::FifoQueue, "true");
        }
        for (attribute, value) in attributes {
            call = call.attributes(attribute.clone(), value);
        }
        call.send().await.unwrap().queue_url.expect("a URL")
    };
    let dead = create("dead", &[]).await;
    let attributes = client.get_queue_attributes().queue_url(&dead);
    let attributes = attributes.attribute_names(QueueAttributeName::QueueArn).send().await.unwrap();
    let arn = attributes.attributes.expect("attributes")[&QueueAttributeName::QueueArn].clone();
    let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES });
    let work = create("work", &[(QueueAttributeName::RedrivePolicy, policy.to_string())]).await;
    Queues { client: client.clone(), work, dead }
}

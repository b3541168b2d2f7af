//! Every way in, with every kind of queue, bucket and state machine: an upload starts its
//! execution. Each cell is a stack of its own, deployed with `sam deploy`.

use aws_sdk_s3::types::{
    BucketVersioningStatus, EventBridgeConfiguration, NotificationConfiguration,
    VersioningConfiguration,
};
use aws_sdk_sfn::types::ExecutionStatus;
use serde_json::{Value, json};

use crate::faults::SDK_ATTEMPTS;
use crate::harness::{
    Ended, Sluice, Write, clients, create_state_machine, device_state, key_of, subscribe_queue,
};
use crate::proxy::Fault;

/// The size above which the cells with EventBridge and filters take no object.
const MAX_OBJECT_BYTES: usize = 1000;

/// A choice of parameters, named by its choices: the way in, a standard or a FIFO queue, a new or an
/// old bucket, and the state machine that is ours or mine, the user's. The name is the stack's and
/// the test's.
#[derive(Debug, Clone, Copy)]
struct Cell(&'static str);

impl Cell {
    fn is(self, choice: &str) -> bool {
        self.0.split('-').any(|part| part == choice)
    }

    /// Every other cell filters, so that both are seen with every way in.
    fn filters(self) -> bool {
        self.is("ours")
    }

    /// What the user brings, and the parameters.
    async fn deploy(self) -> Sluice {
        let ways = [
            ("direct", "Direct"),
            ("fanout", "Fanout"),
            ("bridge", "EventBridge"),
            ("queue", "Queue"),
        ];
        let (_, ingestion) = ways.into_iter().find(|(way, _)| self.is(way)).unwrap();
        let mut parameters = vec![format!("Ingestion={ingestion}")];
        if self.is("fifo") {
            parameters.push("Ordered=true".to_owned());
        }
        if self.is("old") {
            parameters.push(format!("ExistingBucketName={}", self.make_bucket().await));
        }
        if self.is("mine") || self.is("express") {
            parameters.push(format!("StateMachineArn={}", self.make_state_machine().await));
        }
        if self.is("express") {
            parameters.push("StateMachineType=EXPRESS".to_owned());
        }
        if self.filters() {
            parameters.extend(["KeyPrefix=devices/", "KeySuffix=.json"].map(str::to_owned));
        }
        if self.filters() && self.is("bridge") {
            parameters.push(format!("MaxObjectBytes={MAX_OBJECT_BYTES}"));
            parameters.push("EventLog=true".to_owned());
        }
        let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
        Sluice::deployed_with(self.0, &parameters).await
    }

    /// A bucket that was there before the stack and sends its events to EventBridge.
    async fn make_bucket(self) -> String {
        let s3 = clients().await.s3;
        let bucket = format!("{}-bucket", self.0);
        s3.create_bucket().bucket(&bucket).send().await.unwrap();
        let versioned =
            VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let versioning = s3.put_bucket_versioning().bucket(&bucket);
        versioning.versioning_configuration(versioned).send().await.unwrap();
        let event_bridge = NotificationConfiguration::builder()
            .event_bridge_configuration(EventBridgeConfiguration::builder().build())
            .build();
        s3.put_bucket_notification_configuration()
            .bucket(&bucket)
            .notification_configuration(event_bridge)
            .send()
            .await
            .unwrap();
        bucket
    }

    /// A state machine that knows nothing of Sluice, and fails the first attempt if the state of the
    /// device says so.
    async fn make_state_machine(self) -> String {
        const FIRST_FAILS: &str = "{% $states.input.data.content.state.fail = true \
                                   and $not($exists($states.input.attempt)) %}";
        let definition = json!({
            "QueryLanguage": "JSONata",
            "StartAt": "Choose",
            "States": {
                "Choose": {
                    "Type": "Choice",
                    "Choices": [{ "Condition": FIRST_FAILS, "Next": "Fail" }],
                    "Default": "Done",
                },
                "Fail": { "Type": "Fail", "Error": "OnPurpose", "Cause": "the first attempt" },
                "Done": { "Type": "Pass", "Output": { "outcome": "mine" }, "End": true },
            },
        });
        let kind = if self.is("express") { "EXPRESS" } else { "STANDARD" };
        create_state_machine(&format!("{}-machine", self.0), kind, &definition).await
    }

    /// Deploys the cell, and sees an upload arrive, and others not if it filters.
    #[expect(clippy::print_stdout, reason = "the list of cells is what a reader wants to see")]
    async fn sees_an_upload(self) -> Sluice {
        let sluice = self.deploy().await;
        let device = sluice.device("Lüster + 1");
        let mut dropped = Vec::new();
        if self.filters() {
            let state = device_state(&device, &json!({ "on": true }));
            dropped.push(sluice.upload(&format!("other/{device}/state.json"), &state).await);
            dropped.push(sluice.upload(&format!("devices/{device}/state.txt"), &state).await);
        }
        if self.filters() && self.is("bridge") {
            let large = json!({ "padding": "x".repeat(MAX_OBJECT_BYTES) });
            dropped.push(sluice.upload_state(&sluice.device("large"), &large).await);
        }

        let write = upload_state(&sluice, &device, &json!({ "on": true })).await;

        let expected = if self.is("ours") { Ended::written() } else { mine() };
        assert_eq!(sluice.ended(&write).await, expected, "{self:?}");
        if self.is("ours") {
            let item = sluice.item(&device).await.expect("an item");
            assert_eq!(item.text("objectKey"), key_of(&device));
            assert_eq!(item.text("lastEventId"), write.event_id);
        }
        sluice.drained().await;
        let executions = sluice.executions().await;
        assert_eq!(executions.get(&write.event_id), Some(&1), "{self:?}");
        for write in &dropped {
            assert_eq!(sluice.names_tried_in_order(&write.key), [""; 0], "{}", write.key);
        }
        println!(
            "cell {}: {} started {}, ended {:?}; {} filtered",
            self.0,
            write.key,
            write.event_id,
            expected,
            dropped.len()
        );
        sluice
    }
}

/// Uploads the state of a device for the first time. `MiniStack` 1.5.33 leaves the version out of
/// what it sends to `EventBridge`, so there the event has another id, which its execution tells.
async fn upload_state(sluice: &Sluice, device: &str, state: &Value) -> Write {
    let mut write = sluice.upload_state(device, state).await;
    if sluice.prefix.starts_with("bridge") {
        write.event_id = sluice
            .eventually("the execution is started", async || {
                let names = sluice.names_tried_in_order(&write.key).into_iter();
                names.last().ok_or_else(|| "it is not".to_owned())
            })
            .await;
    }
    write
}

fn mine() -> Ended {
    Ended { status: ExecutionStatus::Succeeded, outcome: "mine".to_owned() }
}

#[tokio::test]
async fn direct_with_a_standard_queue() {
    Cell("direct-std-new-ours").sees_an_upload().await;
    let sluice = Cell("direct-std-new-mine").sees_an_upload().await;
    a_failed_execution_comes_back(&sluice).await;
}

#[tokio::test]
async fn direct_with_a_fifo_queue() {
    let sluice = Cell("direct-fifo-new-ours").sees_an_upload().await;
    a_device_keeps_its_order(&sluice).await;
    an_ordered_dead_letter_comes_back_within_the_deduplication_of_its_first_send(&sluice).await;
    let sluice = Cell("direct-fifo-new-mine").sees_an_upload().await;
    a_failed_execution_comes_back(&sluice).await;
}

#[tokio::test]
async fn fanout_with_a_standard_queue() {
    let sluice = Cell("fanout-std-new-ours").sees_an_upload().await;
    another_subscriber_gets_the_upload_too(&sluice).await;
    Cell("fanout-std-new-mine").sees_an_upload().await;
    // Its executions can be asked for in the emulator only.
    Cell("fanout-std-new-express").sees_an_upload().await;
}

#[tokio::test]
async fn fanout_with_a_fifo_queue() {
    Cell("fanout-fifo-new-ours").sees_an_upload().await;
    Cell("fanout-fifo-new-mine").sees_an_upload().await;
}

#[tokio::test]
async fn event_bridge_with_a_standard_queue() {
    for cell in ["bridge-std-new-ours", "bridge-std-new-mine", "bridge-std-old-ours"] {
        Cell(cell).sees_an_upload().await;
    }
    let sluice = Cell("bridge-std-old-mine").sees_an_upload().await;
    a_failed_execution_comes_back(&sluice).await;
}

#[tokio::test]
async fn event_bridge_with_a_fifo_queue() {
    for cell in [
        "bridge-fifo-new-ours",
        "bridge-fifo-new-mine",
        "bridge-fifo-old-ours",
        "bridge-fifo-old-mine",
    ] {
        Cell(cell).sees_an_upload().await;
    }
}

#[tokio::test]
async fn from_the_bucket_to_the_queue() {
    for cell in ["queue-std-new-ours", "queue-std-new-mine"] {
        let sluice = Cell(cell).sees_an_upload().await;
        assert_eq!(sluice.stack().outputs.forwarder_function_name, None);
    }
}

/// The machine sends no dead letter itself: a rule does.
async fn a_failed_execution_comes_back(sluice: &Sluice) {
    let device = sluice.device("failing");
    let write = upload_state(sluice, &device, &json!({ "fail": true })).await;
    assert_eq!(sluice.ended(&write).await.status, ExecutionStatus::Failed);
    let letters = sluice.dead_letters_reach(1).await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert!(letter.body.contains("Step Functions Execution Status Change"), "{letter:?}");

    let _alone = sluice.only_redrive().await;
    let _old = sluice.proxy().backdate(&device, 1);
    let report = sluice.redrive().await;

    assert_eq!(report["redriven"], 1, "{report}");
    assert_eq!(sluice.ended_as(&format!("{}-r1", write.event_id)).await, mine(), "{report}");
    assert_eq!(sluice.dead_letters().await.len(), 0, "{report}");
}

/// A write whose start fails holds up the later ones of its device, which are delivered with it.
async fn a_device_keeps_its_order(sluice: &Sluice) {
    let device = sluice.device("ordered");
    sluice.set_consumer(false).await;
    let mut writes = Vec::new();
    for number in 0..5 {
        let write = sluice.upload_state(&device, &json!({ "number": number })).await;
        // S3 promises no order of its notifications.
        sluice
            .eventually("it is forwarded", async || match sluice.queued().await {
                queued if queued > number => Ok(()),
                queued => Err(format!("{queued} are")),
            })
            .await;
        writes.push(write);
    }
    // Not throttled: that would slow down what else starts, ordered or not.
    let broken = Fault::Refused { status: 500, code: "InternalServerError" };
    let first = &writes[0].event_id;
    let _fault = sluice.proxy().inject_times(SDK_ATTEMPTS, "StartExecution", first, broken);
    sluice.set_consumer(true).await;

    // They start in order, and then run beside each other: an older one may be superseded.
    for ended in sluice.all_ended(&writes).await {
        assert_eq!(ended.status, ExecutionStatus::Succeeded);
    }
    assert!(sluice.calls_with("StartExecution", first) > SDK_ATTEMPTS, "it failed and came back");
    let mut tried = sluice.names_tried_in_order(&device);
    tried.dedup();
    let written: Vec<String> = writes.into_iter().map(|write| write.event_id).collect();
    assert_eq!(tried, written);
    assert_eq!(sluice.item(&device).await.unwrap().state(), json!({ "number": 4 }));
}

/// SQS swallows what has a deduplication id of the last five minutes.
async fn an_ordered_dead_letter_comes_back_within_the_deduplication_of_its_first_send(
    sluice: &Sluice,
) {
    let device = sluice.device("redriven");
    let write = sluice.upload_state(&device, &json!({ "on": true })).await;
    assert_eq!(sluice.ended(&write).await, Ended::written());
    let event = messages::decode(&write.notification()).remove(0).unwrap();
    sluice
        .clients()
        .sqs
        .send_message()
        .queue_url(sluice.stack().outputs.ordered_dead_letter_queue_url.as_ref().unwrap())
        .message_body(event.to_json().unwrap())
        .message_group_id(event.group(2))
        .message_deduplication_id(event.execution_name())
        .send()
        .await
        .unwrap();

    let _alone = sluice.only_redrive().await;
    let _old = sluice.proxy().backdate(&device, 1);
    let report = sluice.redrive_ordered().await;

    assert_eq!(report["redriven"], 1, "{report}");
    sluice
        .eventually("it is started again", async || {
            match sluice.calls_with("StartExecution", &write.event_id) {
                2 => Ok(()),
                tries => Err(format!("{tries} tries")),
            }
        })
        .await;
    sluice.drained().await;
    assert_eq!(sluice.executions().await.get(&write.event_id), Some(&1));
}

/// From a stack of its own, of which Sluice knows nothing.
async fn another_subscriber_gets_the_upload_too(sluice: &Sluice) {
    let topic = sluice.stack().outputs.upload_topic_arn.as_ref().expect("a topic");
    let queue = subscribe_queue("another-subscriber", topic, false).await;

    let write = sluice.upload_state(&sluice.device("shared"), &json!({ "on": true })).await;

    assert_eq!(sluice.ended(&write).await, Ended::written());
    let body = sluice
        .eventually("the other queue has it", async || {
            let messages = sluice.look_into(&queue).await;
            let body = messages.first().and_then(|message| message["Body"].as_str());
            body.map(str::to_owned).ok_or_else(|| "nothing".to_owned())
        })
        .await;
    let event = messages::decode(&body).remove(0).unwrap();
    assert_eq!(event.id.to_string(), write.event_id);
}

/// The Parameters and the Rules of the template, with nothing behind them.
fn checks_of_the_template() -> String {
    let path = local::Project::find().unwrap().root.join("template.yaml");
    let template = std::fs::read_to_string(&path).unwrap();
    let (_, rest) = template.split_once("\nParameters:\n").unwrap();
    let (checks, _) = rest.split_once("\nConditions:\n").unwrap();
    assert!(checks.contains("\nRules:\n"), "the rules come before the conditions");
    format!("Parameters:\n{checks}\nResources: {{ Queue: {{ Type: \"AWS::SQS::Queue\" }} }}\n")
}

/// What CloudFormation says to the parameters; nothing if it takes them.
async fn refusal(parameters: &[(&str, &str)]) -> Option<String> {
    use aws_sdk_cloudformation::error::ProvideErrorMetadata as _;
    use aws_sdk_cloudformation::types::{ChangeSetType, Parameter};
    let parameter = |(key, value): &(&str, &str)| {
        Parameter::builder().parameter_key(*key).parameter_value(*value).build()
    };
    let name = format!("checks-{}", fastrand::u32(..));
    let answer = clients()
        .await
        .cloudformation
        .create_change_set()
        .stack_name(&name)
        .change_set_name(&name)
        .change_set_type(ChangeSetType::Create)
        .template_body(checks_of_the_template())
        .set_parameters(Some(parameters.iter().map(parameter).collect()))
        .send()
        .await;
    answer.err().map(|error| error.into_service_error().message().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn parameters_that_contradict_each_other_are_refused_with_a_sentence() {
    const MACHINE: &str = "arn:aws:states:us-east-1:000000000000:stateMachine:mine";
    let refused: [(&[(&str, &str)], &str); 11] = [
        (&[("BatchSize", "11")], "above 10 needs a BatchingWindowSeconds"),
        (&[("ExistingBucketName", "mine")], "ExistingBucketName needs Ingestion EventBridge"),
        (&[("MaxObjectBytes", "1000")], "MaxObjectBytes needs Ingestion EventBridge"),
        (&[("EventArchiveDays", "30")], "EventArchiveDays needs Ingestion EventBridge"),
        (&[("Ingestion", "Queue"), ("EventLog", "true")], "EventLog needs Ingestion EventBridge"),
        (&[("Ingestion", "Queue"), ("Ordered", "true")], "S3 does not write to FIFO queues"),
        (&[("BatchingWindowSeconds", "1"), ("Ordered", "true")], "Lambda has none for FIFO queues"),
        (&[("StateMachineType", "EXPRESS")], "EXPRESS needs a StateMachineArn"),
        (&[("StateMachineArn", "mine")], "must be the ARN of a state machine"),
        (&[("KeySuffix", "*.json")], "may hold letters, digits and"),
        (&[("KmsKeyArn", "alias/mine")], "must be the ARN of a key"),
    ];
    for (parameters, sentence) in refused {
        let refusal = refusal(parameters).await.unwrap_or_default();
        assert!(refusal.contains(sentence), "{parameters:?}: {refusal:?}");
    }
    let taken: [&[(&str, &str)]; 5] = [
        &[],
        &[("BatchSize", "11"), ("BatchingWindowSeconds", "1")],
        &[("Ingestion", "EventBridge"), ("ExistingBucketName", "mine"), ("EventArchiveDays", "1")],
        &[("Ingestion", "Fanout"), ("Ordered", "true")],
        &[("StateMachineArn", MACHINE), ("StateMachineType", "EXPRESS")],
    ];
    for parameters in taken {
        assert_eq!(refusal(parameters).await, None, "{parameters:?}");
    }
}

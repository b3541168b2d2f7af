//! Is the simulated AWS like the emulator? The same small scenarios run on both, over real SDK
//! clients, and what is seen is compared observation by observation.
//!
//! Neither is AWS. Where the two differ, AWS' documentation decides: each difference is listed below
//! with the page. A difference that is not listed fails the test,
//! and so does one that is listed and is not seen any more.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on stops, and clippy knows only the test functions as tests"
)]

mod s3;
mod sqs;
mod step_functions;
mod world;

use std::collections::BTreeMap;

use tokio::runtime::Builder;

use crate::world::World;

/// What was observed, by what it is about.
#[derive(Debug, Default)]
pub(crate) struct Seen(BTreeMap<String, String>);

impl Seen {
    pub(crate) fn note(&mut self, about: &str, what: impl Into<String>) {
        let before = self.0.insert(about.to_owned(), what.into());
        assert!(before.is_none(), "{about} is noted twice");
    }
}

/// A difference between the two.
#[derive(Debug)]
struct Difference {
    about: &'static str,
    simulated: &'static str,
    emulated: &'static str,
    page: &'static str,
}

impl Difference {
    const fn of(
        about: &'static str,
        simulated: &'static str,
        emulated: &'static str,
        page: &'static str,
    ) -> Self {
        Self { about, simulated, emulated, page }
    }
}

/// It reports each message by itself, and does not say which mistakes refuse the whole call.
const BATCH: &str = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html";
const ENTRY: &str = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatchRequestEntry.html";
const START: &str =
    "https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html";

/// The simulated AWS does what the page says.
const SIMULATED_IS_RIGHT: &[Difference] = &[
    Difference::of(
        "a deduplication id on a standard queue",
        "InvalidParameterValue",
        "1 accepted",
        ENTRY,
    ),
    Difference::of("a delay of 901 seconds", "InvalidParameterValue", "1 accepted", ENTRY),
    Difference::of("an empty group", "InvalidParameterValue", "1 accepted", ENTRY),
    Difference::of(
        "an empty attribute",
        "InvalidParameterValue",
        "1 accepted",
        "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_MessageAttributeValue.html",
    ),
    Difference::of(
        "eleven attributes",
        "InvalidParameterValue",
        "1 accepted",
        "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html",
    ),
    Difference::of(
        "it is deleted again",
        "1 deleted, 0 failed",
        "0 deleted, 1 failed",
        "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html",
    ),
    Difference::of(
        "the letter keeps the time of its first send, FIFO",
        "false",
        "true",
        "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html",
    ),
    Difference::of(
        "the same name and input while it runs",
        "started",
        "ExecutionAlreadyExists",
        START,
    ),
    Difference::of("and it is the same execution", "true", "false", START),
    Difference::of("a name of 81 characters", "InvalidName", "started", START),
    Difference::of("a name with a slash", "InvalidName", "started", START),
    Difference::of("a name with a space", "InvalidName", "started", START),
    Difference::of("an input that is no JSON", "InvalidExecutionInput", "started", START),
    Difference::of(
        "an input above 256 KiB",
        "InvalidExecutionInput",
        "started",
        "https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html",
    ),
    Difference::of(
        "a key with a space in an encoded listing",
        "a+b",
        "a b",
        "https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html",
    ),
];

/// The page leaves it open, so the functions have to bear both.
const OPEN: &[Difference] = &[
    Difference::of(
        "a body with a control character",
        "InvalidMessageContents",
        "0 accepted; a: InvalidMessageContents",
        BATCH,
    ),
    Difference::of("an empty body", "MissingParameter", "0 accepted; a: MissingParameter", BATCH),
    Difference::of(
        "no group on a FIFO queue",
        "MissingParameter",
        "0 accepted; a: MissingParameter",
        BATCH,
    ),
    Difference::of(
        "no deduplication id on a FIFO queue",
        "InvalidParameterValue",
        "0 accepted; a: InvalidParameterValue",
        BATCH,
    ),
    Difference::of(
        "a delay on a FIFO queue",
        "InvalidParameterValue",
        "0 accepted; a: InvalidParameterValue",
        BATCH,
    ),
];

fn differences() -> impl Iterator<Item = &'static Difference> {
    SIMULATED_IS_RIGHT.iter().chain(OPEN)
}

async fn observe(world: &World) -> BTreeMap<String, String> {
    let mut seen = Seen::default();
    sqs::the_life_of_a_message(world, &mut seen).await;
    sqs::the_way_to_the_dead_letter_queue(world, &mut seen).await;
    sqs::groups(world, &mut seen).await;
    step_functions::executions(world, &mut seen).await;
    s3::objects(world, &mut seen).await;
    s3::versions(world, &mut seen).await;
    // The last: the emulator takes some of what it should refuse, and keeps it.
    sqs::refusals(world, &mut seen).await;
    seen.0
}

#[test]
fn the_simulated_aws_does_what_the_emulator_does() {
    let runtime = || {
        let mut runtime = Builder::new_current_thread();
        runtime.enable_all();
        runtime
    };
    let on_emulator = runtime().build().unwrap();
    let emulated = on_emulator.block_on(async {
        let (world, _emulator) = World::emulated().await.expect("an emulator");
        observe(&world).await
    });
    let in_simulation = runtime().start_paused(true).build().unwrap();
    let simulated = in_simulation.block_on(async { observe(&World::simulated()).await });

    let mut wrong = Vec::new();
    for (about, simulated) in &simulated {
        let emulated = &emulated[about];
        let listed = differences().find(|difference| difference.about == about);
        let expected = listed.map_or((simulated.as_str(), simulated.as_str()), |difference| {
            (difference.simulated, difference.emulated)
        });
        if (simulated.as_str(), emulated.as_str()) != expected {
            let listed = listed.map_or_else(|| "not listed".to_owned(), |it| format!("{it:?}"));
            wrong.push(format!(
                "{about}\n  simulated: {simulated}\n  emulated:  {emulated}\n  {listed}"
            ));
        }
    }
    for Difference { about, page, .. } in differences() {
        assert!(simulated.contains_key(*about), "nothing is observed about: {about}");
        assert!(page.starts_with("https://docs.aws.amazon.com/"), "{about}: {page}");
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ\n{}",
        wrong.len(),
        simulated.len(),
        wrong.join("\n")
    );
}

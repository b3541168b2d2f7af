//! What a million uploads cost, from measured CPU time and list prices.

use std::fmt::Write as _;
use std::time::Duration;

use crate::measure::Case;
use crate::report::Results;
use crate::subject::Subject;

/// List prices of us-east-1 in dollars per million, as far as the first tier. AWS' own pages fill
/// them in by script and could not be read where this was written; these are what others quoted from
/// there in 2026: <https://cloudburn.io/blog/amazon-sqs-pricing> and
/// <https://cloudburn.io/blog/amazon-eventbridge-pricing> (March),
/// <https://cloudchipr.com/blog/aws-lambda-pricing>. That of S3 is from memory.
const LAMBDA_REQUEST: f64 = 0.20;
/// Of a GB-second on arm64, in dollars.
const LAMBDA_GB_SECOND: f64 = 0.000_013_333_4;
const SQS_REQUEST: f64 = 0.40;
/// More for a queue whose messages have groups; for each request to it, to be on the safe side.
const FAIR_QUEUE: f64 = 0.10;
/// A `GetObject`, or a `HeadObject`.
const S3_READ: f64 = 0.40;
const PIPES_REQUEST: f64 = 0.40;
/// A state transition of a STANDARD execution, and the executions of an EXPRESS machine by their
/// number, assumed as those above: <https://aws.amazon.com/step-functions/pricing/>.
const STATE_TRANSITION: f64 = 25.0;
const EXPRESS_REQUEST: f64 = 1.0;

/// `MemorySize` of the template, and the memory with which a function has a whole processor.
const MEMORY_MB: u32 = 256;
pub const MEMORY_OF_A_PROCESSOR_MB: u32 = 1_769;

/// How long a call to AWS takes, which no measurement here can know.
const CALL: Duration = Duration::from_millis(20);

/// Events in one batch of the consumer.
const BATCH: f64 = 10.0;

pub fn markdown(results: &Results) -> String {
    let functions = |subject| {
        billed(results, Case::Forwarder, subject, 1)
            + billed(results, Case::Consumer, subject, 2) / BATCH
    };
    // A record is a message of its own; ten of them are received and deleted by one call each.
    let requests = 1.0 + 2.0 / BATCH;
    let (fair, plain) = ((SQS_REQUEST + FAIR_QUEUE) * requests, SQS_REQUEST * requests);
    let consumer = |case, calls| billed(results, case, Subject::Sluice, calls) / BATCH;
    let rows = [
        ("Sluice", functions(Subject::Sluice), fair, S3_READ),
        ("the same in Python", functions(Subject::Python), fair, S3_READ),
        (
            "Sluice, by reference (the execution reads the object)",
            billed(results, Case::Forwarder, Subject::Sluice, 1)
                + consumer(Case::ConsumerByReference, 2),
            fair,
            S3_READ,
        ),
        (
            "S3 → queue → consumer, without the forwarder",
            consumer(Case::Consumer, 2),
            plain,
            S3_READ,
        ),
        (
            "S3 → queue → EventBridge Pipes, by reference; no ids, no deferral, no batch failures",
            PIPES_REQUEST,
            plain,
            0.0,
        ),
    ];
    let mut text = String::from(
        "\n## Cost of a million uploads, in dollars\n\nUntil the execution is started; what the \
         execution itself costs is the same for each row but by reference, and stands below. Billed \
         durations: CPU time as measured above, on the 256/1,769 of a processor that 256 MB have, \
         and 20 ms for each call to AWS (assumed), without cold starts. List prices of us-east-1, \
         arm64, as quoted by others in 2026 (see src/cost.rs); without a forwarder there is no \
         fair queuing between devices, which costs extra.\n\n\
         | | Lambda or Pipes | SQS | S3 reads | sum |\n|---|---|---|---|---|\n",
    );
    for (what, compute, queue, reads) in rows.into_iter().filter(|row| row.1.is_finite()) {
        let sum = compute + queue + reads;
        _ = writeln!(text, "| {what} | {compute:.2} | {queue:.2} | {reads:.2} | {sum:.2} |");
    }
    _ = writeln!(
        text,
        "\nThe execution itself costs more than all of this: a STANDARD one {STATE_TRANSITION:.0} \
         dollars a million for each state that it passes through, an EXPRESS one {EXPRESS_REQUEST:.0} \
         dollar and its duration (prices assumed, as above)."
    );
    text
}

/// Dollars for a million invocations, by their processor time.
fn billed(results: &Results, case: Case, subject: Subject, calls_in_turn: u32) -> f64 {
    if !results.runs.warm.contains_key(&(case, subject)) {
        return f64::NAN;
    }
    let cpu = results.median(case, subject, |run| run.cpu_event) * case.size();
    let slowed = cpu.mul_f64(f64::from(MEMORY_OF_A_PROCESSOR_MB) / f64::from(MEMORY_MB));
    invocations(slowed, calls_in_turn, MEMORY_MB)
}

/// Dollars for a million invocations that take so long beside their calls.
pub fn invocations(time: Duration, calls_in_turn: u32, memory_mb: u32) -> f64 {
    let milliseconds = (time + CALL * calls_in_turn).as_secs_f64() * 1e3;
    let seconds = milliseconds.ceil() / 1e3;
    LAMBDA_REQUEST + seconds * f64::from(memory_mb) / 1_024.0 * LAMBDA_GB_SECOND * 1e6
}

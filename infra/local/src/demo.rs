mod devices;
pub(crate) mod kept;
pub(crate) mod progress;
mod report;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, MessageSystemAttributeName, QueueAttributeName,
};
use clap::Args;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::time::sleep;

use crate::up::{RUN, Running, bring_up};
use crate::{Clients, Companion, EmulatorOptions, Error, Project, RunFolder, Stack};
use devices::Upload;
pub use kept::Reach;
use progress::Progress;
use report::{Execution, Report};

/// Build Sluice, deploy it to an emulator on this machine, and watch device files become
/// executions and items
#[derive(Debug, Args)]
pub struct Demo {
    /// Device files to upload, from 20 to 20,000, overwrites and poisoned ones included
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(20..=20_000))]
    files: u32,

    /// Number that the file names and contents follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Leave the stack up until Ctrl-C, and print commands to talk to it
    #[arg(long)]
    keep: bool,

    /// Stacks of infra/stacks to deploy beside the main one, such as guard,stream,catalog
    #[arg(long, value_enum, value_delimiter = ',', requires = "keep")]
    with: Vec<Companion>,

    /// Port of the emulator on 127.0.0.1 [default: a free one]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// Write what was counted over time to this file, as CSV
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
}

/// How the demo can fail beyond the local stack itself.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    Stack(#[from] Error),
    #[error("the demo did not add up: {0}")]
    Unexpected(String),
    #[error("two functions have {0} in their environments, with different values")]
    Disagreement(String),
}

/// Uploads in flight at the same time: one busy client.
const UPLOADS_AT_ONCE: usize = 16;

/// Calls in flight when executions are read.
const READS_AT_ONCE: usize = 16;

/// How often the bars move.
const TICK: Duration = Duration::from_millis(250);

/// The demo gives up after this long without any change. It is longer than a message stays hidden
/// after a consumer failed (180 s), so that the message is seen to come back.
const PATIENCE: Duration = Duration::from_mins(4);

impl Demo {
    /// The burst that `cargo sluice bench` plots.
    pub fn burst(timeline: PathBuf) -> Self {
        Self {
            files: 10_000,
            seed: 1,
            keep: false,
            with: Vec::new(),
            port: None,
            timeline: Some(timeline),
        }
    }

    pub async fn run(self) -> Result<(), DemoError> {
        let project = Project::find()?;
        // Both before the build: nobody wants to hear of it minutes later.
        let run = RunFolder::take_alone(&project, RUN)?;
        let options = EmulatorOptions { port: self.port, functions_endpoint: None };
        options.check_port()?;

        let progress = Progress::new(u64::from(self.files));
        let Running { mut emulator, stack, beside, aws } =
            bring_up(&project, &run, &options, &self.with, &progress, self.keep).await?;

        let watch = Watch {
            clients: stack.clients(),
            stack: &stack,
            progress: &progress,
            since: Instant::now(),
            timeline: RefCell::new(vec![TIMELINE.to_owned()]),
        };
        progress.begin();
        let uploads = devices::plan(self.files, self.seed);
        let uploaded = watch.upload_all(uploads).await?;
        let last = watch.wait_until_settled(&uploaded).await?;
        progress.finish(&last);
        let step = progress.step("reading all executions, dead letters and items");
        if let Some(path) = &self.timeline {
            fs::write(path, watch.timeline.take().join("\n"))
                .map_err(Error::file("write", path))?;
        }
        let report = watch.report(&uploaded).await?;
        step.done();
        let Some(aws) = aws else {
            let step = progress.step("stopping the emulator");
            drop(emulator);
            step.done();
            report::print(&report);
            println!("{}\n", report.verdict().map_err(DemoError::Unexpected)?);
            return Ok(());
        };

        report::print(&report);
        match report.verdict() {
            Ok(verdict) => println!("{verdict}\n"),
            Err(problem) => eprintln!("error: {}\n", DemoError::Unexpected(problem)),
        }
        kept::Kept::prepare(&run, &stack, &aws).await?.print("Ctrl-C");
        kept::print_beside(&beside);
        // Ends by Ctrl-C, which drops this future and with it the emulator.
        Err(emulator.ended().await.into())
    }
}

/// An upload that S3 has confirmed.
#[derive(Debug)]
pub(crate) struct Uploaded {
    upload: Upload,
    version_id: String,
    /// When the request was sent.
    at: std::time::SystemTime,
}

struct Watch<'a> {
    clients: Clients,
    stack: &'a Stack,
    progress: &'a Progress,
    since: Instant,
    /// What each look has counted, as lines of CSV.
    timeline: RefCell<Vec<String>>,
}

const TIMELINE: &str = "seconds,uploaded,queued,started,succeeded,dead letters";

impl Watch<'_> {
    /// Writes to one key go one after the other, so that S3's order is the plan's; keys go in
    /// parallel.
    async fn upload_all(&self, uploads: Vec<Upload>) -> Result<Vec<Uploaded>, Error> {
        let mut by_key: HashMap<String, Vec<Upload>> = HashMap::new();
        for upload in uploads {
            by_key.entry(upload.key.clone()).or_default().push(upload);
        }
        let uploading = stream::iter(by_key.into_values())
            .map(|writes| async move {
                let mut done = Vec::new();
                for write in writes {
                    done.push(self.upload(write).await?);
                }
                Ok(done)
            })
            .buffer_unordered(UPLOADS_AT_ONCE)
            .try_concat();
        // The queue is worth watching already while it fills.
        let watching = async {
            loop {
                self.look().await?;
                sleep(TICK).await;
            }
        };
        tokio::select! {
            uploaded = uploading => uploaded,
            stopped = watching => stopped,
        }
    }

    async fn upload(&self, upload: Upload) -> Result<Uploaded, Error> {
        let at = std::time::SystemTime::now();
        let answer = self
            .clients
            .s3
            .put_object()
            .bucket(&self.stack.outputs.upload_bucket_name)
            .key(&upload.key)
            .content_type("application/json")
            .body(upload.body.clone().into_bytes().into())
            .send()
            .await
            .map_err(|error| self.stack.error("PutObject")(&error))?;
        self.progress.uploaded();
        Ok(Uploaded { version_id: answer.version_id().unwrap_or_default().to_owned(), upload, at })
    }

    /// Waits until every good upload has an execution that ended and every poisoned one a dead
    /// letter, or until nothing has changed for a long time: then the report says what is missing.
    async fn wait_until_settled(&self, uploaded: &[Uploaded]) -> Result<Look, Error> {
        let poisoned = uploaded.iter().filter(|file| file.upload.poison.is_some()).count();
        let good = uploaded.len() - poisoned;
        let step = self.progress.step("waiting until every file has come to its end");
        let mut last = self.look().await?;
        let mut changed_at = Instant::now();
        loop {
            let executions = good.saturating_sub(last.succeeded);
            let dead_letters = poisoned.saturating_sub(last.dead_letters);
            let settled = executions == 0 && dead_letters == 0 && last.queued == 0;
            if settled || changed_at.elapsed() > PATIENCE {
                step.done();
                return Ok(last);
            }
            step.waits_for(&format!(
                "{executions} executions, {dead_letters} dead letters, {} queued messages",
                last.queued
            ));
            sleep(TICK).await;
            let look = self.look().await?;
            if look != last {
                changed_at = Instant::now();
                last = look;
            }
        }
    }

    /// Counts, and moves the bars.
    async fn look(&self) -> Result<Look, Error> {
        let outputs = &self.stack.outputs;
        let executions = self.list_executions().await?;
        let look = Look {
            queued: self.messages_in(&outputs.work_queue_url).await?,
            dead_letters: self.messages_in(&outputs.dead_letter_queue_url).await?,
            started: executions.len(),
            succeeded: executions.iter().filter(|execution| execution.succeeded()).count(),
        };
        self.progress.show(&look);
        self.timeline.borrow_mut().push(format!(
            "{:.1},{},{},{},{},{}",
            self.since.elapsed().as_secs_f64(),
            self.progress.uploads(),
            look.queued,
            look.started,
            look.succeeded,
            look.dead_letters
        ));
        Ok(look)
    }

    async fn list_executions(&self) -> Result<Vec<Execution>, Error> {
        let mut executions = Vec::new();
        let mut pages = self
            .clients
            .sfn
            .list_executions()
            .state_machine_arn(&self.stack.outputs.state_machine_arn)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.stack.error("ListExecutions")(&error))?;
            executions.extend(page.executions.into_iter().map(Execution::listed));
        }
        Ok(executions)
    }

    /// Messages in a queue, hidden and delayed ones included.
    async fn messages_in(&self, queue_url: &str) -> Result<usize, Error> {
        const COUNTS: [QueueAttributeName; 3] = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let answer = self
            .clients
            .sqs
            .get_queue_attributes()
            .queue_url(queue_url)
            .set_attribute_names(Some(COUNTS.to_vec()))
            .send()
            .await
            .map_err(|error| self.stack.error("GetQueueAttributes")(&error))?;
        let counts = answer.attributes.unwrap_or_default();
        Ok(counts.values().filter_map(|count| count.parse::<usize>().ok()).sum())
    }

    async fn report(&self, uploaded: &[Uploaded]) -> Result<Report, Error> {
        let listed = self.list_executions().await?;
        let executions = stream::iter(listed)
            .map(|execution| self.describe(execution))
            .buffer_unordered(READS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(Report::new(
            uploaded,
            executions,
            self.dead_letter_classes().await?,
            &self.items().await?,
        ))
    }

    async fn describe(&self, execution: Execution) -> Result<Execution, Error> {
        let described = self
            .clients
            .sfn
            .describe_execution()
            .execution_arn(&execution.arn)
            .send()
            .await
            .map_err(|error| self.stack.error("DescribeExecution")(&error))?;
        Ok(execution.described(&described))
    }

    /// Reads the dead-letter queue without taking anything out: the messages are hidden while it
    /// reads, and visible again afterwards. Returns the error class of each.
    async fn dead_letter_classes(&self) -> Result<Vec<String>, Error> {
        const HIDDEN_SECONDS: i32 = 60;
        let mut classes = HashMap::new();
        let mut receipts = Vec::new();
        loop {
            let answer = self
                .clients
                .sqs
                .receive_message()
                .queue_url(&self.stack.outputs.dead_letter_queue_url)
                .max_number_of_messages(10)
                .visibility_timeout(HIDDEN_SECONDS)
                .wait_time_seconds(0)
                .message_attribute_names("All")
                .message_system_attribute_names(MessageSystemAttributeName::All)
                .send()
                .await
                .map_err(|error| self.stack.error("ReceiveMessage")(&error))?;
            let before = classes.len();
            for message in answer.messages() {
                receipts.extend(message.receipt_handle().map(str::to_owned));
                let class = message
                    .message_attributes()
                    .and_then(|attributes| attributes.get("errorClass"))
                    .and_then(|class| class.string_value())
                    .unwrap_or("without errorClass");
                classes
                    .insert(message.message_id().unwrap_or_default().to_owned(), class.to_owned());
            }
            // Nothing new: all have been seen, or those seen first come up again.
            if classes.len() == before {
                break;
            }
        }
        self.show_again(&receipts).await?;
        Ok(classes.into_values().collect())
    }

    /// Makes dead letters visible that were received.
    async fn show_again(&self, receipts: &[String]) -> Result<(), Error> {
        for ten in receipts.chunks(10) {
            let mut call = self
                .clients
                .sqs
                .change_message_visibility_batch()
                .queue_url(&self.stack.outputs.dead_letter_queue_url);
            for (number, receipt) in ten.iter().enumerate() {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(number.to_string())
                    .receipt_handle(receipt)
                    .visibility_timeout(0)
                    .build()
                    .map_err(|error| self.stack.error("ChangeMessageVisibilityBatch")(&error))?;
                call = call.entries(entry);
            }
            call.send()
                .await
                .map_err(|error| self.stack.error("ChangeMessageVisibilityBatch")(&error))?;
        }
        Ok(())
    }

    /// `lastEventId` by device.
    async fn items(&self) -> Result<HashMap<String, String>, Error> {
        let mut items = HashMap::new();
        let mut pages = self
            .clients
            .dynamodb
            .scan()
            .set_table_name(self.stack.outputs.device_state_table_name.clone())
            .projection_expression("deviceId, lastEventId")
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.stack.error("Scan")(&error))?;
            for item in page.items() {
                let text = |name: &str| {
                    let value = item.get(name).and_then(|value| value.as_s().ok());
                    value.cloned().unwrap_or_default()
                };
                items.insert(text("deviceId"), text("lastEventId"));
            }
        }
        Ok(items)
    }
}

/// What one look at the stack counted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    queued: usize,
    dead_letters: usize,
    started: usize,
    succeeded: usize,
}

//! `sluice upload`: a fleet of devices that really uploads, and the account of what became of every
//! object.

mod account;
mod fleet;
mod page;

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use aws_sdk_s3::primitives::ByteStream;
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use messages::EventId;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    aws::{Options, Stack},
    failure::Failure,
    output::{Manner, Verdict, counted, number},
};
use account::{Account, Uploaded};
use fleet::{Fleet, Shape, Write};

/// Upload as a fleet of devices does, and account for every object
///
/// The objects are real, below `devices/sluice-upload-…/`, and so are their executions and items;
/// nothing removes them afterwards.
#[derive(Debug, Args)]
pub(crate) struct Upload {
    /// Objects to upload
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Uploads a second, on average
    #[arg(long, default_value = "50/s", value_parser = crate::parse::rate)]
    rate: f64,
    /// Devices that upload; with more objects than devices, they overwrite their own
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    devices: u32,
    /// How the uploads are spread over the time: `slow` begins slowly and grows, `steady` keeps the
    /// rate, `burst` uploads half of them at once in the middle
    #[arg(long, value_enum, default_value_t = Shape::Steady)]
    shape: Shape,
    /// How many of a hundred cannot be processed, such as `1%`
    #[arg(long, default_value = "0%", value_parser = crate::parse::share)]
    poison: f64,
    /// How many of a hundred are notified of twice
    #[arg(long, default_value = "0%", value_parser = crate::parse::share)]
    duplicate: f64,
    /// Wait until every object has come to its end, and give the account
    #[arg(long)]
    follow: bool,
    /// Write the account and its plots to this file, as one HTML page (with --follow)
    #[arg(long, value_name = "FILE", requires = "follow")]
    report: Option<PathBuf>,
    /// Number that keys and contents follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Uploads under way at once.
const CONCURRENCY: usize = 64;

/// How often the queue is looked at.
const TICK: Duration = Duration::from_secs(1);

/// How often the executions are listed while the end is waited for.
const LIST_EVERY: Duration = Duration::from_secs(5);

/// Given up after so long without any change. Longer than a message stays hidden after the consumer
/// failed, so that it is seen to come back.
const PATIENCE: Duration = Duration::from_mins(5);

/// What was seen at one moment.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Timestamp,
    uploaded: u64,
    waiting: u64,
}

impl Upload {
    pub(crate) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        manner.must_be_allowed("upload objects")?;
        let stack = Stack::find(options).await?;
        let objects = counted(u64::from(self.count), "object", "objects");
        let bucket = stack.output("UploadBucketName")?;
        manner
            .ask(&format!("upload {objects} to the bucket {bucket} of stack `{}`", stack.name))?;
        let fleet = Fleet {
            count: self.count,
            devices: self.devices,
            poison: self.poison,
            duplicate: self.duplicate,
            seed: self.seed,
            // Every run has objects of its own, so that none is a duplicate of an earlier run.
            run: format!("sluice-upload-{}", Timestamp::now().as_second()),
        };
        let begin = Timestamp::now();
        let progress = manner.progress("uploading");
        let done = AtomicU64::new(0);
        let mut looks = Vec::new();
        let uploading = self.upload_all(&stack, bucket, fleet.writes(), &done);
        let uploaded = tokio::select! {
            uploaded = Box::pin(uploading) => uploaded?,
            failed = Box::pin(watch(&stack, &done, &mut looks, &progress, self.count)) => return Err(failed),
        };
        if !self.follow {
            drop(progress);
            let count = uploaded.len() as u64;
            manner.print(
                &serde_json::json!({ "uploaded": count, "prefix": fleet.prefix() }),
                |_| {
                    format!(
                        "{} uploaded below {}; --follow waits for what becomes of them",
                        number(count),
                        fleet.prefix()
                    )
                },
            )?;
            return Ok(Verdict::Fine);
        }
        let account = self.follow(&stack, &uploaded, begin, &mut looks, &progress).await?;
        drop(progress);
        if let Some(path) = &self.report {
            let page = page::render(&account, &looks, &uploaded, &stack.name);
            fs::write(path, page).map_err(|error| {
                Failure::Usage(format!("cannot write {}: {error}", path.display()))
            })?;
            manner.note(&format!("the report is {}", path.display()));
        }
        manner.print(&account, Account::render)?;
        Ok(Verdict::wrong_if(!account.adds_up()))
    }

    /// Each device writes one object after the other, so that its order is that of S3.
    async fn upload_all(
        &self,
        stack: &Stack,
        bucket: &str,
        writes: Vec<Write>,
        done: &AtomicU64,
    ) -> Result<Vec<Uploaded>, Failure> {
        let begin = Instant::now();
        let total = writes.len();
        let devices: HashMap<String, Mutex<()>> =
            writes.iter().map(|write| (write.device.clone(), Mutex::default())).collect();
        let devices = &devices;
        let writes = writes.into_iter().enumerate().map(|(number, write)| {
            let due = begin + self.shape.due(number, total, self.rate);
            async move {
                sleep_until(due).await;
                // Whoever asks first gets it first.
                let turn = devices.get(&write.device);
                let _turn = futures::future::OptionFuture::from(turn.map(Mutex::lock)).await;
                let uploaded = upload(stack, bucket, write).await?;
                done.fetch_add(1, Ordering::Relaxed);
                Ok(uploaded)
            }
        });
        // In the order of their times: what is due waits for no turn behind what is not.
        stream::iter(writes).buffered(CONCURRENCY).try_collect().await
    }

    /// Waits until every object has come to its end, or until nothing has changed for long.
    async fn follow(
        &self,
        stack: &Stack,
        uploaded: &[Uploaded],
        begin: Timestamp,
        looks: &mut Vec<Look>,
        progress: &crate::output::Progress,
    ) -> Result<Account, Failure> {
        let mut changed = Instant::now();
        let mut last = None;
        loop {
            let until = Instant::now() + LIST_EVERY;
            let account = account::take(stack, uploaded, begin).await?;
            progress.say(&account.so_far());
            let look = look(stack, uploaded.len() as u64).await?;
            looks.push(look);
            if account.is_settled() {
                return Ok(account);
            }
            let state = (account.counts(), look.waiting);
            if last.as_ref() != Some(&state) {
                changed = Instant::now();
                last = Some(state);
            } else if changed.elapsed() > PATIENCE {
                return Ok(account);
            }
            while Instant::now() + TICK < until {
                sleep(TICK).await;
                looks.push(self::look(stack, uploaded.len() as u64).await?);
            }
        }
    }
}

/// Puts one object, and notifies of it once more if it is to be a duplicate.
async fn upload(stack: &Stack, bucket: &str, write: Write) -> Result<Uploaded, Failure> {
    let at = Timestamp::now();
    let answer = stack
        .s3
        .put_object()
        .bucket(bucket)
        .key(&write.key)
        .content_type("application/json")
        .body(ByteStream::from(write.body.clone().into_bytes()))
        .send()
        .await
        .map_err(Failure::of("s3:PutObject"))?;
    let Some(version) = answer.version_id.filter(|version| version != "null") else {
        return Err(Failure::Usage(format!(
            "the bucket {bucket} has no versioning, so what becomes of an object cannot be told from its name"
        )));
    };
    let id = EventId::of_write(bucket, &write.key, &version).to_string();
    if write.is_notified_twice {
        let queue = stack.output("WorkQueueUrl")?;
        let is_fifo = stack.optional_output("OrderedDeadLetterQueueUrl").is_some();
        stack
            .sqs
            .send_message()
            .queue_url(queue)
            .message_body(fleet::notification(bucket, &write.key, &version))
            .set_message_group_id(is_fifo.then(|| write.device.clone()))
            .set_message_deduplication_id(is_fifo.then(|| format!("{id}-again")))
            .send()
            .await
            .map_err(Failure::of("sqs:SendMessage"))?;
    }
    Ok(Uploaded { id, write, at })
}

async fn watch(
    stack: &Stack,
    done: &AtomicU64,
    looks: &mut Vec<Look>,
    progress: &crate::output::Progress,
    total: u32,
) -> Failure {
    loop {
        match look(stack, done.load(Ordering::Relaxed)).await {
            Ok(look) => {
                let (uploaded, waiting) = (number(look.uploaded), number(look.waiting));
                let total = number(u64::from(total));
                progress.say(&format!(
                    "{uploaded} of {total} uploaded, {waiting} wait in the work queue"
                ));
                looks.push(look);
            }
            Err(error) => return error,
        }
        sleep(TICK).await;
    }
}

async fn look(stack: &Stack, uploaded: u64) -> Result<Look, Failure> {
    let depth = stack.depth(stack.output("WorkQueueUrl")?).await?;
    Ok(Look { at: Timestamp::now(), uploaded, waiting: depth.total() })
}

/// The ids of what was uploaded.
fn ids(uploaded: &[Uploaded]) -> HashSet<&str> {
    uploaded.iter().map(|uploaded| uploaded.id.as_str()).collect()
}

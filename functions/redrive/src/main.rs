use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use platform::{Deadline, Metrics, Queue, Settings};
use redrive::{Archive, Config, DeadLetterQueue, Executions, Redriver, Uploads};
use serde_json::value::RawValue;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let redriver = Settings::from_env(|settings| {
        platform::init_log(settings.optional("RUST_LOG"));
        let sdk = platform::sdk_config(settings);
        let sqs = aws_sdk_sqs::Client::new(&sdk);
        let s3 = aws_sdk_s3::Client::new(&sdk);
        let max_bytes = settings.number("MAX_OBJECT_BYTES", 0, 0..=u64::MAX);
        let uploads = settings.optional("UPLOAD_BUCKET").map(|bucket: String| Uploads {
            key_prefix: settings.optional("KEY_PREFIX").unwrap_or_default(),
            key_suffix: settings.optional("KEY_SUFFIX").unwrap_or_default(),
            max_bytes: (max_bytes > 0).then_some(max_bytes),
            ..Uploads::new(s3.clone(), bucket, settings.required("AWS_REGION"))
        });
        Redriver {
            config: Config::read(settings),
            metrics: Metrics::new(
                settings.required("METRICS_NAMESPACE"),
                settings.required("AWS_LAMBDA_FUNCTION_NAME"),
            ),
            dead_letter_queue: DeadLetterQueue::new(
                sqs.clone(),
                settings.required("DEAD_LETTER_QUEUE_URL"),
            ),
            work_queue: Queue::new(sqs.clone(), settings.required("WORK_QUEUE_URL")),
            other_dead_letter_queue: settings
                .optional("OTHER_DEAD_LETTER_QUEUE_URL")
                .map(|url: String| DeadLetterQueue::new(sqs.clone(), url)),
            archive: Archive::new(s3, settings.required("ARCHIVE_BUCKET")),
            executions: Executions::new(
                aws_sdk_sfn::Client::new(&sdk),
                &settings.required("STATE_MACHINE_ARN"),
            ),
            uploads,
        }
    })?;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        let deadline = Deadline::from_epoch_millis(event.context.deadline);
        redriver.handle(event.payload.get(), deadline, Timestamp::now()).await
    }))
    .await
}

use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use platform::{Deadline, Metrics, Queue, Settings};
use redrive::{Archive, Config, DeadLetterQueue, Executions, Redriver};
use serde_json::value::RawValue;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let redriver = Settings::from_env(|settings| {
        platform::init_log(settings.optional("RUST_LOG"));
        let sdk = platform::sdk_config(settings)?;
        let sqs = aws_sdk_sqs::Client::new(&sdk);
        Ok::<_, Error>(Redriver {
            config: Config::read(settings),
            metrics: Metrics::new(
                settings.required("METRICS_NAMESPACE"),
                settings.required("AWS_LAMBDA_FUNCTION_NAME"),
            ),
            dead_letter_queue: DeadLetterQueue::new(
                sqs.clone(),
                settings.required("DEAD_LETTER_QUEUE_URL"),
            ),
            work_queue: Queue::new(sqs, settings.required("WORK_QUEUE_URL")),
            archive: Archive::new(
                aws_sdk_s3::Client::new(&sdk),
                settings.required("ARCHIVE_BUCKET"),
            ),
            executions: Executions::new(
                aws_sdk_sfn::Client::new(&sdk),
                &settings.required("STATE_MACHINE_ARN"),
            ),
        })
    })??;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        let deadline = Deadline::from_epoch_millis(event.context.deadline);
        redriver.handle(event.payload.get(), deadline, Timestamp::now()).await
    }))
    .await
}

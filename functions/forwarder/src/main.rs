use forwarder::{Config, Forwarder};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use platform::{Deadline, Metrics, Queue, Settings};
use serde_json::value::RawValue;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let forwarder = Settings::from_env(|settings| {
        platform::init_log(settings.optional("RUST_LOG"));
        let sqs = aws_sdk_sqs::Client::new(&platform::sdk_config(settings));
        Forwarder {
            config: Config::read(settings),
            metrics: Metrics::new(
                settings.required("METRICS_NAMESPACE"),
                settings.required("AWS_LAMBDA_FUNCTION_NAME"),
            ),
            work_queue: Queue::new(sqs.clone(), settings.required("WORK_QUEUE_URL")),
            dead_letter_queue: Queue::new(sqs, settings.required("DEAD_LETTER_QUEUE_URL")),
        }
    })?;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        let deadline = Deadline::from_epoch_millis(event.context.deadline);
        forwarder.handle(event.payload.get(), deadline).await
    }))
    .await
}

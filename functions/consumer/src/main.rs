use std::sync::Arc;

use aws_lambda_events::event::sqs::SqsEvent;
use consumer::{Config, Consumer, Pace, Running};
use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use platform::{Deadline, Metrics, Queue, Settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let consumer = Settings::from_env(|settings| {
        platform::init_log(settings.optional("RUST_LOG"));
        let sdk = platform::sdk_config(settings);
        let for_queues = sdk.clone();
        // A batch without failures sends nothing to them.
        let [work_queue, dead_letter_queue] = Queue::on_demand(
            move || aws_sdk_sqs::Client::new(&for_queues),
            ["WORK_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"].map(|name| settings.required(name)),
        );
        Consumer {
            config: Config::read(settings),
            pace: Arc::new(Pace::default()),
            running: Arc::new(Running::default()),
            metrics: Metrics::new(
                settings.required("METRICS_NAMESPACE"),
                settings.required("AWS_LAMBDA_FUNCTION_NAME"),
            ),
            step_functions: consumer::step_functions_client((&sdk).into()),
            s3: aws_sdk_s3::Client::new(&sdk),
            work_queue,
            dead_letter_queue,
        }
    })?;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<SqsEvent>| {
        let deadline = Deadline::from_epoch_millis(event.context.deadline);
        consumer.handle(event.payload, deadline, Timestamp::now()).await
    }))
    .await
}

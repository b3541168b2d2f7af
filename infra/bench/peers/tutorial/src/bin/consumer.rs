use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use futures::{StreamExt, stream};
use lambda_runtime::{Error, LambdaEvent, service_fn, tracing};
use tutorial::Event;

const INLINE_MAX_BYTES: i64 = 131_072;

struct Consumer {
    s3: aws_sdk_s3::Client,
    step_functions: aws_sdk_sfn::Client,
    state_machine_arn: String,
    concurrency: usize,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let consumer = Consumer {
        s3: aws_sdk_s3::Client::new(&config),
        step_functions: aws_sdk_sfn::Client::new(&config),
        state_machine_arn: std::env::var("STATE_MACHINE_ARN")?,
        concurrency: std::env::var("START_CONCURRENCY")?.parse()?,
    };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<SqsEvent>| {
        Ok::<_, Error>(consumer.handle(event.payload).await)
    }))
    .await
}

impl Consumer {
    async fn handle(&self, event: SqsEvent) -> SqsBatchResponse {
        let failures = stream::iter(event.records)
            .map(async |record| match self.start(&record).await {
                Ok(event) => {
                    tracing::info!(event.id = event.id, object.key = event.data.key, "started");
                    None
                }
                Err(error) => {
                    tracing::error!(error, message.id = record.message_id, "failed");
                    Some(record.message_id.unwrap_or_default())
                }
            })
            .buffer_unordered(self.concurrency)
            .filter_map(async |failure| failure);
        let mut response = SqsBatchResponse::default();
        for id in failures.collect::<Vec<_>>().await {
            response.add_failure(id);
        }
        response
    }

    async fn start(&self, record: &SqsMessage) -> Result<Event, Error> {
        let mut event: Event = serde_json::from_str(record.body.as_deref().unwrap_or_default())?;
        if event.data.size.is_some_and(|size| size <= INLINE_MAX_BYTES) {
            let object = self
                .s3
                .get_object()
                .bucket(&event.data.bucket)
                .key(&event.data.key)
                .set_version_id(event.data.version_id.clone())
                .send()
                .await?;
            let bytes = object.body.collect().await?.into_bytes();
            event.data.content = Some(serde_json::from_slice(&bytes)?);
        }
        let answer = self
            .step_functions
            .start_execution()
            .state_machine_arn(&self.state_machine_arn)
            .name(&event.id)
            .input(serde_json::to_string(&event)?)
            .send()
            .await;
        match answer.map_err(aws_sdk_sfn::Error::from) {
            Ok(_) | Err(aws_sdk_sfn::Error::ExecutionAlreadyExists(_)) => Ok(event),
            Err(error) => Err(error.into()),
        }
    }
}

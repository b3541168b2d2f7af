use aws_lambda_events::event::s3::S3Event;
use aws_sdk_sqs::{Client, types::SendMessageBatchRequestEntry};
use futures::future::try_join_all;
use lambda_runtime::{Error, LambdaEvent, service_fn, tracing};
use tutorial::Event;

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let client = Client::new(&config);
    let queue_url = std::env::var("WORK_QUEUE_URL")?;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<S3Event>| {
        handle(&client, &queue_url, event.payload).await
    }))
    .await
}

async fn handle(client: &Client, queue_url: &str, event: S3Event) -> Result<(), Error> {
    let events = event.records.iter().map(Event::try_from).collect::<Result<Vec<_>, _>>()?;
    try_join_all(events.chunks(10).map(|chunk| send(client, queue_url, chunk))).await?;
    for event in &events {
        tracing::info!(event.id = event.id, object.key = event.data.key, "forwarded");
    }
    Ok(())
}

async fn send(client: &Client, queue_url: &str, events: &[Event]) -> Result<(), Error> {
    let entries = events.iter().enumerate().map(|(index, event)| {
        let device: Vec<_> = event.data.key.split('/').take(2).collect();
        SendMessageBatchRequestEntry::builder()
            .id(index.to_string())
            .message_body(serde_json::to_string(event)?)
            .message_group_id(device.join("/"))
            .build()
            .map_err(Error::from)
    });
    let entries = entries.collect::<Result<Vec<_>, Error>>()?;
    let answer =
        client.send_message_batch().queue_url(queue_url).set_entries(Some(entries)).send().await?;
    match answer.failed().first() {
        Some(entry) => Err(format!("entry {} failed: {}", entry.id(), entry.code()).into()),
        None => Ok(()),
    }
}

//! The wire between an SDK client and the simulated services: AWS' JSON protocol for SQS and Step
//! Functions, REST with XML for S3.

use std::{io, time::Duration};

use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    Aws, Call,
    fault::Fault,
    gate, s3, sqs,
    world::{Answer, Request, Service, ServiceError},
};

/// The HTTP client of an SDK client.
#[derive(Debug, Clone)]
pub(crate) struct Wire(pub(crate) Aws);

impl HttpClient for Wire {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let aws = self.0.clone();
        HttpConnectorFuture::new(async move { answer(&aws, request).await })
    }
}

/// One attempt of one call. Half of its latency lies before its effect and half behind, so that a
/// caller that gives up, or is dropped, may do so before or after it.
pub(crate) async fn answer(
    aws: &Aws,
    request: HttpRequest,
) -> Result<HttpResponse, ConnectorError> {
    let request = decode(request).await;
    if let Some(gate) = aws.gate() {
        return gate::answer(aws, gate, request).await;
    }
    let (index, half) = {
        let mut world = aws.world();
        let at = world.now();
        let (operation, input) = (request.operation.clone(), request.input.clone());
        world.calls.push(Call { at, operation, input, answer: None });
        (world.calls.len() - 1, world.draw_latency() / 2)
    };
    sleep(half).await;
    let fault = aws.world().fault(&request);
    let result = match fault {
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Panic) => panic!("as the test says"),
        Some(Fault::Reset) => Err(None),
        Some(Fault::Error { code, message }) => Err(Some(ServiceError { code, message })),
        Some(Fault::AnswerLost) => {
            serve(aws, &request, half).await.ok();
            Err(None)
        }
        None => serve(aws, &request, half).await.map_err(Some),
    };
    sleep(half).await;
    let (told, result) = match result {
        Ok(answer) => ("OK".to_owned(), Ok(response(answer))),
        Err(Some(error)) => (error.code.clone(), Ok(response(error_answer(&request, &error)))),
        Err(None) => {
            let reset = io::Error::from(io::ErrorKind::ConnectionReset);
            ("reset".to_owned(), Err(ConnectorError::io(reset.into())))
        }
    };
    aws.world().calls[index].answer = Some(told);
    result
}

/// Lets the service act. A receive that finds nothing waits as long as it is asked to.
pub(crate) async fn serve(
    aws: &Aws,
    request: &Request,
    half: Duration,
) -> Result<Answer, ServiceError> {
    let until = {
        let world = aws.world();
        let wait = sqs::wait(request).saturating_sub(half);
        world.instant(world.now()) + wait
    };
    loop {
        let changed = aws.changed().notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let (answer, next) = {
            let mut world = aws.world();
            let answer = world.serve(request);
            (answer, sqs::next_change(&world, request))
        };
        if request.operation != "ReceiveMessage" {
            aws.changed().notify_waiters();
            return answer;
        }
        let is_empty = answer.as_ref().is_ok_and(|answer| answer.body == sqs::NO_MESSAGES);
        if !is_empty || Instant::now() >= until {
            return answer;
        }
        // Something is sent, something becomes visible, or the time is up.
        let wake = next.map_or(until, |next| next.min(until));
        timeout_at(wake, changed).await.ok();
    }
}

async fn decode(mut request: HttpRequest) -> Request {
    let body = ByteStream::new(request.take_body()).collect().await.expect("a body").to_vec();
    let Some(target) = request.headers().get("x-amz-target") else {
        return s3::decode(&request, body);
    };
    let (service, operation) = target.split_once('.').expect("a service and an operation");
    let service = match service {
        "AmazonSQS" => Service::Sqs,
        "AWSStepFunctions" => Service::StepFunctions,
        other => panic!("{other} is not simulated"),
    };
    let input = serde_json::from_slice(&body).expect("JSON");
    Request { service, operation: operation.to_owned(), input, body: Vec::new() }
}

pub(crate) fn error_answer(request: &Request, error: &ServiceError) -> Answer {
    let status = error.status(request.service);
    let ServiceError { code, message } = error;
    if request.service == Service::S3 {
        return s3::error_answer(request, status, error);
    }
    let mut headers = vec![("content-type", "application/x-amz-json-1.0".to_owned())];
    if request.service == Service::Sqs {
        let fault = if status < 500 { "Sender" } else { "Receiver" };
        headers.push(("x-amzn-query-error", format!("{code};{fault}")));
    }
    let kind = code.rsplit('.').next().unwrap_or(code);
    let body = json!({ "__type": kind, "message": message }).to_string().into_bytes();
    Answer { status, headers, body }
}

pub(crate) fn response(answer: Answer) -> HttpResponse {
    let status = StatusCode::try_from(answer.status).expect("a status");
    let mut response = HttpResponse::new(status, SdkBody::from(answer.body));
    for (name, value) in answer.headers {
        response.headers_mut().insert(name, value);
    }
    response
}

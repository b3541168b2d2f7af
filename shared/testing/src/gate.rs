//! A gate between the clients and the services, for a simulation that decides about every call.

use std::{fmt, future, io, panic, sync::Arc, time::Duration};

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::ConnectorError};
use serde_json::{Value, json};
use tokio::{spawn, time::sleep};

use crate::{
    Aws, SimulatedQueue,
    http::{error_answer, response, serve},
    world::{Answer, Request, Service, ServiceError},
};

/// Sees every attempt of every call and decides how it goes. All of its methods are called on the
/// thread that makes the calls, and nothing else happens between the effect of a call and
/// [`answers`](Self::answers).
pub trait Gate: fmt::Debug + Send + Sync {
    /// A caller sends a call.
    fn sends(&self, call: &Sent<'_>) -> Trip;

    /// The call reaches the service, which will do what the input says by then.
    fn arrives(&self, trip: Trip, call: &Sent<'_>, input: &mut Value) -> Way;

    /// The service has done what it was asked to do. What it says can still be changed; `false` if
    /// that never reaches the caller.
    fn answers(&self, trip: Trip, call: &Sent<'_>, answer: Result<&mut Value, &str>) -> bool;
}

/// A call as a caller sends it.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'c> {
    pub operation: &'c str,
    /// The parameters under the names that AWS gives them. S3 has them in path, query and headers.
    pub input: &'c Value,
    /// The content that is written to S3.
    pub body: &'c [u8],
}

/// The way of a call to the service and back.
#[derive(Debug, Clone, Copy)]
pub struct Trip {
    /// Whatever the gate knows the caller by.
    pub caller: u64,
    pub there: Duration,
    pub back: Duration,
    /// Whether the call reaches the service even if the caller has given up by then.
    pub is_on_its_way: bool,
}

/// How a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    Through,
    /// The service does nothing and answers with status 200. The gate says what, in
    /// [`answers`](Gate::answers).
    DoesNothing,
    /// The service answers with an error of this code and does nothing.
    Fails(String),
    /// The service does nothing, and the connection is reset.
    Resets,
    /// The service does nothing, and no answer ever comes.
    Silent,
    /// The service does what it was asked to do, and then the connection is reset.
    LosesAnswer,
    /// The caller panics.
    Panics,
}

/// One attempt of one call.
pub(crate) async fn answer(
    aws: &Aws,
    gate: &Arc<dyn Gate>,
    request: Request,
) -> Result<HttpResponse, ConnectorError> {
    let Request { operation, input, body, .. } = &request;
    let trip = gate.sends(&Sent { operation, input, body });
    let act = act(aws.clone(), gate.clone(), trip, request);
    if !trip.is_on_its_way {
        return act.await;
    }
    match spawn(act).await {
        Ok(result) => result,
        Err(panic) => panic::resume_unwind(panic.into_panic()),
    }
}

async fn act(
    aws: Aws,
    gate: Arc<dyn Gate>,
    trip: Trip,
    mut request: Request,
) -> Result<HttpResponse, ConnectorError> {
    sleep(trip.there).await;
    let input = request.input.clone();
    let body = std::mem::take(&mut request.body);
    let operation = request.operation.clone();
    let call = Sent { operation: &operation, input: &input, body: &body };
    let way = gate.arrives(trip, &call, &mut request.input);
    let reset = || ConnectorError::io(io::Error::from(io::ErrorKind::ConnectionReset).into());
    let result = match way {
        Way::Panics => panic::resume_unwind(Box::new("as the simulation says")),
        Way::Silent => future::pending().await,
        Way::Resets => return Err(reset()),
        Way::Fails(code) => {
            let message = "as the simulation says".to_owned();
            response(error_answer(&request, &ServiceError { code, message }))
        }
        Way::DoesNothing => {
            let mut value = json!({});
            if !gate.answers(trip, &call, Ok(&mut value)) {
                future::pending::<()>().await;
            }
            response(Answer::json(value))
        }
        Way::Through | Way::LosesAnswer => {
            request.body.clone_from(&body);
            let mut result = serve(&aws, &request, trip.there).await;
            let reaches = match &mut result {
                Ok(answer) if request.service == Service::S3 => {
                    let mut nothing = json!({ "status": answer.status });
                    gate.answers(trip, &call, Ok(&mut nothing))
                }
                Ok(answer) => {
                    let mut value = serde_json::from_slice(&answer.body).unwrap_or_default();
                    let reaches = gate.answers(trip, &call, Ok(&mut value));
                    answer.body = value.to_string().into_bytes();
                    reaches
                }
                Err(error) => gate.answers(trip, &call, Err(&error.code)),
            };
            if !reaches {
                future::pending::<()>().await;
            }
            if way == Way::LosesAnswer {
                return Err(reset());
            }
            response(result.unwrap_or_else(|error| error_answer(&request, &error)))
        }
    };
    sleep(trip.back).await;
    Ok(result)
}

impl SimulatedQueue {
    /// What AWS itself does with the queue, as Lambda does when it deletes a message: at once, past
    /// the gate, and nothing goes wrong. None if SQS refuses it.
    pub fn does(&self, operation: &str, mut input: Value) -> Option<Value> {
        input["QueueUrl"] = json!(self.url());
        let request = sqs_request(operation, input);
        let answer = self.aws().world().serve(&request).ok()?;
        self.aws().changed().notify_waiters();
        serde_json::from_slice(&answer.body).ok()
    }

    /// The answer of a `ReceiveMessage` by AWS itself, which waits as long as it is asked to.
    pub async fn is_polled(&self, mut input: Value) -> Value {
        input["QueueUrl"] = json!(self.url());
        let request = sqs_request("ReceiveMessage", input);
        let answer = serve(self.aws(), &request, Duration::ZERO).await;
        answer.ok().and_then(|answer| serde_json::from_slice(&answer.body).ok()).unwrap_or_default()
    }

    /// From now on a receive shows messages in an order that the seed decides, as a standard queue
    /// may do.
    pub fn keeps_no_order(&self) {
        let mut world = self.aws().world();
        let seed = world.rng.u64(..);
        if let Some(queue) = world.queues.get_mut(self.name()) {
            queue.disorder = Some(fastrand::Rng::with_seed(seed));
        }
    }
}

fn sqs_request(operation: &str, input: Value) -> Request {
    Request { service: Service::Sqs, operation: operation.to_owned(), input, body: Vec::new() }
}

//! The HTTP client below the SDK: hyper's own, with its pool of connections, over rustls.
//!
//! The SDK's client, aws-smithy-http-client, asks for HTTP/2 with each of its TLS features: 0.6 MB
//! that no endpoint of SQS, Step Functions or S3 speaks. Kept from it are the time-out of a
//! connection, the poisoning of connections, and how errors are told apart. Not kept, because nothing
//! here asks for it: time-outs of reads (that of the attempt is shorter), proxies (which it ignores
//! too, unless the code names one), addresses and durations for the SDK's metrics, and its shorter
//! list of cipher suites.

use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind},
    iter,
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    connection::{CaptureSmithyConnection, ConnectionMetadata},
    connector_metadata::ConnectorMetadata,
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::{body::SdkBody, retry};
use hyper::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{
        self, Client,
        connect::{CaptureConnection, Connect, HttpConnector as Tcp, capture_connection},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, crypto::ring};
use tokio::time::timeout;
use tower::{Service as _, service_fn};

use crate::trust::Trust;

/// Until TCP and TLS are set up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The HTTP client of all SDK clients of a function. It looks at none of their settings, of which the
/// only ones are time-outs.
#[derive(Debug)]
pub(crate) struct Connector(SharedHttpConnector);

impl Connector {
    /// Sets nothing up yet. TLS is set up for the first connection.
    pub(crate) fn new(trust: Trust) -> Self {
        let tls = Arc::new(OnceLock::new());
        let connect = service_fn(move |uri: Uri| {
            let connecting = set_up(&tls, &trust).map(|mut https| https.call(uri));
            Box::pin(async move {
                timeout(CONNECT_TIMEOUT, connecting?).await.unwrap_or_else(|_| {
                    let problem = format!("no connection within {CONNECT_TIMEOUT:?}");
                    Err(io::Error::new(ErrorKind::TimedOut, problem).into())
                })
            })
        });
        let client = Client::builder(TokioExecutor::new())
            // Without it, idle connections would stay in the pool until something breaks them.
            .pool_timer(TokioTimer::new())
            .build(connect);
        Self(SharedHttpConnector::new(Adapter(client)))
    }
}

impl HttpClient for Connector {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.0.clone()
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        Some(ConnectorMetadata::new("hyper", Some("1.x".into())))
    }
}

type Https = HttpsConnector<Tcp>;

fn set_up(once: &OnceLock<Https>, trust: &Trust) -> Result<Https, Box<dyn Error + Send + Sync>> {
    if let Some(https) = once.get() {
        return Ok(https.clone());
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trust.roots()?)
        .with_no_client_auth();
    let mut tcp = Tcp::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    Ok(once.get_or_init(|| (tcp, tls).into()).clone())
}

/// Makes one attempt of a call over hyper's client.
#[derive(Debug)]
struct Adapter<C>(Client<C, SdkBody>);

impl<C> HttpConnector for Adapter<C>
where
    C: Connect + Clone + fmt::Debug + Send + Sync + 'static,
{
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => {
                return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into())));
            }
        };
        let connection = capture_connection(&mut request);
        if let Some(capture) = request.extensions().get::<CaptureSmithyConnection>() {
            capture.set_connection_retriever(move || poisonable(&connection));
        }
        let answer = self.0.request(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await.map_err(classify)?;
            HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// What the SDK takes out of the pool after an error that may be the connection's fault.
fn poisonable(connection: &CaptureConnection) -> Option<ConnectionMetadata> {
    connection.connection_metadata().as_ref()?;
    let connection = connection.clone();
    let poison = move || {
        if let Some(connected) = connection.connection_metadata().as_ref() {
            connected.poison();
        }
    };
    Some(ConnectionMetadata::builder().proxied(false).poison_fn(poison).build())
}

/// Tells the SDK what it tries again: time-outs and broken connections, and an answer that ends too
/// early, which S3 is known for; not what is wrong with the request or is no HTTP.
fn classify(error: legacy::Error) -> ConnectorError {
    let http = find::<hyper::Error>(&error);
    let io = find::<io::Error>(&error);
    if io.is_some_and(|io| io.kind() == ErrorKind::TimedOut) {
        ConnectorError::timeout(error.into())
    } else if http.is_some_and(hyper::Error::is_user) {
        ConnectorError::user(error.into())
    } else if error.is_connect()
        || io.is_some()
        || http.is_some_and(|http| http.is_closed() || http.is_canceled())
    {
        ConnectorError::io(error.into())
    } else {
        let ended_early = http.is_some_and(hyper::Error::is_incomplete_message);
        let kind = ended_early.then_some(retry::ErrorKind::TransientError);
        ConnectorError::other(error.into(), kind)
    }
}

fn find<'a, E: Error + 'static>(error: &'a legacy::Error) -> Option<&'a E> {
    let first: &'a (dyn Error + 'static) = error;
    iter::successors(Some(first), |&error| error.source()).find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests;

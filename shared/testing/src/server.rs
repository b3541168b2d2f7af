//! The simulated AWS over HTTP, for a function that is a process of its own.

use std::{
    error::Error,
    io,
    net::{Ipv4Addr, SocketAddr},
};

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::{Aws, http::answer};

impl Aws {
    /// Answers over HTTP as long as the runtime lives: the address, for `AWS_ENDPOINT_URL`. Its time
    /// is that of the runtime, so this is no use on a paused clock.
    pub async fn is_served(&self) -> io::Result<String> {
        let aws = self.clone();
        let address = serve(move |request| respond(aws.clone(), request)).await?;
        Ok(format!("http://{address}"))
    }
}

/// A server of HTTP on a free port, as long as the runtime lives: its address. An error instead of an
/// answer breaks the connection.
pub async fn serve<F>(
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) -> io::Result<SocketAddr>
where
    F: Future<Output = Result<Response<Full<Bytes>>, Box<dyn Error + Send + Sync>>>
        + Send
        + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(answer.clone());
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                // It ends with the client, or with an answer that is an error.
                connection.await.ok();
            });
        }
    });
    Ok(address)
}

async fn respond(
    aws: Aws,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Box<dyn Error + Send + Sync>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let request = HttpRequest::try_from(Request::from_parts(parts, SdkBody::from(body)))
        .expect("what hyper has read is a request");
    let response = answer(&aws, request).await?.try_into_http1x().expect("a response");
    let (parts, body) = response.into_parts();
    let body = body.bytes().expect("a body in memory").to_vec();
    Ok(Response::from_parts(parts, Full::from(body)))
}

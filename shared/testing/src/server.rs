//! The simulated AWS over HTTP, for a function that is a process of its own.

use std::{io, net::Ipv4Addr};

use aws_smithy_runtime_api::client::{orchestrator::HttpRequest, result::ConnectorError};
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
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let aws = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let aws = aws.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| respond(&aws, request));
                    let connection =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    // It ends with the client, or as a call does that gets no answer.
                    connection.await.ok();
                });
            }
        });
        Ok(format!("http://{address}"))
    }
}

/// An error is what a client sees as a broken connection.
async fn respond(
    aws: &Aws,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, ConnectorError> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|error| ConnectorError::io(error.into()))?.to_bytes();
    let request = HttpRequest::try_from(Request::from_parts(parts, SdkBody::from(body)))
        .expect("what hyper has read is a request");
    let response = answer(aws, request).await?.try_into_http1x().expect("a response");
    let (parts, body) = response.into_parts();
    let body = body.bytes().expect("a body in memory").to_vec();
    Ok(Response::from_parts(parts, Full::from(body)))
}

//! Over real sockets: what servers do to a connection, and what the SDK makes of it.

use std::{env, fs, net::Ipv4Addr, process, sync::Arc};

use aws_config::retry::RetryConfig;
use aws_sdk_sqs::{
    Client as Sqs,
    config::{Credentials, SharedCredentialsProvider},
    error::SdkError,
    operation::get_queue_url::GetQueueUrlError,
};
use futures::stream;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::pause,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{InWords, Settings, sdk_config, settings::lookup_in};

/// What a server does with a request once it has read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Do {
    Answer(u16),
    AnswerInWords,
    AnswerHalf,
    Close,
    Reset,
    Nothing,
}
use Do::{Answer, AnswerHalf, AnswerInWords, Close, Nothing, Reset};

/// A server that is told for each of its connections what to do with each request, and closes it
/// after the last.
struct Server {
    address: String,
    /// The number of the connection of each request.
    requests: UnboundedReceiver<usize>,
}

impl Server {
    async fn start<const N: usize>(connections: [&'static [Do]; N]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (requested, requests) = unbounded_channel();
        tokio::spawn(async move {
            for (number, script) in connections.into_iter().enumerate() {
                let (mut stream, _) = listener.accept().await.unwrap();
                let requested = requested.clone();
                tokio::spawn(async move {
                    for &what in script {
                        if !read_request(&mut stream).await {
                            return;
                        }
                        requested.send(number).unwrap();
                        if what == Reset {
                            stream.set_zero_linger().unwrap();
                        }
                        act(&mut stream, what).await;
                    }
                });
            }
        });
        Self { address, requests }
    }

    fn client(&self) -> Sqs {
        client(&[("AWS_ENDPOINT_URL", &self.address)])
    }

    /// The number of the connection of each request so far.
    fn requests(&mut self) -> Vec<usize> {
        iter::from_fn(|| self.requests.try_recv().ok()).collect()
    }
}

/// Whether there was one before the connection ended.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut request = Vec::new();
    while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
        if request.ends_with(br#"{"QueueName":"work"}"#) {
            return true;
        }
    }
    false
}

async fn act(stream: &mut (impl AsyncWrite + Unpin), what: Do) {
    const BODY: &str = r#"{"QueueUrl":"https://queue"}"#;
    let length = BODY.len();
    let answer = match what {
        Answer(status) => format!("HTTP/1.1 {status} \r\ncontent-length: {length}\r\n\r\n{BODY}"),
        AnswerHalf => format!("HTTP/1.1 200 \r\ncontent-length: {}\r\n\r\n{BODY}", length + 1),
        AnswerInWords => "Sorry, wrong number.\r\n\r\n".to_owned(),
        Close | Reset => return,
        Nothing => std::future::pending().await,
    };
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// A client as the functions have it.
fn client(settings: &[(&str, &str)]) -> Sqs {
    let settings = [settings, &[("AWS_REGION", "eu-west-1")]].concat();
    let config = Settings::from_lookup(&lookup_in(&settings), sdk_config).unwrap();
    let credentials = Credentials::new("key", "secret", None, None, "test");
    let config = config
        .into_builder()
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    Sqs::new(&config)
}

/// The same client, which gives up after one attempt.
fn trying_once(client: &Sqs) -> Sqs {
    let config = client.config().to_builder().retry_config(RetryConfig::disabled());
    Sqs::from_conf(config.build())
}

async fn ask(client: &Sqs) -> Result<(), SdkError<GetQueueUrlError>> {
    client.get_queue_url().queue_name("work").send().await.map(|_| ())
}

async fn refusal(client: &Sqs) -> SdkError<GetQueueUrlError> {
    ask(client).await.expect_err("no answer")
}

#[tokio::test]
async fn a_connection_serves_one_call_after_another() {
    let mut server = Server::start([&[Answer(200), Answer(400), Answer(200)]]).await;
    let client = server.client();

    ask(&client).await.unwrap();
    let refused = refusal(&client).await;
    ask(&client).await.unwrap();

    assert!(refused.as_service_error().is_some(), "{refused:?}");
    assert_eq!(server.requests(), [0, 0, 0]);
}

#[tokio::test]
async fn a_connection_on_which_the_service_failed_serves_no_further_call() {
    let mut server = Server::start([&[Answer(500), Answer(200)], &[Answer(200)]]).await;
    ask(&server.client()).await.unwrap();
    assert_eq!(server.requests(), [0, 1]);
}

#[tokio::test]
async fn a_call_is_tried_again_if_its_connection_breaks() {
    for breaking in [&[Reset], &[Close], &[AnswerHalf]] {
        let mut server = Server::start([breaking, &[Answer(200)]]).await;
        ask(&server.client()).await.unwrap();
        assert_eq!(server.requests(), [0, 1], "{breaking:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_closed_between_two_calls_does_no_harm() {
    let mut server = Server::start([&[Answer(200)], &[Answer(200)]]).await;
    let client = server.client();
    ask(&client).await.unwrap();
    ask(&client).await.unwrap();
    assert_eq!(server.requests(), [0, 1]);
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_not_asked_for_again() {
    let mut server = Server::start([&[AnswerInWords]]).await;
    let error = refusal(&server.client()).await;
    assert!(InWords(&error).to_string().contains("invalid HTTP"), "{}", InWords(&error));
    assert_eq!(server.requests(), [0]);
}

#[tokio::test]
async fn a_request_whose_body_cannot_be_read_is_the_fault_of_the_caller() {
    let server = Server::start([&[Answer(200)]]).await;
    let unreadable = Err::<Frame<Bytes>, _>(io::Error::other("unreadable"));
    let body = StreamBody::new(stream::iter([unreadable]));
    let mut request = HttpRequest::new(SdkBody::from_body_1_x(body));
    request.set_method("POST").unwrap();
    request.set_uri(server.address.as_str()).unwrap();
    let Connector(connector) = Connector::new(Trust::Amazon);
    let error = connector.call(request).await.expect_err("no answer");
    assert!(error.is_user(), "{error:?}");
}

#[tokio::test]
async fn where_nobody_listens_there_is_an_error_that_is_worth_another_try() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);

    let error = refusal(&client(&[("AWS_ENDPOINT_URL", &address)])).await;

    let SdkError::DispatchFailure(failure) = &error else { panic!("{error:?}") };
    assert!(failure.is_io(), "{failure:?}");
    assert!(InWords(&error).to_string().contains("Connection refused"), "{}", InWords(&error));
}

#[tokio::test]
async fn a_server_that_does_not_answer_ends_the_attempt_after_five_seconds() {
    let mut server = Server::start([&[Nothing]]).await;
    let client = trying_once(&server.client());
    let asking = tokio::spawn(async move { refusal(&client).await });

    assert_eq!(server.requests.recv().await, Some(0));
    // From here on, time goes by as soon as there is nothing else to do.
    pause();

    let error = asking.await.unwrap();
    assert!(matches!(error, SdkError::TimeoutError(_)), "{error:?}");
    assert!(InWords(&error).to_string().contains("occurred after 5s"), "{}", InWords(&error));
}

#[tokio::test]
async fn a_server_that_does_not_finish_the_handshake_ends_the_attempt_after_two_seconds() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let client = trying_once(&client(&[("AWS_ENDPOINT_URL", &address)]));
    let asking = tokio::spawn(async move { refusal(&client).await });

    let (mut stream, _) = listener.accept().await.unwrap();
    stream.read_u8().await.unwrap();
    pause();

    let error = asking.await.unwrap();
    let SdkError::DispatchFailure(failure) = &error else { panic!("{error:?}") };
    assert!(failure.is_timeout(), "{failure:?}");
    assert!(InWords(&error).to_string().contains("no connection within 2s"), "{}", InWords(&error));
}

#[tokio::test]
async fn only_the_certificates_that_are_named_are_trusted() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into(),
        )
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = tls.accept(stream).await {
                read_request(&mut stream).await;
                act(&mut stream, Answer(200)).await;
            }
        }
    });
    let bundle = env::temp_dir().join(format!("sluice-of-a-test-{}.pem", process::id()));
    fs::write(&bundle, cert.pem()).unwrap();

    let of_amazon = client(&[("AWS_ENDPOINT_URL", &address)]);
    let of_the_bundle =
        client(&[("AWS_ENDPOINT_URL", &address), ("AWS_CA_BUNDLE", bundle.to_str().unwrap())]);
    fs::remove_file(bundle).unwrap();

    let error = refusal(&of_amazon).await;
    assert!(InWords(&error).to_string().contains("UnknownIssuer"), "{}", InWords(&error));
    ask(&of_the_bundle).await.unwrap();
}

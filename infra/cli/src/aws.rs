//! Which stack an operator means, and how it is reached: the same chain of profiles, regions and
//! credentials as the AWS command line, and the outputs of the stack for everything else.

mod executions;
mod functions;
mod logs;
mod queues;
mod reports;

use std::{collections::BTreeMap, env, fs, path::Path};

use aws_config::{
    BehaviorVersion, Region, SdkConfig,
    profile::{ProfileFileCredentialsProvider, ProfileFileLoadError},
    provider_config::ProviderConfig,
};
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use clap::Args;

use crate::failure::Failure;

pub(crate) use executions::{Count, timestamp};
pub(crate) use logs::{FUNCTIONS, Found, LogLine};
pub(crate) use queues::Depth;
pub(crate) use reports::{Dated, LastReports, RedriveReport};

/// Which stack, and how to reach it
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The stack")]
pub(crate) struct Options {
    /// Name of the stack in CloudFormation
    #[arg(long, global = true, env = "SLUICE_STACK", default_value = "sluice")]
    pub(crate) stack: String,
    /// Profile in the configuration of the AWS command line (else `AWS_PROFILE`, else `default`)
    #[arg(long, global = true)]
    pub(crate) profile: Option<String>,
    /// Region of the stack (else `AWS_REGION`, else that of the profile)
    #[arg(long, global = true)]
    pub(crate) region: Option<String>,
    /// Where AWS is, if it is an emulator (else `AWS_ENDPOINT_URL`)
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
}

/// A stack that was found, with a client for each service.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub(crate) name: String,
    pub(crate) region: String,
    outputs: BTreeMap<String, String>,
    pub(crate) cloudformation: aws_sdk_cloudformation::Client,
    pub(crate) cloudwatch: aws_sdk_cloudwatch::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    /// Sends nothing a second time: a redrive that takes minutes must not be begun twice.
    pub(crate) lambda: aws_sdk_lambda::Client,
    pub(crate) logs: aws_sdk_cloudwatchlogs::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) sfn: aws_sdk_sfn::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
}

impl Stack {
    /// Finds the stack by its name, once it is sure that there are credentials at all.
    pub(crate) async fn find(options: &Options) -> Result<Self, Failure> {
        let config = load(options).await?;
        let region = config.region().ok_or(Failure::NoRegion)?.to_string();
        let credentials = config.credentials_provider().ok_or(Failure::NoCredentials)?;
        let profile = options.profile.clone().or_else(|| env::var("AWS_PROFILE").ok());
        credentials
            .provide_credentials()
            .await
            .map_err(|error| Failure::credentials(&error, profile.as_deref()))?;

        let cloudformation = aws_sdk_cloudformation::Client::new(&config);
        let place = Place {
            stack: options.stack.clone(),
            region: region.clone(),
            endpoint: config.endpoint_url().map(str::to_owned),
        };
        let answer = cloudformation.describe_stacks().stack_name(&options.stack).send().await;
        let answer = answer.map_err(|error| Failure::finding(&place, &error))?;
        let described = answer.stacks().first().ok_or_else(|| Failure::NoStack(place.clone()))?;
        let outputs = described.outputs().iter().filter_map(|output| {
            Some((output.output_key()?.to_owned(), output.output_value()?.to_owned()))
        });

        // The bucket in the path: an emulator has no host names for buckets.
        let s3 = aws_sdk_s3::config::Builder::from(&config)
            .force_path_style(config.endpoint_url().is_some());
        let lambda = aws_sdk_lambda::config::Builder::from(&config)
            .retry_config(aws_config::retry::RetryConfig::disabled());
        let stack = Self {
            name: options.stack.clone(),
            region,
            outputs: outputs.collect(),
            cloudwatch: aws_sdk_cloudwatch::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            lambda: aws_sdk_lambda::Client::from_conf(lambda.build()),
            logs: aws_sdk_cloudwatchlogs::Client::new(&config),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            sfn: aws_sdk_sfn::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            cloudformation,
        };
        // A stack of something else has outputs of other names. Better said now than halfway.
        stack.output("WorkQueueUrl")?;
        Ok(stack)
    }

    /// What the stack calls one of its parts.
    pub(crate) fn output(&self, name: &'static str) -> Result<&str, Failure> {
        self.optional_output(name)
            .ok_or_else(|| Failure::NoOutput { stack: self.name.clone(), output: name })
    }

    /// The same for what not every choice of parameters has.
    pub(crate) fn optional_output(&self, name: &str) -> Option<&str> {
        self.outputs.get(name).map(String::as_str)
    }
}

/// Where a stack was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) stack: String,
    pub(crate) region: String,
    pub(crate) endpoint: Option<String>,
}

async fn load(options: &Options) -> Result<SdkConfig, Failure> {
    let http = http_client()?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(url) = &options.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    let Some(name) = &options.profile else {
        if let Ok(name) = env::var("AWS_PROFILE") {
            check_profile(&name).await?;
        }
        return Ok(loader.load().await);
    };
    check_profile(name).await?;
    let config = loader.profile_name(name).load().await;
    // The profile that was asked for, even where the environment holds keys of somebody else.
    let provider = ProviderConfig::without_region()
        .with_region(config.region().cloned())
        .with_http_client(http);
    let credentials =
        ProfileFileCredentialsProvider::builder().profile_name(name).configure(&provider).build();
    let credentials = SharedCredentialsProvider::new(credentials);
    Ok(config.into_builder().credentials_provider(credentials).build())
}

/// Refuses a profile that is in neither file, with those that are.
#[expect(
    clippy::default_trait_access,
    reason = "the type has no name in the crates that are used here"
)]
async fn check_profile(name: &str) -> Result<(), Failure> {
    let profiles = aws_config::profile::load(
        &aws_types::os_shim_internal::Fs::real(),
        &aws_types::os_shim_internal::Env::real(),
        &Default::default(),
        None,
    )
    .await
    .map_err(|error: ProfileFileLoadError| Failure::Profiles(error.to_string()))?;
    if profiles.get_profile(name).is_some() {
        return Ok(());
    }
    let known = profiles.profiles().map(str::to_owned).collect();
    Err(Failure::NoProfile { name: name.to_owned(), known })
}

/// TLS as in the functions, rustls on ring, but with the certificates that the machine trusts and
/// those that `AWS_CA_BUNDLE` names: an operator may sit behind a proxy that opens TLS.
fn http_client() -> Result<aws_smithy_runtime_api::client::http::SharedHttpClient, Failure> {
    let mut trust = TrustStore::default();
    if let Some(path) = env::var_os("AWS_CA_BUNDLE") {
        let path = Path::new(&path);
        let pem = fs::read(path)
            .map_err(|error| Failure::Trust(format!("{}: {error}", path.display())))?;
        trust = trust.with_pem_certificate(pem);
    }
    let tls = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|error| Failure::Trust(error.to_string()))?;
    Ok(Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build_https())
}

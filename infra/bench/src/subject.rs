//! What is measured: Sluice, and what its users would pick instead.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::{Compression, write::DeflateEncoder};

use crate::aws::Aws;
use crate::lambda::Program;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Subject {
    Sluice,
    Tutorial,
    Node,
    Python,
    Floor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    Forwarder,
    Consumer,
}

impl Subject {
    pub const ALL: [Self; 5] =
        [Self::Sluice, Self::Tutorial, Self::Node, Self::Python, Self::Floor];

    pub fn label(self) -> &'static str {
        match self {
            Self::Sluice => "Sluice",
            Self::Tutorial => "Rust by the tutorial",
            Self::Node => "Node, SDK v3",
            Self::Python => "Python, boto3",
            Self::Floor => "lambda_runtime, doing nothing",
        }
    }
}

impl Job {
    pub fn name(self) -> &'static str {
        match self {
            Self::Forwarder => "forwarder",
            Self::Consumer => "consumer",
        }
    }
}

/// Where the subjects are.
#[derive(Debug, Clone)]
pub struct Places {
    /// What `sam build` made.
    pub functions: PathBuf,
    /// What was made of the peers.
    pub peers: PathBuf,
    /// Sources of Sluice.
    pub root: PathBuf,
    /// The interpreter of the environment with boto3 and awslambdaric.
    pub python: Option<PathBuf>,
    pub node: Option<PathBuf>,
}

impl Places {
    fn binary(&self, subject: Subject, job: Job) -> PathBuf {
        match (subject, job) {
            (Subject::Sluice, Job::Forwarder) => self.functions.join("ForwarderFunction/bootstrap"),
            (Subject::Sluice, Job::Consumer) => self.functions.join("ConsumerFunction/bootstrap"),
            (Subject::Floor, _) => self.peers.join("floor/lambda/floor/bootstrap"),
            (_, job) => self.peers.join(format!("tutorial/lambda/{}/bootstrap", job.name())),
        }
    }

    /// The certificates that AWS' endpoints chain to, as the subject itself would read them, and
    /// the mock's: so each of them parses what it parses on Lambda.
    fn bundle(&self, subject: Subject, aws: &Aws) -> Result<PathBuf> {
        let (name, roots) = match subject {
            Subject::Sluice | Subject::Floor => {
                ("amazon", self.root.join("shared/platform/src/amazon_roots.pem"))
            }
            Subject::Python => {
                let python = self.python.as_ref().context("no Python")?;
                let packages = python.parent().and_then(Path::parent).context("no environment")?;
                ("botocore", find(&packages.join("lib"), "botocore/cacert.pem")?)
            }
            Subject::Tutorial => ("system", system_certificates()?),
            Subject::Node => return aws.write_bundle("", &self.peers.join("authority.pem")),
        };
        let roots = fs::read_to_string(&roots)
            .with_context(|| format!("cannot read {}", roots.display()))?;
        aws.write_bundle(&roots, &self.peers.join(format!("{name}.pem")))
    }

    pub fn program(&self, subject: Subject, job: Job, aws: &Aws) -> Result<Program> {
        let bundle = self.bundle(subject, aws)?.display().to_string();
        let mut env = vec![
            ("AWS_ACCESS_KEY_ID", "ASIAIOSFODNN7EXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
            ("AWS_SESSION_TOKEN", "IQoJb3JpZ2luX2VjEXAMPLETOKEN".repeat(24)),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", format!("https://{}", aws.address)),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_EXECUTION_ENV", "AWS_Lambda_bench".to_owned()),
            ("AWS_LAMBDA_FUNCTION_NAME", format!("sluice-{}", job.name())),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256".to_owned()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/sluice".to_owned()),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "bench".to_owned()),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("LANG", "en_US.UTF-8".to_owned()),
            ("TZ", ":UTC".to_owned()),
            ("METRICS_NAMESPACE", "Sluice".to_owned()),
            ("STATE_MACHINE_ARN", STATE_MACHINE.to_owned()),
            ("WORK_QUEUE_URL", format!("https://{}/111122223333/work", aws.address)),
            ("DEAD_LETTER_QUEUE_URL", format!("https://{}/111122223333/dead", aws.address)),
            ("START_CONCURRENCY", "10".to_owned()),
        ];
        let mut program = match subject {
            Subject::Sluice | Subject::Tutorial | Subject::Floor => Program {
                path: self.binary(subject, job),
                args: Vec::new(),
                folder: self.functions.clone(),
                ..Program::default()
            },
            Subject::Python => Program {
                path: self.python.clone().context("no Python")?,
                args: vec!["-m".into(), "awslambdaric".into(), format!("{}.handler", job.name())],
                folder: self.peers.join("python"),
                ..Program::default()
            },
            Subject::Node => Program {
                path: self.node.clone().context("no Node")?,
                args: vec!["start.mjs".into(), format!("{}.handler", job.name())],
                folder: self.peers.join("node"),
                ..Program::default()
            },
        };
        env.push(("LAMBDA_TASK_ROOT", program.folder.display().to_string()));
        program.env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let setting = match subject {
            Subject::Sluice | Subject::Floor | Subject::Python => "AWS_CA_BUNDLE",
            Subject::Tutorial => "SSL_CERT_FILE",
            // Beside those that are built in.
            Subject::Node => "NODE_EXTRA_CA_CERTS",
        };
        program.trust = Some((setting, bundle));
        Ok(program)
    }

    /// Bytes of the zip that is deployed, but for some hundred bytes of names.
    pub fn zip_bytes(&self, subject: Subject, job: Job) -> Result<u64> {
        match subject {
            Subject::Sluice | Subject::Tutorial | Subject::Floor => {
                deflated(&self.binary(subject, job))
            }
            Subject::Node => deflated(&self.peers.join(format!("node/{}.mjs", job.name()))),
            Subject::Python => {
                let python = self.python.as_ref().context("no Python")?;
                let lib =
                    python.parent().and_then(Path::parent).context("no environment")?.join("lib");
                let packages = find(&lib, "boto3")?;
                let packages = packages.parent().context("no packages")?;
                VENDORED.iter().try_fold(0, |sum, name| Ok(sum + folder(&packages.join(name))?))
            }
        }
    }
}

pub const STATE_MACHINE: &str =
    "arn:aws:states:us-east-1:111122223333:stateMachine:sluice-device-state";

/// What boto3 brings. (Lambda's own copy of it is older and slower to load.)
const VENDORED: [&str; 7] =
    ["boto3", "botocore", "dateutil", "jmespath", "s3transfer", "urllib3", "six.py"];

fn deflated(path: &Path) -> Result<u64> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&bytes)?;
    Ok(encoder.finish()?.len() as u64)
}

fn folder(path: &Path) -> Result<u64> {
    if path.is_file() {
        return deflated(path);
    }
    let mut sum = 0;
    for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        let path = entry?.path();
        if !path.ends_with("__pycache__") {
            sum += folder(&path)?;
        }
    }
    Ok(sum)
}

/// `lib/python3.x/site-packages/<name>`
fn find(lib: &Path, name: &str) -> Result<PathBuf> {
    fs::read_dir(lib)?
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("site-packages").join(name))
        .find(|path| path.exists())
        .with_context(|| format!("no {name} below {}", lib.display()))
}

/// Of the system, where Debian, Fedora (and so Lambda) and Alpine have them.
fn system_certificates() -> Result<PathBuf> {
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .context("no file of the system's certificates")
}

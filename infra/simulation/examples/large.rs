//! What large queues and buckets take: the redrive as it is deployed, a process of its own, against
//! the simulated AWS over HTTP. `large [redrive|archive|ledger] [number]`, after anything that has
//! built the functions, such as `cargo demo`.
//!
//! It prints a table and, without words, draws `infra/bench/plots/large.svg`.
#![expect(clippy::expect_used, reason = "it is run by hand, and says what it lacks")]
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::{
    error::Error,
    fs, future,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
};
use jiff::{Timestamp, ToSpan as _};
use messages::EventId;
use plotters::{coord::Shift, prelude::*};
use serde_json::{Value, json};
use testing::{Attribute, Aws, Execution, Message, Object, Status, serve};
use tokio::{
    sync::{Mutex, oneshot},
    time::timeout,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const UPLOADS: &str = "device-state";
const ARCHIVE: &str = "archive";

/// What `MemorySize` is by default. The ledger keeps as much in memory as a part of it allows.
const MEMORY_MB: &str = "256";

/// The longest that Lambda lets a function run.
const TIME: Duration = Duration::from_mins(15);

/// What the redrive is to do, with ever more of it.
struct Job {
    name: &'static str,
    /// What there are many of.
    of: &'static str,
    event: Value,
    /// The field of the answer that says how many were dealt with.
    field: &'static str,
    prepare: fn(&Aws, usize),
    sizes: &'static [usize],
    colour: RGBColor,
}

/// What one invocation took.
struct Taken {
    number: usize,
    calls: usize,
    wall: Duration,
    cpu: Duration,
    peak_mb: f64,
}

fn jobs() -> [Job; 3] {
    [
        Job {
            name: "redrive",
            of: "letters",
            event: json!({ "before": "now", "canaryMessages": 0 }),
            field: "redriven",
            prepare: |aws, number| has_letters(aws, number, 0),
            sizes: &[1_000, 3_000, 10_000, 30_000, 100_000],
            colour: RGBColor(0x1b, 0x6c, 0xa8),
        },
        Job {
            name: "archive",
            of: "letters, redriven often enough",
            event: json!({ "before": "now", "canaryMessages": 0 }),
            field: "archived",
            prepare: |aws, number| has_letters(aws, number, 5),
            sizes: &[1_000, 3_000, 10_000],
            colour: RGBColor(0xd9, 0x5f, 0x02),
        },
        Job {
            name: "ledger",
            of: "versions, each thousandth missing",
            event: json!({ "mode": "reconcile" }),
            field: "versions",
            prepare: has_versions,
            sizes: &[1_000, 3_000, 10_000, 30_000, 100_000],
            colour: RGBColor(0x2a, 0x7f, 0x4f),
        },
    ]
}

fn key(number: usize) -> String {
    format!("devices/{number:06}/state.json")
}

fn has_letters(aws: &Aws, number: usize, redrives: u64) {
    for n in 0..number {
        let letter = Message::about(&key(n)).with("redrives", Attribute::number(redrives));
        aws.dead_letter_queue().has(letter);
    }
}

fn has_versions(aws: &Aws, number: usize) {
    let started = aws.now();
    for n in 0..number {
        let key = key(n);
        aws.s3().has(UPLOADS, Object::new(&key, b"{}").version("v1"));
        if n % 1_000 > 0 {
            let name = EventId::of_write(UPLOADS, &key, "v1").to_string();
            let execution = Execution::new(&name, "{}", started);
            aws.step_functions().has(execution.ended(started, Status::Succeeded));
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let function = target.join("sluice/build/RedriveFunction/bootstrap");
    if !function.is_file() {
        let built = "build the functions first, as `cargo demo` does";
        return Err(format!("{} is not there: {built}", function.display()).into());
    }
    println!("| | calls | for each | seconds | of the processor | peak memory, MB |");
    println!("|---|---|---|---|---|---|");
    let mut drawn = Vec::new();
    for job in jobs() {
        let mut all = Vec::new();
        for &number in job.sizes {
            if !words.iter().all(|word| *word == job.name || *word == number.to_string()) {
                continue;
            }
            let taken = run(&function, &job, number).await?;
            println!("| {}", taken.row(&job));
            all.push(taken);
        }
        drawn.push((job, all));
    }
    if words.is_empty() {
        draw(&drawn, &root.join("infra/bench/plots/large.svg"))?;
    }
    Ok(())
}

impl Taken {
    fn for_each(&self) -> f64 {
        as_f64(self.calls) / as_f64(self.number)
    }

    fn row(&self, job: &Job) -> String {
        format!(
            "{}: {} {} | {} | {:.3} | {:.1} | {:.2} | {:.1} |",
            job.name,
            self.number,
            job.of,
            self.calls,
            self.for_each(),
            self.wall.as_secs_f64(),
            self.cpu.as_secs_f64(),
            self.peak_mb,
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is printed with few digits")]
fn as_f64(number: usize) -> f64 {
    number as f64
}

async fn run(function: &Path, job: &Job, number: usize) -> Result<Taken> {
    // The ledger looks at what was written more than an hour ago.
    let aws = Aws::at(Timestamp::now() - 2.hours());
    for bucket in [UPLOADS, ARCHIVE] {
        aws.s3().has_bucket(bucket);
    }
    (job.prepare)(&aws, number);
    let (answered, mut answer) = oneshot::channel();
    let api = Arc::new(Api {
        event: Mutex::new(Some(job.event.to_string())),
        answered: Mutex::new(Some(answered)),
    });
    let runtime = serve(move |request| exchange(Arc::clone(&api), request)).await?.to_string();
    let endpoint = aws.is_served().await?;
    let began = Instant::now();
    let mut child = Command::new(function)
        .env_clear()
        .envs([
            ("AWS_LAMBDA_RUNTIME_API", runtime.as_str()),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_LAMBDA_FUNCTION_NAME", "redrive"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY_MB),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "redrive"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "redrive"),
            ("METRICS_NAMESPACE", "Sluice"),
            ("TIME_ZONE", "Asia/Seoul"),
            ("WORK_QUEUE_URL", &aws.work_queue().url()),
            ("DEAD_LETTER_QUEUE_URL", &aws.dead_letter_queue().url()),
            ("STATE_MACHINE_ARN", &aws.step_functions().state_machine_arn()),
            ("ARCHIVE_BUCKET", ARCHIVE),
            ("UPLOAD_BUCKET", UPLOADS),
        ])
        .stdout(Stdio::null())
        .spawn()?;
    let (outcome, answer) = loop {
        if let Ok(answer) = timeout(Duration::from_secs(1), &mut answer).await {
            break answer?;
        }
        if let Some(status) = child.try_wait()? {
            return Err(format!("the function ended with {status} before it answered").into());
        }
    };
    let wall = began.elapsed();
    let taken = measure(&child);
    child.kill()?;
    child.wait()?;
    let (cpu, peak_mb) = taken?;
    let answer: Value = serde_json::from_str(&answer)?;
    let dealt_with = match &answer[job.field] {
        Value::Object(by_reason) => by_reason.values().filter_map(Value::as_u64).sum(),
        number => number.as_u64().unwrap_or_default(),
    };
    if outcome != "response" || dealt_with != u64::try_from(number)? {
        return Err(format!("{} of {number}: {outcome} {answer}", job.name).into());
    }
    Ok(Taken { number, calls: aws.calls().len(), wall, cpu, peak_mb })
}

/// Processor time, and the most memory that was ever resident.
fn measure(child: &Child) -> Result<(Duration, f64)> {
    let place = PathBuf::from(format!("/proc/{}", child.id()));
    let status = fs::read_to_string(place.join("status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: f64 = peak.trim().trim_end_matches(" kB").parse()?;
    let stat = fs::read_to_string(place.join("stat"))?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // Hundredths of a second in user mode and in the kernel, the 14th and 15th field.
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok((Duration::from_millis(ticks * 10), kib * 1_024.0 / 1e6))
}

/// The Lambda Runtime API for one event. A second one never comes.
struct Api {
    event: Mutex<Option<String>>,
    answered: Mutex<Option<oneshot::Sender<(String, String)>>>,
}

async fn exchange(
    api: Arc<Api>,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Box<dyn Error + Send + Sync>> {
    let response = Response::builder();
    let response = if request.method() == Method::GET {
        let event = api.event.lock().await.take();
        let event = match event {
            Some(event) => event,
            None => future::pending().await,
        };
        let deadline = (Timestamp::now() + TIME).as_millisecond();
        response
            .header("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
            .header("lambda-runtime-deadline-ms", deadline)
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:1:function:r")
            .header("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700")
            .body(Full::from(event))
    } else {
        let outcome = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        if let Some(answered) = api.answered.lock().await.take() {
            // Nobody listens any more if the function was found to have ended.
            answered.send((outcome, body)).ok();
        }
        response.status(StatusCode::ACCEPTED).body(Full::from("{\"status\":\"OK\"}"))
    };
    Ok(response.expect("a response"))
}

/// Memory and calls over the number, side by side.
fn draw(jobs: &[(Job, Vec<Taken>)], path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, (860, 330)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(430);
    panel(&left, jobs, "Peak memory of the redrive, MB", 40.0, |taken| taken.peak_mb)?;
    panel(&right, jobs, "Calls to AWS for each", 4.0, Taken::for_each)?;
    area.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    jobs: &[(Job, Vec<Taken>)],
    title: &str,
    top: f64,
    of: fn(&Taken) -> f64,
) -> Result<()> {
    const INK: RGBColor = RGBColor(0x33, 0x3a, 0x44);
    let font = |size: i32| ("sans-serif", size).into_font().color(&INK);
    let values = jobs.iter().flat_map(|(_, all)| all.iter().map(of));
    let mut chart = ChartBuilder::on(area)
        .caption(title, font(17))
        .margin(14)
        .x_label_area_size(36)
        .y_label_area_size(46)
        .build_cartesian_2d((1e3..1.2e5).log_scale(), 0.0..values.fold(top, f64::max))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.12))
        .axis_style(INK)
        .label_style(font(13))
        .x_desc("letters, or versions")
        .x_label_formatter(&|number| format!("{number:.0}"))
        .draw()?;
    for (job, all) in jobs {
        let points: Vec<_> = all.iter().map(|taken| (as_f64(taken.number), of(taken))).collect();
        let line = LineSeries::new(points.clone(), job.colour.stroke_width(2));
        chart.draw_series(line)?.label(job.name).legend(|(x, y)| {
            PathElement::new(vec![(x, y), (x + 18, y)], job.colour.stroke_width(2))
        });
        let dots = points.into_iter().map(|point| Circle::new(point, 3, job.colour.filled()));
        chart.draw_series(dots)?;
    }
    let mut labels = chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperRight).label_font(font(13)).draw()?;
    Ok(())
}

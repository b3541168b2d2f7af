//! Step Functions: executions of STANDARD state machines.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    Aws, When,
    aws::{ACCOUNT, REGION},
    samples::key_of,
    world::{Request, ServiceError, World, epoch_seconds},
};

/// Bytes of an input, and characters of a name:
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
const MAX_INPUT_BYTES: usize = 262_144;
const MAX_NAME_CHARS: usize = 80;

/// Executions on a page of a listing.
const MAX_LISTED: u64 = 1_000;

/// How long the name of a closed execution is taken.
const NAME_RETENTION: SignedDuration = SignedDuration::from_hours(90 * 24);

/// How an execution is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Running,
    Succeeded,
    Failed,
    TimedOut,
    Aborted,
    /// It ended badly, and somebody has told Step Functions to let it go on.
    PendingRedrive,
}

/// An execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    pub arn: String,
    pub name: String,
    /// JSON.
    pub input: String,
    pub started: Timestamp,
    /// How it ends.
    pub status: Status,
    /// When it ends. It is running before that, and for ever without.
    pub ended: Option<Timestamp>,
    pub error: Option<String>,
    pub cause: Option<String>,
}

#[derive(Debug)]
pub(crate) struct State {
    exists: bool,
    is_express: bool,
    /// By ARN.
    executions: BTreeMap<String, Execution>,
    /// Their ARNs, in the order in which they were started.
    order: Vec<String>,
    /// How executions end that are started from now on.
    end: End,
    /// The same by the key that they are about.
    end_by_key: BTreeMap<String, End>,
    /// How old what a listing shows is.
    listing_is_late_by: Duration,
    /// Whether a listing has executions that are over where they ended, and not where they started.
    lists_by_end: bool,
}

#[derive(Debug, Clone)]
struct End {
    after: Option<Duration>,
    status: Status,
    error: Option<String>,
}

/// Step Functions with one state machine. Its executions succeed at once, unless a test says
/// otherwise.
#[derive(Debug, Clone)]
pub struct SimulatedStepFunctions {
    aws: Aws,
}

impl Default for State {
    fn default() -> Self {
        let end = End { after: Some(Duration::ZERO), status: Status::Succeeded, error: None };
        Self {
            exists: true,
            is_express: false,
            executions: BTreeMap::new(),
            order: Vec::new(),
            end,
            end_by_key: BTreeMap::new(),
            listing_is_late_by: Duration::ZERO,
            lists_by_end: false,
        }
    }
}

impl SimulatedStepFunctions {
    pub(crate) fn new(aws: &Aws) -> Self {
        Self { aws: aws.clone() }
    }

    pub fn client(&self) -> aws_sdk_sfn::Client {
        self.aws.step_functions_client()
    }

    pub fn state_machine_arn(&self) -> String {
        state_machine_arn()
    }

    /// Starts of executions about `key` are answered with this error.
    pub fn fails(&self, key: &str, code: &str) {
        self.when_starting(key).fails(code);
    }

    /// Starts of executions about `key` are throttled.
    pub fn throttles(&self, key: &str) {
        self.fails(key, "ThrottlingException");
    }

    /// The caller panics when it starts an execution about `key`.
    pub fn panics(&self, key: &str) {
        self.when_starting(key).panics();
    }

    /// Starts of executions about `key` work again.
    pub fn recovers(&self, key: &str) {
        let is_it = |about: &Option<String>| about.as_deref() == Some(key);
        self.aws.world().rules.retain(|rule| {
            rule.operation.as_deref() != Some("StartExecution") || !is_it(&rule.about)
        });
    }

    fn when_starting(&self, key: &str) -> When {
        self.aws.when("StartExecution").about(key)
    }

    /// Executions that are started from now on succeed after this time.
    pub fn executions_succeed(&self, after: Duration) {
        self.end(End { after: Some(after), status: Status::Succeeded, error: None });
    }

    /// Executions that are started from now on fail after this time.
    pub fn executions_fail(&self, after: Duration, error: &str) {
        let error = Some(error.to_owned());
        self.end(End { after: Some(after), status: Status::Failed, error });
    }

    /// The same for executions about `key` only, whatever is said of the others.
    pub fn execution_fails(&self, key: &str, after: Duration, error: &str) {
        let end = End { after: Some(after), status: Status::Failed, error: Some(error.to_owned()) };
        self.aws.world().step_functions.end_by_key.insert(key.to_owned(), end);
    }

    /// Executions that are started from now on never end.
    pub fn executions_run_for_ever(&self) {
        self.end(End { after: None, status: Status::Running, error: None });
    }

    fn end(&self, end: End) {
        self.aws.world().step_functions.end = end;
    }

    /// A listing does not show what has happened in this time.
    pub fn listing_is_late_by(&self, time: Duration) {
        self.aws.world().step_functions.listing_is_late_by = time;
    }

    /// A listing has executions that are over in the order in which they ended, as the emulator's
    /// has. AWS says that the most recent one is the first, and not of what.
    pub fn lists_by_end(&self) {
        self.aws.world().step_functions.lists_by_end = true;
    }

    /// How many executions run now.
    pub fn running(&self) -> usize {
        let world = self.aws.world();
        let (state, now) = (&world.step_functions, world.now());
        let all = state.executions.values();
        all.filter(|execution| execution.status_at(now) == Status::Running).count()
    }

    /// The state machine is not there.
    pub fn is_gone(&self) {
        self.aws.world().step_functions.exists = false;
    }

    /// The state machine is an EXPRESS one: it does not deduplicate names, and its executions can
    /// neither be asked for nor listed.
    pub fn is_express(&self) {
        self.aws.world().step_functions.is_express = true;
    }

    /// Starts an execution, as somebody else might do. Nothing happens if there is one of this name.
    pub fn starts(&self, name: &str, input: &str) {
        let mut world = self.aws.world();
        let now = world.now();
        if let Err(error) = world.step_functions.start(name, input, now) {
            assert_eq!(error.code, "ExecutionAlreadyExists", "{}", error.message);
        }
    }

    /// An execution that exists, whatever its state machine.
    pub fn has(&self, execution: Execution) {
        self.aws.world().step_functions.add(execution);
    }

    /// The executions that exist, in the order in which they were started.
    pub fn started(&self) -> Vec<Execution> {
        let world = self.aws.world();
        let state = &world.step_functions;
        state.order.iter().map(|arn| state.executions[arn].clone()).collect()
    }

    /// The keys of the objects that the executions are about, in the order in which they were
    /// started.
    pub fn started_keys(&self) -> Vec<String> {
        self.started().iter().map(Execution::key).collect()
    }

    /// The keys for which a start was answered with this error, one for each answer.
    pub fn keys_answered(&self, code: &str) -> Vec<String> {
        let calls = self.aws.calls();
        let answered = calls.iter().filter(|call| {
            call.operation == "StartExecution" && call.answer.as_deref() == Some(code)
        });
        answered.filter_map(|call| key_of(call.input["input"].as_str()?)).collect()
    }

    /// The keys for which a start was tried. One that the SDK tried several times in a row counts
    /// once.
    pub fn tried_keys(&self) -> Vec<String> {
        let calls = self.aws.calls_of("StartExecution");
        let inputs = calls.iter().filter_map(|call| call["input"].as_str());
        let mut keys: Vec<String> = inputs.filter_map(key_of).collect();
        keys.dedup();
        keys
    }
}

impl Execution {
    /// An execution of the state machine that was started at this time and runs.
    pub fn new(name: &str, input: &str, started: Timestamp) -> Self {
        Self {
            arn: execution_arn(name),
            name: name.to_owned(),
            input: input.to_owned(),
            started,
            status: Status::Running,
            ended: None,
            error: None,
            cause: None,
        }
    }

    /// It ended at this time in this way.
    pub fn ended(self, at: Timestamp, status: Status) -> Self {
        Self { ended: Some(at), status, ..self }
    }

    /// It ended badly, and is to go on.
    pub fn pending_redrive(self) -> Self {
        Self { ended: None, status: Status::PendingRedrive, ..self }
    }

    pub fn input(&self) -> Value {
        serde_json::from_str(&self.input).expect("JSON")
    }

    /// The key of the object that it is about.
    pub fn key(&self) -> String {
        key_of(&self.input).expect("a key")
    }

    fn status_at(&self, now: Timestamp) -> Status {
        let is_over = self.ended.is_some_and(|ended| ended <= now);
        if is_over || self.status == Status::PendingRedrive { self.status } else { Status::Running }
    }
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
            Self::Aborted => "ABORTED",
            Self::PendingRedrive => "PENDING_REDRIVE",
        }
    }
}

impl State {
    fn add(&mut self, execution: Execution) {
        let arn = execution.arn.clone();
        if self.executions.insert(arn.clone(), execution).is_none() {
            self.order.push(arn);
        }
    }

    /// Where an execution is in a listing, which has the highest first.
    fn position<'e>(&self, execution: &'e Execution, now: Timestamp) -> (Timestamp, &'e str) {
        let ended = execution.ended.filter(|ended| self.lists_by_end && *ended <= now);
        (ended.unwrap_or(execution.started), &execution.name)
    }

    /// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>
    pub(crate) fn start(
        &mut self,
        name: &str,
        input: &str,
        now: Timestamp,
    ) -> Result<Execution, ServiceError> {
        let is_allowed = |c: char| {
            !c.is_whitespace()
                && !c.is_control()
                && !r"<>{}[]?*".contains(c)
                && !r##""#%\^|~`$&,;:/"##.contains(c)
        };
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || !name.chars().all(is_allowed)
        {
            return Err(ServiceError::new("InvalidName", format!("Invalid Name: '{name}'")));
        }
        if input.len() > MAX_INPUT_BYTES || serde_json::from_str::<Value>(input).is_err() {
            return Err(ServiceError::new("InvalidExecutionInput", "Invalid execution input"));
        }
        let arn = if self.is_express {
            format!("{}:{}", execution_arn(name), self.order.len())
        } else {
            execution_arn(name)
        };
        if let Some(existing) = self.executions.get(&arn) {
            let is_running = existing.status_at(now) == Status::Running;
            // The very same start again is no error while the first one runs.
            if is_running && existing.input == input {
                return Ok(existing.clone());
            }
            if is_running || existing.ended.is_some_and(|end| now < end + NAME_RETENTION) {
                let message = format!("Execution Already Exists: '{arn}'");
                return Err(ServiceError::new("ExecutionAlreadyExists", message));
            }
        }
        let of_key = key_of(input).and_then(|key| self.end_by_key.get(&key));
        let End { after, status, error } = of_key.unwrap_or(&self.end).clone();
        let ended = after.map(|after| now + after);
        let execution = Execution { arn, status, ended, error, ..Execution::new(name, input, now) };
        self.add(execution.clone());
        Ok(execution)
    }
}

pub(crate) fn serve(world: &mut World, request: &Request) -> Result<Value, ServiceError> {
    let (now, listed_at_once) = (world.now(), world.listed_at_once);
    let state = &mut world.step_functions;
    match request.operation.as_str() {
        "StartExecution" => {
            let machine = request.text("stateMachineArn");
            if !machine.contains(":stateMachine:") {
                let message = format!("Invalid Arn: '{machine}'");
                return Err(ServiceError::new("InvalidArn", message));
            }
            if machine != state_machine_arn() || !state.exists {
                let message = format!("State Machine Does Not Exist: '{machine}'");
                return Err(ServiceError::new("StateMachineDoesNotExist", message));
            }
            let execution = state.start(request.text("name"), request.text("input"), now)?;
            let start = epoch_seconds(execution.started);
            Ok(json!({ "executionArn": execution.arn, "startDate": start }))
        }
        "DescribeExecution" => {
            let arn = request.text("executionArn");
            if !arn.contains(":execution:") || state.is_express {
                return Err(ServiceError::new("InvalidArn", format!("Invalid Arn: '{arn}'")));
            }
            let Some(execution) = state.executions.get(arn) else {
                let message = format!("Execution Does Not Exist: '{arn}'");
                return Err(ServiceError::new("ExecutionDoesNotExist", message));
            };
            Ok(describe(execution, now))
        }
        "ListExecutions" if !state.exists => {
            Err(ServiceError::new("StateMachineDoesNotExist", "State Machine Does Not Exist"))
        }
        "ListExecutions" if state.is_express => Err(ServiceError::new(
            "StateMachineTypeNotSupported",
            "This operation is not supported by this type of state machine",
        )),
        "ListExecutions" => {
            Ok(list(state, request, now - state.listing_is_late_by, listed_at_once))
        }
        other => panic!("{other} is not simulated"),
    }
}

/// The most recent first: <https://docs.aws.amazon.com/step-functions/latest/apireference/API_ListExecutions.html>
fn list(state: &State, request: &Request, now: Timestamp, listed_at_once: usize) -> Value {
    let most = request.input["maxResults"].as_u64().unwrap_or(100).min(MAX_LISTED);
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(listed_at_once);
    // A token is the position of the last execution of the page before, as those that start
    // meanwhile are in front.
    let after = request.input["nextToken"].as_str();
    let after: Option<(Timestamp, String)> =
        after.map(|token| serde_json::from_str(token).expect("a token of this listing"));
    let wanted = request.input["statusFilter"].as_str();
    let is_listed = |execution: &&Execution| {
        execution.started <= now
            && wanted.is_none_or(|status| execution.status_at(now).as_str() == status)
            && after
                .as_ref()
                .is_none_or(|(at, name)| state.position(execution, now) < (*at, name.as_str()))
    };
    let mut executions: Vec<&Execution> = state.executions.values().filter(is_listed).collect();
    executions.sort_by_key(|execution| Reverse(state.position(execution, now)));
    let is_last = executions.len() <= most;
    executions.truncate(most);
    let token = executions.last().filter(|_| !is_last).map(|last| state.position(last, now));
    let listed = executions.iter().map(|execution| {
        let mut listed = describe(execution, now);
        for detail in ["input", "inputDetails", "error", "cause"] {
            listed.as_object_mut().map(|listed| listed.remove(detail));
        }
        listed
    });
    let mut answer = json!({ "executions": listed.collect::<Vec<_>>() });
    if let Some(token) = token {
        answer["nextToken"] = json!(json!(token).to_string());
    }
    answer
}

fn describe(execution: &Execution, now: Timestamp) -> Value {
    let status = execution.status_at(now);
    let mut answer = json!({
        "executionArn": execution.arn,
        "stateMachineArn": state_machine_arn(),
        "name": execution.name,
        "status": status.as_str(),
        "startDate": epoch_seconds(execution.started),
        "input": execution.input,
        "inputDetails": { "included": true },
    });
    if let (Some(ended), true) = (execution.ended, status != Status::Running) {
        answer["stopDate"] = epoch_seconds(ended);
        for (name, value) in [("error", &execution.error), ("cause", &execution.cause)] {
            if let Some(value) = value {
                answer[name] = json!(value);
            }
        }
    }
    answer
}

fn state_machine_arn() -> String {
    format!("arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:machine")
}

fn execution_arn(name: &str) -> String {
    format!("arn:aws:states:{REGION}:{ACCOUNT}:execution:machine:{name}")
}

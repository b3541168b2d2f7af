//! What may go wrong with a call.

use crate::{Aws, samples::is_about, world::Request};

/// What becomes of a call that does not go well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The service answers with an error and has done nothing.
    Error { code: String, message: String },
    /// The connection is reset before the service has done anything.
    Reset,
    /// Nothing is done, and no answer ever comes.
    Silence,
    /// The service does what it was asked to do, and then the connection is reset.
    AnswerLost,
    /// The caller panics.
    Panic,
}

/// Which of the calls or entries that a rule is about it happens to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turns {
    /// How many go well before that.
    pub(crate) spared: u32,
    /// Of the others, one in so many.
    pub(crate) one_in: u32,
    /// How many more at most.
    pub(crate) left: u32,
    met: u32,
}

impl Turns {
    pub(crate) const ALL: Self = Self { spared: 0, one_in: 1, left: u32::MAX, met: 0 };

    /// Whether the next one is affected, which counts it.
    pub(crate) fn take(&mut self) -> bool {
        self.met += 1;
        let takes = self.left > 0
            && self.met > self.spared
            && (self.met - self.spared).is_multiple_of(self.one_in);
        self.left -= u32::from(takes);
        takes
    }
}

/// A fault, and the calls that it happens to.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) operation: Option<String>,
    pub(crate) queue_url: Option<String>,
    pub(crate) about: Option<String>,
    turns: Turns,
    fault: Fault,
}

impl Rule {
    /// What happens to this call, if anything does.
    pub(crate) fn takes(&mut self, request: &Request) -> Option<Fault> {
        (self.is_about(request) && self.turns.take()).then(|| self.fault.clone())
    }

    fn is_about(&self, request: &Request) -> bool {
        self.operation.as_ref().is_none_or(|operation| *operation == request.operation)
            && self.queue_url.as_ref().is_none_or(|url| request.input["QueueUrl"] == **url)
            && self
                .about
                .as_ref()
                .is_none_or(|key| request.texts().iter().any(|text| is_about(text, key)))
    }
}

/// Shares of calls, from 0 to 1, that go wrong by themselves. The seed decides which.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Weather {
    /// Answered with an internal error, and nothing is done.
    pub errors: f64,
    /// Answered with the service's error for too many calls, and nothing is done.
    pub throttles: f64,
    /// The connection is reset before anything is done.
    pub resets: f64,
    /// No answer comes, and nothing is done.
    pub silences: f64,
    /// The service does what it was asked to do, and then the connection is reset.
    pub lost_answers: f64,
    /// Entries of batch calls to SQS that are rejected, each by itself.
    pub rejected_entries: f64,
}

impl Weather {
    /// The fault for a random number from 0 to 1, if there is one.
    pub(crate) fn fault(&self, mut random: f64, throttled: &str) -> Option<Fault> {
        let error = |code: &str| Fault::Error { code: code.to_owned(), message: "bad luck".into() };
        for (share, fault) in [
            (self.errors, error("InternalFailure")),
            (self.throttles, error(throttled)),
            (self.resets, Fault::Reset),
            (self.silences, Fault::Silence),
            (self.lost_answers, Fault::AnswerLost),
        ] {
            if random < share {
                return Some(fault);
            }
            random -= share;
        }
        None
    }
}

/// Calls for which something is to go wrong: all of them, until a test narrows them down. The last
/// word, as [`fails`](Self::fails), says what. Where several apply, the newest does.
#[derive(Debug, Clone)]
#[must_use = "nothing goes wrong until the last word"]
pub struct When {
    aws: Aws,
    rule: Rule,
}

impl When {
    pub(crate) fn new(aws: &Aws, operation: Option<&str>) -> Self {
        let operation = operation.map(str::to_owned);
        let (turns, fault) = (Turns::ALL, Fault::Reset);
        let rule = Rule { operation, queue_url: None, about: None, turns, fault };
        Self { aws: aws.clone(), rule }
    }

    pub(crate) fn of_queue(mut self, url: String) -> Self {
        self.rule.queue_url = Some(url);
        self
    }

    /// Only calls about this key. For a batch, one of its entries is enough.
    pub fn about(mut self, key: &str) -> Self {
        self.rule.about = Some(key.to_owned());
        self
    }

    /// Only the next call.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Only so many of the next calls. Each attempt of the SDK is a call.
    pub fn times(mut self, times: u32) -> Self {
        self.rule.turns.left = times;
        self
    }

    /// Only calls after so many that go well.
    pub fn after(mut self, calls: u32) -> Self {
        self.rule.turns.spared = calls;
        self
    }

    /// Only every nth call.
    pub fn one_in(mut self, n: u32) -> Self {
        self.rule.turns.one_in = n;
        self
    }

    /// The service answers with this error and does nothing.
    pub fn fails(self, code: &str) {
        self.fails_with(code, "as the test says");
    }

    /// The same with a message.
    pub fn fails_with(self, code: &str, message: &str) {
        self.then(Fault::Error { code: code.to_owned(), message: message.to_owned() });
    }

    /// The connection is reset before the service has done anything.
    pub fn is_reset(self) {
        self.then(Fault::Reset);
    }

    /// No answer ever comes, and nothing is done.
    pub fn is_never_answered(self) {
        self.then(Fault::Silence);
    }

    /// The service does what it was asked to do, and the connection is reset before the answer.
    pub fn loses_its_answer(self) {
        self.then(Fault::AnswerLost);
    }

    /// The caller panics.
    pub fn panics(self) {
        self.then(Fault::Panic);
    }

    fn then(mut self, fault: Fault) {
        self.rule.fault = fault;
        self.aws.world().rules.push(self.rule);
    }
}

//! What AWS is allowed to do, and what people do, each with the page that says so.

/// Declares the faults: a name, how often it happens where it can, the page, and the doc comment.
macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident $share:literal $page:literal)*) => {
        /// Something that may happen. Add a line here, and ask [`State::happens`] at the place where
        /// it can.
        ///
        /// [`State::happens`]: crate::state::State::happens
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $name,)* }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// In how many of the cases in which it can happen it does.
            pub fn share(self) -> f64 {
                match self { $(Self::$name => $share,)* }
            }

            /// The page that allows it.
            pub fn page(self) -> &'static str {
                match self { $(Self::$name => $page,)* }
            }

            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

faults! {
    /// A bucket's key is written again. In an unversioned bucket the older write is gone.
    Overwrite 0.25 "https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"
    /// An object is deleted after a while.
    Deletion 0.06 "https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html"
    /// An object is no device state: not JSON, no object, no device id.
    BadContent 0.08 "https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"
    /// An object is too large for the input of an execution.
    LargeObject 0.06 "https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"
    /// A notification is late by minutes, sometimes by hours.
    LateNotification 0.15 "https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventNotifications.html"
    /// A notification is delivered again.
    RepeatedNotification 0.10 "https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventNotifications.html"
    /// A notification holds several records.
    ManyRecords 0.30 "https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html"
    /// An asynchronous invocation that has succeeded is made once more.
    InvokedAgain 0.04 "https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html"
    /// The answer of a service is an internal error.
    ServerError 0.04 "https://docs.aws.amazon.com/step-functions/latest/apireference/CommonErrors.html"
    /// A service refuses a call because there are too many.
    Throttle 0.06 "https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"
    /// The connection breaks before the service has done anything.
    Reset 0.03 "https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html"
    /// No answer comes.
    Silence 0.01 "https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html"
    /// The service does what it was asked to do, and the answer is lost.
    LostAnswer 0.03 "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html"
    /// A call takes seconds, and takes effect even if the caller has given up.
    LateEffect 0.02 "https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html"
    /// An entry of a batch is listed as failed in an answer with status 200.
    RejectedEntry 0.08 "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html"
    /// An entry of a batch is not mentioned in the answer, and nothing is done.
    IgnoredEntry 0.05 "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html"
    /// A function dies while it waits for an answer: out of memory, or its host is gone. The call
    /// may have taken effect.
    Crash 0.02 "https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html"
    /// A function panics at a call.
    Panic 0.01 "https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html"
    /// Lambda does not come to delete what a function has acknowledged.
    AcknowledgementLost 0.03 "https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html"
    /// A message is received twice at the same time.
    ShownTwice 0.03 "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html"
    /// A message is received again after its deletion was confirmed.
    BackFromTheDead 0.03 "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html"
    /// A receive gives fewer messages than there are.
    FewReceived 0.20 "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html"
    /// An execution fails in a way that no `Catch` sees, and only an event of EventBridge tells.
    RuntimeFailure 0.05 "https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html"
    /// An execution fails after its own retries, and sends its letter.
    TaskFailure 0.08 "https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html"
    /// An execution takes a day and times out.
    ExecutionTimesOut 0.01 "https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html"
    /// An execution runs for hours.
    LongExecution 0.04 "https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"
    /// The letter of a failed execution arrives twice.
    LetterTwice 0.10 "https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-troubleshooting.html"
    /// The nightly rule invokes the redrive twice.
    TwoRuns 0.25 "https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-troubleshooting.html"
    /// For an hour or so, most calls of a service go wrong.
    Storm 0.50 "https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/aws-fault-isolation-boundaries.html"
    /// The table is gone for some days, so that executions fail.
    TableGone 0.15 "https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_PutItem.html"
    /// Somebody takes a right away for some hours, or disables a key.
    AccessDenied 0.15 "https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"
    /// Somebody disables the event source mapping for some days.
    MappingOff 0.10 "https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html"
    /// Starts are more than the quota of the account allows: throttled, or too many are open.
    Quota 1.0 "https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"
    /// `DescribeExecution` does not know yet what happened some seconds ago.
    NotYetKnown 0.30 "https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html"
    /// Somebody deploys other settings. Environments with the old ones go on for a while, or die.
    Deployment 0.50 "https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html"
    /// A deployment that fails on every invocation of the consumer is mended after some days.
    ConsumerBroken 0.04 "https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html"
    /// An operator redrives by hand.
    RedriveByHand 0.25 "https://docs.aws.amazon.com/lambda/latest/dg/invocation-sync.html"
    /// An operator restores what was archived.
    Restore 0.10 "https://docs.aws.amazon.com/lambda/latest/dg/invocation-sync.html"
    /// An operator has SQS move all letters back: of the FIFO dead-letter queue, if there is one.
    ManagedMove 0.10 "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html"
    /// A person has Step Functions redrive an execution that has failed.
    NativeRedrive 0.10 "https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html"
    /// A person aborts an execution that runs for long.
    Abort 0.15 "https://docs.aws.amazon.com/step-functions/latest/apireference/API_StopExecution.html"
    /// A notification or a status change is never delivered. Only in the plan `lossy`, since nothing
    /// compares the bucket with the executions yet.
    NeverDelivered 0.03 "https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html"
}

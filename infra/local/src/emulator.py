"""Runs MiniStack 1.5.33, closer to AWS where Sluice needs it. What AWS does, and upstream lacks:

* IAM. AUTH=true has upstream enforce it on every request. Beyond that
  - what Step Functions and Lambda do by themselves has the rights of a role too: tasks, the
    Distributed Map, the polling of an event source mapping, an on-failure destination, logs;
  - a batch call needs the permission of its single call (there is no sqs:SendMessageBatch);
  - a service that delivers is one to a policy that asks (aws:PrincipalIsAWSService);
  - requests come over TLS: the emulator speaks HTTP, which the template's policies deny.
* The by-reference branch of a JSONata state machine. AWS evaluates JSONata in a Distributed Map's
  ItemReader.Arguments, ItemSelector, Output and Assign, groups the items as ItemBatcher says, and
  reads the version that VersionId names. Upstream takes the expressions for constants, ignores
  ItemBatcher, and reads the newest version. The Map Run itself and its children stay upstream's.
* MaximumConcurrency as a number. Upstream keeps the text that CloudFormation hands it, compares it
  with a number, and polls nothing.
* SNS invokes a function asynchronously, so Lambda repeats what fails, and then hands it to the on-failure
  destination. Upstream invokes it once, and drops what fails.
* CloudTrail tells EventBridge of calls. Upstream has no such trail, and refuses its events from others,
  as AWS does: here, whoever tests a rule about calls tells of them by PutEvents.
* A second for one expression, on machines of AWS. Upstream measures it by the wall clock, in which
  a thread of a busy emulator waits for hundreds of others.
"""

import contextvars
import json
import sys

from ministack import app
from ministack.core import iam_actions, iam_evaluator
from ministack.services import eventbridge, lambda_svc, s3, sns
from ministack.services import stepfunctions as sfn

EXPRESSION_LIMIT_MS = 60_000

upstream_context = iam_evaluator.EvalContext.__init__
upstream_action = iam_actions.extract_iam_action
upstream_destination = lambda_svc._route_async_failure
upstream_execution = sfn._run_execution
upstream_jsonata = sfn.jsonata.Jsonata.jsonata
upstream_logs = lambda_svc._emit_lambda_logs
upstream_map = sfn._run_distributed_map
upstream_poll = lambda_svc._sqs_esm_concurrency
upstream_put_events = eventbridge._put_events
upstream_task = sfn._invoke_resource

# ------------------------------------------------------------------------------------------- IAM

machine_role = contextvars.ContextVar("machine_role")


def is_allowed(role_arn, action, resource_arn):
    account, name = role_arn.split(":")[4], role_arn.rsplit("/", 1)[-1]
    context = iam_evaluator.EvalContext(
        principal_arn=f"arn:aws:sts::{account}:assumed-role/{name}/service",
        principal_type="AssumedRole",
        principal_account=account,
        action=action,
        resource_arn=resource_arn,
        region=resource_arn.split(":")[3],
        secure_transport=True,
    )
    service = action.split(":")[0]
    decision = iam_evaluator.evaluate(context, iam_evaluator._gather_role_policies(name, account))
    resource_policy = iam_evaluator._resource_policy(service, resource_arn)
    if resource_policy is not None:
        decision = iam_evaluator.combine_resource_policy(decision, context, *resource_policy)
    return decision.decision == "Allow"


def context(self, *rest, **options):
    upstream_context(self, *rest, **options)
    if self.principal_type == "Service":
        self.service_context["aws:principalisawsservice"] = "true"


def require(action, resource_arn):
    if not is_allowed(machine_role.get(), action, resource_arn):
        raise sfn._ExecutionError("States.Permissions", f"{machine_role.get()}: {action} on {resource_arn}")


def action_of(*request):
    action = upstream_action(*request)
    return action.removesuffix("Batch") if action and action.startswith("sqs:") else action


def execution(arn):
    known = sfn._executions.get(arn)
    machine = sfn._state_machines.get(known["stateMachineArn"]) if known else None
    if machine:
        machine_role.set(machine["roleArn"])
    upstream_execution(arn)


def task(resource, arguments):
    region, account = sfn.get_region(), sfn.get_account_id()
    if resource.endswith(":dynamodb:putItem"):
        require("dynamodb:PutItem", f"arn:aws:dynamodb:{region}:{account}:table/{arguments['TableName']}")
    elif resource.endswith(":sqs:sendMessage"):
        queue = arguments["QueueUrl"].rsplit("/", 1)[-1]
        require("sqs:SendMessage", f"arn:aws:sqs:{region}:{account}:{queue}")
    return upstream_task(resource, arguments)


def poll_concurrency(mapping, function, config, *rest):
    actions = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
    if not all(is_allowed(config["Role"], action, mapping["EventSourceArn"]) for action in actions):
        return 0
    scaling = mapping.get("ScalingConfig") or {}
    if "MaximumConcurrency" in scaling:
        scaling["MaximumConcurrency"] = int(scaling["MaximumConcurrency"])
    return upstream_poll(mapping, function, config, *rest)


def destination(target_arn, name, *rest):
    if is_allowed(lambda_svc._functions[name]["config"]["Role"], "sqs:SendMessage", target_arn):
        upstream_destination(target_arn, name, *rest)


def logs(function, *rest, **options):
    config = function.get("config") or function
    _, _, _, region, account, *_ = config["FunctionArn"].split(":")
    group = (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{config['FunctionName']}"
    stream = f"arn:aws:logs:{region}:{account}:log-group:{group}:log-stream:any"
    if all(is_allowed(config["Role"], action, stream) for action in ("logs:CreateLogStream", "logs:PutLogEvents")):
        upstream_logs(function, *rest, **options)


# ------------------------------------------------------------------------------------------- SNS


def deliver_to_lambda(function_arn, envelope, _topic_arn, subscription_arn, *_rest):
    function, config, name = lambda_svc._get_func_record_for_ref(function_arn)
    if not config:
        raise LookupError(f"SNS has no function {name} to invoke")
    record = {
        "EventVersion": "1.0",
        "EventSubscriptionArn": subscription_arn,
        "EventSource": "aws:sns",
        "Sns": json.loads(envelope),
    }
    lambda_svc.invoke_async_with_retry(
        lambda_svc._execution_record_for_config(function, config), {"Records": [record]}
    )


# ---------------------------------------------------------------------------------- EventBridge


def put_events(data, allow_aws_source=False):
    are_calls = all(entry.get("DetailType") == "AWS API Call via CloudTrail" for entry in data.get("Entries", []))
    return upstream_put_events(data, allow_aws_source or are_calls)


# ------------------------------------------------------------------------------- Step Functions


def patient_jsonata(expression, timeout=None, **rest):
    return upstream_jsonata(expression, timeout=EXPRESSION_LIMIT_MS, **rest)


def distributed_map(state, state_input, effective, iterator, execution, ctx):
    require("states:StartExecution", execution["stateMachineArn"])
    if sfn._state_query_language(state, ctx) != "JSONata":
        return upstream_map(state, state_input, effective, iterator, execution, ctx)
    if "ItemReader" in state:
        items = read_items(state["ItemReader"], state_input, ctx)
    else:
        items = sfn._jsonata_state_field(state, "Items", "array", state_input, ctx)
    if "ItemSelector" in state:
        items = [
            evaluated(state["ItemSelector"], state_input, {**ctx, "Map": {"Item": {"Index": index, "Value": item}}})
            for index, item in enumerate(items)
        ]
    if "ItemBatcher" in state:
        items = batched(items, state["ItemBatcher"], state_input, ctx)
    done_here = ("ItemReader", "Items", "ItemSelector", "ItemBatcher", "Output", "Assign")
    rest = {name: value for name, value in state.items() if name not in done_here}
    # The children see no variables of their parent.
    result, following = upstream_map(rest, state_input, items, iterator, execution, {**ctx, "variables": {}})
    output = sfn._apply_jsonata_output(state, state_input, ctx, result=result, default=result)
    sfn._apply_state_assign(state, state_input, ctx, result=result)
    return output, following


def read_items(reader, state_input, ctx):
    arguments = evaluated(reader.get("Arguments") or {}, state_input, ctx)
    version = arguments.get("VersionId")
    action = "s3:GetObjectVersion" if version else "s3:GetObject"
    require(action, f"arn:aws:s3:::{arguments['Bucket']}/{arguments['Key']}")
    body = s3._get_object_data(arguments["Bucket"], arguments["Key"], version)
    if body is None:
        raise sfn._ExecutionError("States.ItemReaderFailed", f"The specified key does not exist: {arguments}")
    try:
        return sfn._parse_reader_items(body.decode(), reader.get("ReaderConfig") or {})
    except ValueError as error:
        raise sfn._ExecutionError("States.ItemReaderFailed", str(error)) from error


def batched(items, batcher, state_input, ctx):
    most_items = batcher.get("MaxItemsPerBatch") or len(items)
    most_bytes = batcher.get("MaxInputBytesPerBatch") or 262_144
    shared = evaluated(batcher.get("BatchInput") or {}, state_input, ctx)
    batches, size = [], 0
    for item in items:
        item_size = len(json.dumps(item, ensure_ascii=False).encode())
        if not batches or len(batches[-1]) >= most_items or size + item_size > most_bytes:
            batches.append([])
            size = 0
        batches[-1].append(item)
        size += item_size
    return [{"BatchInput": shared, "Items": batch} for batch in batches]


def evaluated(template, state_input, ctx):
    return sfn._apply_jsonata_template(template, state_input, ctx)


app.pin_request_origin = lambda source_ip, _secure: iam_evaluator.pin_request_origin(source_ip, True)
eventbridge._put_events = put_events
iam_actions.extract_iam_action = action_of
iam_evaluator.EvalContext.__init__ = context
lambda_svc._emit_lambda_logs = logs
lambda_svc._route_async_failure = destination
lambda_svc._sqs_esm_concurrency = poll_concurrency
sfn._invoke_resource = task
sfn._run_distributed_map = distributed_map
sfn._run_execution = execution
sfn.jsonata.Jsonata.jsonata = patient_jsonata
sns._deliver_to_lambda = deliver_to_lambda

if __name__ == "__main__":
    sys.exit(app.main())

"""Consumer: messages of the work queue to executions of the state machine."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

STATE_MACHINE_ARN = os.environ["STATE_MACHINE_ARN"]
FUNCTION = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
NAMESPACE = os.environ["METRICS_NAMESPACE"]
CONCURRENCY = int(os.environ["START_CONCURRENCY"])
INLINE_MAX_BYTES = 131_072

CONFIG = Config(tcp_keepalive=True, max_pool_connections=CONCURRENCY,
                retries={"mode": "standard", "total_max_attempts": 3})
S3 = boto3.client("s3", config=CONFIG)
STEP_FUNCTIONS = boto3.client("stepfunctions", config=CONFIG)
POOL = ThreadPoolExecutor(CONCURRENCY)


def handler(event, context):
    records = event["Records"]
    failures = [record["messageId"]
                for record, started in zip(records, POOL.map(start, records)) if not started]
    print(metrics(Received=len(records), Started=len(records) - len(failures),
                  Failed=len(failures)))
    return {"batchItemFailures": [{"itemIdentifier": failure} for failure in failures]}


def start(record):
    try:
        event = json.loads(record["body"])
        data = event["data"]
        if data.get("size", INLINE_MAX_BYTES + 1) <= INLINE_MAX_BYTES:
            version = {"VersionId": data["versionId"]} if "versionId" in data else {}
            answer = S3.get_object(Bucket=data["bucket"], Key=data["key"], **version)
            data["content"] = json.loads(answer["Body"].read())
        STEP_FUNCTIONS.start_execution(
            stateMachineArn=STATE_MACHINE_ARN, name=event["id"],
            input=json.dumps(event, separators=(",", ":")))
    except STEP_FUNCTIONS.exceptions.ExecutionAlreadyExists:
        pass
    except Exception as error:
        print(json.dumps({"level": "ERROR", "message": "failed", "error": str(error),
                          "message.id": record["messageId"]}))
        return False
    print(json.dumps({"level": "INFO", "message": "started", "event.id": event["id"],
                      "object.key": data["key"], "message.id": record["messageId"]}))
    return True


def metrics(**values):
    """A line in CloudWatch's embedded metric format."""
    return json.dumps({
        "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [
            {"Namespace": NAMESPACE, "Dimensions": [["FunctionName"]],
             "Metrics": [{"Name": name} for name in values]}]},
        "FunctionName": FUNCTION, **values})

"""Forwarder: S3 event in, one message for each of its records on the work queue."""

import json
import os
import time
from hashlib import sha256
from urllib.parse import unquote_plus

import boto3
from botocore.config import Config

QUEUE_URL = os.environ["WORK_QUEUE_URL"]
FUNCTION = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
NAMESPACE = os.environ["METRICS_NAMESPACE"]

SQS = boto3.client(
    "sqs", config=Config(tcp_keepalive=True, retries={"mode": "standard", "total_max_attempts": 3})
)


def handler(event, context):
    events = [message(record) for record in event["Records"]]
    for start in range(0, len(events), 10):
        send(events[start : start + 10])
    for sent in events:
        print(json.dumps({"level": "INFO", "message": "forwarded", "event.id": sent["id"],
                          "object.key": sent["data"]["key"]}))
    print(metrics(Received=len(events), Forwarded=len(events)))
    return {"forwarded": len(events)}


def message(record):
    entity = record["s3"]
    bucket, s3_object = entity["bucket"]["name"], entity["object"]
    key = unquote_plus(s3_object["key"])
    sequencer = s3_object["sequencer"].upper().zfill(32)
    version = s3_object.get("versionId")
    name = record["eventName"].removeprefix("s3:")
    identity = "\0".join([name.partition(":")[0], bucket, key, version or sequencer])
    data = {"bucket": bucket, "key": key, "versionId": version, "eTag": s3_object.get("eTag"),
            "size": s3_object.get("size"), "sequencer": sequencer}
    return {
        "specversion": "1.0",
        "id": sha256(identity.encode()).hexdigest()[:40],
        "source": f"aws:s3.{record['awsRegion']}.{bucket}",
        "type": f"com.amazonaws.s3.{name}",
        "subject": key,
        "time": record["eventTime"],
        "data": {field: value for field, value in data.items() if value is not None},
    }


def send(events):
    answer = SQS.send_message_batch(
        QueueUrl=QUEUE_URL,
        Entries=[
            {"Id": str(index), "MessageBody": json.dumps(event, separators=(",", ":")),
             "MessageGroupId": "/".join(event["data"]["key"].split("/")[:2])}
            for index, event in enumerate(events)
        ],
    )
    if answer.get("Failed"):
        raise RuntimeError(f"not sent: {answer['Failed']}")


def metrics(**values):
    """A line in CloudWatch's embedded metric format."""
    return json.dumps({
        "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [
            {"Namespace": NAMESPACE, "Dimensions": [["FunctionName"]],
             "Metrics": [{"Name": name} for name in values]}]},
        "FunctionName": FUNCTION, **values})

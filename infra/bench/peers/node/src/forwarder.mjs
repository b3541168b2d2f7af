// Forwarder: S3 event in, one message for each of its records on the work queue.
import { createHash } from "node:crypto";
import { SendMessageBatchCommand, SQSClient } from "@aws-sdk/client-sqs";
import { clientConfig, log, metrics } from "./common.mjs";

const sqs = new SQSClient(clientConfig(50));
const queueUrl = process.env.WORK_QUEUE_URL;

export async function handler(event) {
  const events = event.Records.map(message);
  const chunks = [];
  for (let start = 0; start < events.length; start += 10) {
    chunks.push(events.slice(start, start + 10));
  }
  await Promise.all(chunks.map(send));
  for (const { id, data } of events) {
    log("INFO", "forwarded", { "event.id": id, "object.key": data.key });
  }
  metrics({ Received: events.length, Forwarded: events.length });
  return { forwarded: events.length };
}

function message(record) {
  const { bucket, object } = record.s3;
  const key = decodeURIComponent(object.key.replaceAll("+", " "));
  const sequencer = object.sequencer.toUpperCase().padStart(32, "0");
  const name = record.eventName.replace(/^s3:/, "");
  const identity = [name.split(":")[0], bucket.name, key, object.versionId ?? sequencer].join("\0");
  return {
    specversion: "1.0",
    id: createHash("sha256").update(identity).digest("hex").slice(0, 40),
    source: `aws:s3.${record.awsRegion}.${bucket.name}`,
    type: `com.amazonaws.s3.${name}`,
    subject: key,
    time: record.eventTime,
    data: {
      bucket: bucket.name, key, versionId: object.versionId, eTag: object.eTag,
      size: object.size, sequencer,
    },
  };
}

async function send(events) {
  const answer = await sqs.send(new SendMessageBatchCommand({
    QueueUrl: queueUrl,
    Entries: events.map((event, index) => ({
      Id: String(index),
      MessageBody: JSON.stringify(event),
      MessageGroupId: event.data.key.split("/").slice(0, 2).join("/"),
    })),
  }));
  if (answer.Failed?.length) throw new Error(`not sent: ${JSON.stringify(answer.Failed)}`);
}

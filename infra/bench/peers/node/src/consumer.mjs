// Consumer: messages of the work queue to executions of the state machine.
import { GetObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { ExecutionAlreadyExists, SFNClient, StartExecutionCommand } from "@aws-sdk/client-sfn";
import { clientConfig, log, metrics } from "./common.mjs";

const INLINE_MAX_BYTES = 131_072;
const concurrency = Number(process.env.START_CONCURRENCY);
const stateMachineArn = process.env.STATE_MACHINE_ARN;
const s3 = new S3Client(clientConfig(concurrency));
const stepFunctions = new SFNClient(clientConfig(concurrency));

export async function handler(event) {
  const failures = [];
  const queue = event.Records.values();
  const worker = async () => {
    for (const record of queue) {
      if (!(await start(record))) failures.push(record.messageId);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const received = event.Records.length;
  metrics({ Received: received, Started: received - failures.length, Failed: failures.length });
  return { batchItemFailures: failures.map((itemIdentifier) => ({ itemIdentifier })) };
}

async function start(record) {
  try {
    const event = JSON.parse(record.body);
    const { data } = event;
    if (data.size <= INLINE_MAX_BYTES) {
      const answer = await s3.send(new GetObjectCommand({
        Bucket: data.bucket, Key: data.key, VersionId: data.versionId,
      }));
      data.content = JSON.parse(await answer.Body.transformToString());
    }
    try {
      await stepFunctions.send(new StartExecutionCommand({
        stateMachineArn, name: event.id, input: JSON.stringify(event),
      }));
    } catch (error) {
      if (!(error instanceof ExecutionAlreadyExists)) throw error;
    }
    log("INFO", "started", {
      "event.id": event.id, "object.key": data.key, "message.id": record.messageId,
    });
    return true;
  } catch (error) {
    log("ERROR", "failed", { error: String(error), "message.id": record.messageId });
    return false;
  }
}

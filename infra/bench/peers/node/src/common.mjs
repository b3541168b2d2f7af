import { NodeHttpHandler } from "@smithy/node-http-handler";
import { Agent } from "node:https";

export function clientConfig(maxSockets) {
  const httpsAgent = new Agent({ keepAlive: true, maxSockets });
  return { maxAttempts: 3, requestHandler: new NodeHttpHandler({ httpsAgent }) };
}

export function log(level, message, fields) {
  process.stdout.write(JSON.stringify({ level, message, ...fields }) + "\n");
}

/** A line in CloudWatch's embedded metric format. */
export function metrics(values) {
  const Metrics = Object.keys(values).map((Name) => ({ Name }));
  const directive = {
    Namespace: process.env.METRICS_NAMESPACE, Dimensions: [["FunctionName"]], Metrics,
  };
  process.stdout.write(JSON.stringify({
    _aws: { Timestamp: Date.now(), CloudWatchMetrics: [directive] },
    FunctionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    ...values,
  }) + "\n");
}

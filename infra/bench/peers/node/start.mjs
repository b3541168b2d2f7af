// Starts aws-lambda-ric without its native module, whose build needs autotools, libtool and CMake.
// What stands in: for `next`, the JavaScript client that aws-lambda-ric itself brings and chooses
// by AWS_LAMBDA_NODEJS_USE_ALTERNATIVE_CLIENT_1; for `done` and `error`, the posts below. All go over
// one kept-alive connection, as in the native module, so that an answer is before the next question.
import http from "node:http";
import Module, { createRequire } from "node:module";

const [hostname, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const request = http.request;
http.request = (options, callback) => request({ ...options, agent }, callback);

const post = (id, outcome, body, headers = {}) => {
  const posted = http.request({
    hostname, port, method: "POST",
    path: `/2018-06-01/runtime/invocation/${id}/${outcome}`,
    headers: { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body), ...headers },
  }, (response) => response.resume());
  posted.on("error", (error) => { throw error; });
  posted.end(body);
};
const native = {
  initializeClient() {},
  done: (id, body) => post(id, "response", body),
  error: (id, body, cause) => post(id, "error", body, { "Lambda-Runtime-Function-XRay-Error-Cause": cause }),
};

process.env.AWS_LAMBDA_NODEJS_USE_ALTERNATIVE_CLIENT_1 = "true";
const load = Module._load;
Module._load = function (request, ...rest) {
  return request.endsWith("rapid-client.node") ? native : load.call(this, request, ...rest);
};

const ric = createRequire(import.meta.url).resolve("aws-lambda-ric");
const { run } = await import(ric);
await run(process.env.LAMBDA_TASK_ROOT, process.argv[2]);

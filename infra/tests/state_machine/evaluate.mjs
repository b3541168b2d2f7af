// Evaluates expressions of the state machine as npm's jsonata does, for the tests beside this file.
//
//     node evaluate.mjs FOLDER-OF-THE-PACKAGE STATE-MACHINE < a JSON array of cases
//
// A case is { "input": text } for the input of an execution, or { "line": text } for a line of a file
// that is passed by reference, with { "sequencer": text } if its event has one. The answer to each is
// { "write": the call of DynamoDB } or { "refused": why }. Only the path from an input to the write is walked: errors of tasks are for the
// emulator.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, machine] = process.argv.slice(2);
const jsonata = createRequire(`${folder}/`)("jsonata");
const { States } = JSON.parse(readFileSync(machine, "utf8"));
const WriteBatch = States.WriteRecords.ItemProcessor.States.WriteBatch;

const compiled = new Map();
async function evaluated(template, variables) {
  if (typeof template === "string" && template.startsWith("{%")) {
    const text = template.slice(2, -2);
    if (!compiled.has(text)) compiled.set(text, jsonata(text));
    const value = await compiled.get(text).evaluate(null, variables);
    // Step Functions fails where an expression has no result.
    if (value === undefined) throw new Error(`no result: ${text}`);
    return value;
  }
  if (template === null || typeof template !== "object") return template;
  const entries = Object.entries(template).map(async ([name, part]) => [name, await evaluated(part, variables)]);
  return Object.fromEntries(await Promise.all(entries));
}

async function chosen(choice, input) {
  const states = { input };
  for (const rule of choice.Choices) {
    if (await evaluated(rule.Condition, { states })) {
      const { errorCause } = await evaluated(rule.Assign ?? {}, { states });
      const { fault } = await evaluated(rule.Output ?? {}, { states });
      return { next: rule.Next, refused: errorCause ?? fault };
    }
  }
  return { next: choice.Default };
}

async function written(state, input) {
  return { write: await evaluated(state.Arguments, { states: { input } }) };
}

async function inline(text) {
  const input = JSON.parse(text);
  const { next, refused } = await chosen(States.CheckEvent, input);
  return next === "WriteState" ? written(States.WriteState, input) : { refused: refused ?? next };
}

async function line(text, sequencer) {
  const value = { index: 0, record: JSON.parse(text) };
  const file = { id: "id", time: "2026-11-20T21:00:00Z", data: { key: "key", sequencer } };
  const event = await evaluated(States.WriteRecords.ItemBatcher.BatchInput, { states: { input: file } });
  const context = { Map: { Item: { Index: 0, Value: value } } };
  const states = { context, input: { BatchInput: event, Items: [value] } };
  const input = await evaluated(WriteBatch.ItemSelector, { states });
  const children = WriteBatch.ItemProcessor.States;
  const { next, refused } = await chosen(children.CheckRecord, input);
  return next === "WriteRecord" ? written(children.WriteRecord, input) : { refused: refused ?? next };
}

const cases = JSON.parse(readFileSync(0, "utf8"));
const answers = [];
for (const one of cases) answers.push(await ("input" in one ? inline(one.input) : line(one.line, one.sequencer)));
process.stdout.write(JSON.stringify(answers));

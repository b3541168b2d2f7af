"""Runs MiniStack 1.5.33, with Step Functions closer to AWS in two places.

* The by-reference branch of a JSONata state machine. AWS evaluates JSONata in a Distributed Map's
  ItemReader.Arguments, ItemSelector, Output and Assign, groups the items as ItemBatcher says, and
  reads the version that VersionId names. Upstream takes the expressions for constants, ignores
  ItemBatcher, and reads the newest version. The Map Run itself and its children stay upstream's.
* The time limit of one expression. AWS allows a second on its own machines; upstream measures it
  by the wall clock, in which a thread of a busy emulator waits for hundreds of others.
"""

import json
import sys

from ministack.app import main
from ministack.services import s3
from ministack.services import stepfunctions as sfn

EXPRESSION_LIMIT_MS = 60_000

upstream_jsonata = sfn.jsonata.Jsonata.jsonata
upstream_map = sfn._run_distributed_map


def patient_jsonata(expression, timeout=None, **rest):
    return upstream_jsonata(expression, timeout=EXPRESSION_LIMIT_MS, **rest)


def distributed_map(state, state_input, effective, iterator, execution, ctx):
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
    body = s3._get_object_data(arguments["Bucket"], arguments["Key"], arguments.get("VersionId"))
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


sfn.jsonata.Jsonata.jsonata = patient_jsonata
sfn._run_distributed_map = distributed_map

if __name__ == "__main__":
    sys.exit(main())

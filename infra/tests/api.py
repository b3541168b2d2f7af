"""Prints what the API of infra/stacks/stream.yaml sends to Kinesis: evaluates its model and its mapping
template as they are in the template, as API Gateway does.

    api.py TEMPLATE NAME-OF-THE-STREAM < a JSON array of bodies, each as the text that was posted

The answer to each body is a list: the requests that it may become, or none if the body is refused.
API Gateway's guide says that $input.json gives "a JSON string", and not whether that has spaces or
escapes, so there is a request for each way to print it."""

import base64
import json
import sys

import airspeed
import jsonpath
import jsonschema
from samcli.yamlhelper import yaml_parse

# Each without line breaks, as far as JSON leaves a choice.
WAYS_TO_PRINT = [{"ensure_ascii": False, "separators": (",", ":")}, {"ensure_ascii": True}]


class Input:
    def __init__(self, body, way):
        self.body, self.way = body, way

    def json(self, path):
        [value] = jsonpath.findall(path, json.loads(self.body))
        return json.dumps(value, **self.way)


class Util:
    def base64Encode(self, text):
        return base64.b64encode(text.encode()).decode()


def is_taken(model, body):
    try:
        jsonschema.Draft4Validator(model).validate(json.loads(body))
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


path, stream = sys.argv[1:]
resources = yaml_parse(open(path, encoding="utf-8").read())["Resources"]
model = resources["StateModel"]["Properties"]["Schema"]
templates = resources["PostState"]["Properties"]["Integration"]["RequestTemplates"]
mapping = airspeed.Template(templates["application/json"]["Fn::Sub"].replace("${StateStream}", stream))


def requests(body):
    if not is_taken(model, body):
        return []
    return [mapping.merge({"input": Input(body, way), "util": Util()}) for way in WAYS_TO_PRINT]


json.dump([requests(body) for body in json.load(sys.stdin)], sys.stdout)

"""Prints template.yaml as CloudFormation sees it, after the SAM transform: cfn-lint checks some
properties only there. Local paths become placeholders, since nothing is uploaded. Arguments after
the template are values of parameters, such as Ingestion=EventBridge."""

import json
import sys
from unittest.mock import Mock

from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.translator.transform import transform
from samcli.yamlhelper import yaml_parse

template = yaml_parse(open(sys.argv[1], encoding="utf-8").read())
values = dict(argument.split("=", 1) for argument in sys.argv[2:])
for name, value in values.items():
    parameter = template["Parameters"][name]
    parameter["Default"] = int(value) if parameter["Type"] == "Number" else value
for resource in template["Resources"].values():
    properties = resource.get("Properties", {})
    if "CodeUri" in properties:
        properties["CodeUri"] = "s3://bucket/key"
    if "DefinitionUri" in properties:
        properties["DefinitionUri"] = "s3://bucket/key"
try:
    # No managed policy is looked up: the template names none.
    json.dump(transform(template, values, Mock(load=Mock(return_value={}))), sys.stdout, indent=1)
except InvalidDocumentException as error:
    sys.exit("\n".join(cause.message for cause in error.causes))

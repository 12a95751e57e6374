"""Reads a page from standard input by the format named, and prints what it says as JSON."""

import json
import sys

if sys.argv[1] == "openmetrics":
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
else:
    from prometheus_client.parser import text_string_to_metric_families

print(json.dumps([
    {
        "name": family.name,
        "type": family.type,
        "help": family.documentation,
        "samples": [{"name": one.name, "labels": one.labels, "value": str(one.value)} for one in family.samples],
    }
    for family in text_string_to_metric_families(sys.stdin.read())
]))

"""Reads a page of metrics by the parser of Prometheus' own Python client, and says what is on it.

Standard input: the page. Standard output: a JSON object, from each family's name to its kind and number of samples.
Ends with 1 if the page is not as the format has it.
"""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

families = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    if family.name in families:
        sys.exit(f"{family.name} comes twice")
    if not family.documentation:
        sys.exit(f"{family.name} has no help")
    families[family.name] = {"kind": family.type, "samples": len(family.samples)}
    if family.type != "histogram":
        continue
    counts = {}
    for sample in family.samples:
        labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        entry = counts.setdefault(labels, {"buckets": [], "count": None})
        if sample.name.endswith("_bucket"):
            entry["buckets"].append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            entry["count"] = sample.value
    for labels, entry in counts.items():
        buckets = entry["buckets"]
        if buckets != sorted(buckets) or buckets[-1] != (float("inf"), entry["count"]):
            sys.exit(f"{family.name}{labels}: buckets do not add up: {entry}")
json.dump(families, sys.stdout)

"""The alert rules and the dashboard: valid PromQL on existing metrics."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.deployment import DEPLOY, read_yaml
from tests.support.service import ROOT
from tornado_members.admin.exposition import render
from tornado_members.admin.status import ProcessStatus

RULES = read_yaml("prometheus/alerts.yaml")["groups"][0]["rules"]
DASHBOARD = json.loads((DEPLOY / "grafana" / "members.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
OF_PROMETHEUS = {"job", "instance"}  # labels that Prometheus adds to each series
OF_GRAFANA = {"__rate_interval": "5m"}


@pytest.fixture
def served(process_status: ProcessStatus) -> dict[str, set[str]]:
    """The samples of /metrics, with the labels of each."""
    families = process_status.collect()
    labels = {family.name.removesuffix("_total"): set(family.labels) for family in families}
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(render(families)[0].decode()):
        own = labels[family.name] | OF_PROMETHEUS
        if family.type == "histogram":
            found[f"{family.name}_bucket"] = own | {"le"}
            found[f"{family.name}_count"] = found[f"{family.name}_sum"] = own
        else:
            found[family.name + ("_total" if family.type == "counter" else "")] = own
    return found


def parts(node: Any) -> Iterator[Any]:
    """A parsed expression and everything in it."""
    yield node
    if isinstance(node, promql_parser.Call):
        inner = list(node.args)
    elif isinstance(node, promql_parser.BinaryExpr):
        inner = [node.lhs, node.rhs]
    elif isinstance(node, promql_parser.MatrixSelector):
        inner = [node.vector_selector]
    elif isinstance(node, promql_parser.NumberLiteral | promql_parser.VectorSelector):
        inner = []
    else:  # aggregates, parentheses, subqueries
        inner = [node.expr]
    for part in inner:
        yield from parts(part)


def check(expression: str, served: dict[str, set[str]]) -> None:
    """Fail for invalid PromQL, and for metrics and labels that do not exist."""
    known = set().union(*served.values())
    selectors = 0
    for part in parts(promql_parser.parse(expression)):
        if isinstance(part, promql_parser.VectorSelector):
            selectors += 1
            assert part.name in served, expression
            matched = {matcher.name for matcher in part.matchers.matchers}
            assert matched <= served[str(part.name)], expression
        elif isinstance(part, promql_parser.AggregateExpr) and part.modifier:
            assert set(part.modifier.labels) <= known, expression
    assert selectors, expression


def filled_in(expression: str) -> str:
    """Replace the variables of the dashboard and those of Grafana."""

    def value(match: re.Match[str]) -> str:
        assert match[1] in VARIABLES | OF_GRAFANA.keys(), match[1]
        return OF_GRAFANA.get(match[1], ".*")

    return re.sub(r"\$\{?(\w+)\}?", value, expression)


def test_alerts_use_existing_metrics(
    served: dict[str, set[str]], subtests: pytest.Subtests
) -> None:
    for rule in RULES:
        with subtests.test(alert=rule["alert"]):
            check(rule["expr"], served)
            assert rule["labels"]["severity"] in ("info", "warning", "critical")
            assert set(rule["annotations"]) == {"summary", "description"}
            promql_parser.parse_duration(rule.get("for", "1m"))


def test_alerts_match_the_documentation() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    table = text.split("**Alerts worth having.**")[1].split("\n## ")[0]
    documented = re.findall(r"^\| (\w+) \| `(.*?)`(?: for (\d+) m)? \|", table, re.MULTILINE)
    assert documented == [
        (rule["alert"], rule["expr"], rule.get("for", "").removesuffix("m")) for rule in RULES
    ]


def test_panels_use_existing_metrics(served: dict[str, set[str]]) -> None:
    for panel in PANELS:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            check(filled_in(target["expr"]), served)
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert shown <= set().union(*served.values()), panel["title"]
    for annotation in DASHBOARD["annotations"]["list"]:
        check(filled_in(annotation["expr"]), served)


def test_variables_use_existing_metrics(served: dict[str, set[str]]) -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            matched = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
            assert matched
            check(filled_in(matched[1]), served)
            assert matched[2] in OF_PROMETHEUS


def test_panels_have_unique_ids_and_do_not_overlap() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    covered: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert covered.setdefault((x, y), panel["title"]) == panel["title"]


def test_check_rejects_wrong_expressions(served: dict[str, set[str]]) -> None:
    for wrong in (
        "members_reddy == 0",
        'members_ready{route="x"}',
        "sum by (rout) (members_ready)",
        "rate(members_http_requests_total[5m]",
    ):
        with pytest.raises((AssertionError, ValueError)):
            check(wrong, served)

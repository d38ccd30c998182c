"""What several processes expose, joined: prometheus_client's own parser reads the result."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fang_telemetry.exposition import joined


def text(runs: int, *, with_gauge: bool = False) -> str:
    registry = CollectorRegistry()
    counter = Counter("runs", "Runs, with a \\ and\na line", ["kind"], registry=registry)
    for kind in ('a"}{ b', "plain"):
        counter.labels(kind).inc(runs)
    Histogram("seconds", "Seconds", registry=registry, buckets=[0.1, 1]).observe(runs)
    if with_gauge:
        Gauge("busy", "Busy", registry=registry).set(7)
    return generate_latest(registry).decode()


def test_each_sample_has_its_process_and_each_family_stands_together() -> None:
    both = joined({"1": text(3), "2 ending": text(5, with_gauge=True)}, [text(9).replace("runs", "other")])
    families = {family.name: family for family in text_string_to_metric_families(both)}
    assert len(families) == len(list(text_string_to_metric_families(both)))
    runs = {
        (s.labels["process"], s.labels["kind"]): s.value for s in families["runs"].samples if s.name == "runs_total"
    }
    assert runs == {(p, kind): n for p, n in (("1", 3), ("2 ending", 5)) for kind in ('a"}{ b', "plain")}
    assert [(sample.labels, sample.value) for sample in families["busy"].samples] == [({"process": "2 ending"}, 7)]
    buckets = [sample.labels for sample in families["seconds"].samples if sample.name == "seconds_bucket"]
    assert {"process": "1", "le": "0.1"} in buckets
    assert [sample.labels for sample in families["other"].samples if sample.name == "other_total"] == [
        {"kind": 'a"}{ b'},
        {"kind": "plain"},
    ]
    assert families["runs"].type == "counter"
    assert both.count("# TYPE runs_total ") == 1


def test_whatever_a_label_holds_stays_in_its_line() -> None:
    registry = CollectorRegistry()
    kinds = ["a\x85b", "a\u2028b", "a\x0cb", "a\rb", "a\nb", "a\x1eb", 'a\\"b']
    gauge = Gauge("busy", "Busy", ["kind"], registry=registry)
    for kind in kinds:
        gauge.labels(kind).set(1)
    [family] = text_string_to_metric_families(joined({"1": generate_latest(registry).decode()}))
    assert [sample.labels for sample in family.samples] == [{"process": "1", "kind": kind} for kind in kinds]


def test_nothing_is_an_empty_text() -> None:
    assert joined({}) == joined({"1": ""}) == ""

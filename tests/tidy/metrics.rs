//! The dashboard and the alerts ask for metrics that there are, by labels that they have.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::project;

/// Labels that Prometheus itself gives to whatever it scrapes.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// What `PromQL` writes a list of labels behind.
const GROUPINGS: [&str; 3] = ["by", "on", "without"];

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let dashboard: Value = serde_json::from_str(&project::read("docs/grafana.json")).unwrap();
    let known = metrics();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 10, "{} panels", panels.len());
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let (expression, legend) = (text(&target["expr"]), text(&target["legendFormat"]));
            let labels = check(&known, expression);
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                assert!(labels.contains(label), "the legend of `{expression}` names `{label}`");
            }
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["definition"].as_str() else { continue };
        let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (metric, label) = inside.and_then(|inside| inside.split_once(", ")).unwrap();
        assert!(known[metric].contains(label), "{query}");
    }
}

#[test]
fn the_alerts_ask_for_metrics_that_there_are_and_each_is_explained() {
    let (known, page) = (metrics(), project::read("docs/OPERATIONS.md"));
    let rules = project::read("docs/alerts.yml");
    let rules: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(rules.len() > 10, "{} alerts", rules.len());
    for rule in rules {
        let name = rule.lines().next().unwrap_or_default();
        assert!(page.contains(&format!("`{name}`")), "docs/OPERATIONS.md does not explain {name}");
        let line = rule.lines().find_map(|line| line.trim().strip_prefix("expr: "));
        let expression = line.expect("the expression of an alert stands in one line");
        let labels = check(&known, expression);
        for label in rule.split("$labels.").skip(1).map(word) {
            assert!(labels.contains(label), "{name} names `{label}`");
        }
    }
}

/// The metrics there are, each with its labels, as src/telemetry/metrics.rs makes them.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let code = project::read("src/telemetry/metrics.rs");
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    let made = code.split("\"hookonce_").skip(1).map(|made| {
        let labels = made.split("&[\"").nth(1).and_then(|rest| rest.split(']').next());
        let labels = labels.unwrap_or_default().split(',').map(word_in_quotes);
        let labels = labels.filter(|label| !label.is_empty()).map(str::to_owned).collect();
        (format!("hookonce_{}", word(made)), labels)
    });
    let made: BTreeMap<String, BTreeSet<String>> = made.collect();
    let requests = made.get("hookonce_requests_total").expect("it is there");
    assert!(requests.contains("status") && made.len() > 15, "{made:?}");
    made
}

/// Fails unless every metric in this expression is known, and every label is one of theirs. Gives the
/// labels that its result may have.
fn check(known: &BTreeMap<String, BTreeSet<String>>, expression: &str) -> BTreeSet<String> {
    let mut allowed: BTreeSet<String> = OF_PROMETHEUS.map(str::to_owned).into();
    let mut used = BTreeSet::new();
    for after in expression.split("hookonce_").skip(1) {
        let written = format!("hookonce_{}", word(after));
        let name = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|ending| written.strip_suffix(ending))
            .unwrap_or(&written);
        let labels = known.get(name).unwrap_or_else(|| panic!("there is no {name}: {expression}"));
        allowed.extend(labels.iter().cloned());
        if written.ends_with("_bucket") {
            allowed.insert("le".to_owned());
        }
        let matchers = after.strip_prefix(word(after)).and_then(|rest| rest.strip_prefix('{'));
        let matchers = matchers.and_then(|rest| rest.split('}').next()).unwrap_or_default();
        for label in matchers.split(',').map(word).filter(|label| !label.is_empty()) {
            assert!(labels.contains(label), "{name} has no label `{label}`: {expression}");
        }
    }
    for grouping in GROUPINGS {
        for list in expression.split(&format!("{grouping} (")).skip(1) {
            let labels = list.split(')').next().unwrap_or_default();
            used.extend(labels.split(',').map(|label| label.trim().to_owned()));
        }
    }
    assert!(allowed.is_superset(&used), "of {used:?} some are no labels: {expression}");
    allowed
}

/// The name that a text begins with.
fn word(text: &str) -> &str {
    let end = text.find(|char: char| !char.is_ascii_lowercase() && char != '_');
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

/// The name between quotes, of which the first may be gone.
fn word_in_quotes(text: &str) -> &str {
    word(text.trim().trim_start_matches('"'))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

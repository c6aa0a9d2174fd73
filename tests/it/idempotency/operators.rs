//! What operators see of keys, and what they say about unknown outcomes.

use serde_json::{Value, json};

use super::{
    client::charge,
    setup,
    upstream::{Reply, Upstream, ok},
};

#[tokio::test]
async fn an_unknown_outcome_is_listed_and_resolved() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|request, before| match request.header("idempotency-key") {
        "fine" => ok("fine"),
        _ if before < 3 => Reply::Reset,
        _ => ok("at last"),
    })
    .await;
    let setup = setup(folder.path(), "memory:", upstream.port, "");
    let program = setup.start().await;
    charge(program.port, "fine").await;
    for key in ["done", "not-done"] {
        assert_eq!(charge(program.port, key).await.status(), 502);
    }

    let page = program.api("GET", "/api/v1/keys?api=payments&state=unknown", None).await;
    let keys = page["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    let id_of = |key: &str| {
        let row = keys.iter().find(|row| row["key"] == key).unwrap();
        assert_eq!((&row["method"], &row["path"]), (&json!("POST"), &json!("/payments/charges")));
        assert!(row["note"].as_str().unwrap().contains("broke off"), "{row}");
        row["id"].as_str().unwrap().to_owned()
    };
    let (done, not_done) = (id_of("done"), id_of("not-done"));
    let (_, metrics) = program.ask("GET", "/metrics", None).await.unwrap();
    assert!(metrics.contains("hookonce_keys{api=\"payments\",state=\"unknown\"} 2"), "{metrics}");

    let answer = json!({
        "outcome": "complete", "status": 201,
        "headers": [["Content-Type", "application/json"]], "body": "{\"charged\": true}",
    });
    let path = format!("/api/v1/keys/{done}/resolve");
    let resolved = program.api("POST", &path, Some(answer)).await;
    assert_eq!(resolved, json!({ "id": done, "state": "completed" }));
    let again = charge(program.port, "done").await;
    assert_eq!((again.status(), again.text().as_str()), (201, "{\"charged\": true}"));
    assert!(again.is_replayed());
    assert_eq!(again.header("content-type"), "application/json");

    let said = setup.command(&program, &["keys", "resolve", &not_done, "--free"]);
    assert!(said.status.success(), "{said:?}");
    let fresh = charge(program.port, "not-done").await;
    assert_eq!((fresh.text().as_str(), fresh.is_replayed()), ("at last", false));

    let completed = program.ask("POST", &path, Some(json!({ "outcome": "free" }))).await.unwrap();
    assert_eq!(completed.0, 400, "{}", completed.1);
    let nobody = format!("/api/v1/keys/{}/resolve", "0".repeat(64));
    let missing =
        program.ask("POST", &nobody, Some(json!({ "outcome": "complete", "status": 200 })));
    assert_eq!(missing.await.unwrap().0, 404);
}

#[tokio::test]
async fn keys_are_listed_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_, _| ok("done")).await;
    let setup = setup(folder.path(), "memory:", upstream.port, "");
    let program = setup.start().await;
    for key in 0..5 {
        charge(program.port, &format!("k{key}")).await;
    }
    let mut seen = Vec::new();
    let mut before = String::new();
    loop {
        let path = format!("/api/v1/keys?limit=2{before}");
        let page = program.api("GET", &path, None).await;
        let rows = page["keys"].as_array().unwrap();
        seen.extend(rows.iter().map(|row| row["key"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        before = format!("&before={next}");
    }
    assert_eq!(seen, ["k4", "k3", "k2", "k1", "k0"]);

    let said = setup.command(&program, &["keys", "--json", "--limit", "1"]);
    let page: Value = serde_json::from_slice(&said.stdout).unwrap();
    let id = page["keys"][0]["id"].as_str().unwrap();
    let shown = setup.command(&program, &["keys", "show", id]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("completed") && shown.contains("POST /payments/charges"), "{shown}");
    let listed = setup.command(&program, &["keys", "list", "--state", "unknown"]);
    assert!(listed.status.success());
    assert!(!String::from_utf8(listed.stdout).unwrap().contains("payments"));
}

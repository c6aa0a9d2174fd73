//! The configuration file: what loads, and what is said about what does not.

use std::{fs, path::Path, time::Duration};

use hookonce::{
    config::{
        self, Config, Durability, EXAMPLE, HandlerKind, KEYS, LogFormat, Mistakes, Surroundings,
    },
    event::ReplayGuard,
    limits,
    provider::PROVIDERS,
    retry::Retry,
};

fn environment(name: &str) -> Option<String> {
    match name {
        "STRIPE_WEBHOOK_SECRET" => Some("whsec_hidden_stripe".to_owned()),
        "TWILIO_AUTH_TOKEN" => Some("hidden_twilio".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn parse_in(folder: &Path, text: &str) -> Result<Config, Mistakes> {
    let around = Surroundings { environment: &environment, providers: PROVIDERS, folder };
    Config::parse(text, Path::new("hookonce.toml"), &around)
}

fn parse(text: &str) -> Result<Config, Mistakes> {
    parse_in(Path::new("."), text)
}

/// What is said about a text that must not load, without the name of the file in front.
fn mistakes(text: &str) -> String {
    let mistakes = parse(text).expect_err("it must not load");
    mistakes.to_string().replace("hookonce.toml:", "")
}

/// What is said about a source that begins with these lines.
fn about_source(lines: &str) -> String {
    mistakes(&format!("[sources.stripe]\n{lines}"))
}

/// What is said about a handler that begins with these lines.
fn about_handler(lines: &str) -> String {
    mistakes(&format!("[handlers.a]\n{lines}"))
}

fn check(about: fn(&str) -> String, cases: &[(&str, &str)]) {
    for (text, said) in cases {
        assert_eq!(about(text), *said, "\nabout {text}");
    }
}

#[test]
fn the_example_loads() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.warnings, []);
    assert_eq!(config.server.public_url.as_deref(), Some("https://hooks.example.com"));
    assert_eq!(config.store.url.expose(), "sqlite:hookonce-data/hookonce.db");

    let [stripe, sms] = config.sources.as_slice() else { panic!("two sources") };
    assert_eq!((&*stripe.name, stripe.provider.name()), ("stripe", "stripe"));
    assert_eq!((&*sms.name, sms.provider.name()), ("sms", "twilio"));
    assert_eq!(stripe.path, "/webhooks/stripe");
    assert_eq!(sms.reply().unwrap().body, "<Response/>");
    let routes: Vec<_> = stripe.routes.iter().map(|route| &*route.handler).collect();
    assert_eq!(routes, ["billing", "everything"]);
    assert!(stripe.routes[0].wants(Some("invoice.paid")));
    assert!(!stripe.routes[0].wants(Some("charge.failed")));

    let [billing, texts, everything] = config.handlers.as_slice() else { panic!("three handlers") };
    assert!(matches!(&billing.kind, HandlerKind::Url { url, .. } if url.path() == "/billing"));
    assert_eq!((billing.retry.attempts, billing.retry.max), (12, Duration::from_mins(30)));
    assert!(matches!(&texts.kind, HandlerKind::Command(argv) if argv == &["./on-text"]));
    assert_eq!(texts.timeout, Duration::from_secs(10));
    assert!(matches!(everything.kind, HandlerKind::Log));
}

#[test]
fn every_setting_can_be_written() {
    let config = parse(
        r#"
        [server]
        listen = "[::]:80"
        admin_listen = "0.0.0.0:81"
        admin_token = "a long random text"
        public_url = "https://a.example/hooks/"
        trusted_proxies = ["10.0.0.0/8", "::1"]
        data_dir = "data"
        answer_within = "2s"
        body_within = "5s"
        shutdown_within = "0s"
        [store]
        url = "redis://user:hidden@127.0.0.1:6379"
        durability = "replicated"
        retention = "1d"
        retention_dead = "2d"
        retention_held = "3d"
        [workers]
        lease = "10s"
        [sources.a-1]
        provider = "stripe"
        secrets = ["a", "$${b}"]
        path = "/a"
        url = "https://a.example/a?b=c"
        body_bytes_max = "2MiB"
        window = "40d"
        tolerance = "1m"
        verify = "enforce"
        replay_guard = "hold"
        on_dead_duplicate = "ignore"
        response = { status = 202, content_type = "text/plain", body = "ok", headers = { X-A = "b" } }
        [handlers.b]
        sources = ["a-1"]
        events = ["*"]
        url = "http://user:hidden@127.0.0.1/hidden"
        timeout = "10ms"
        concurrency = 1
        retry = { attempts = 1, first = "10ms", max = "10ms" }
        signing_secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        [log]
        format = "json"
        level = "warn,hookonce::work=debug"
        "#,
    )
    .unwrap();
    assert_eq!(config.warnings, []);
    assert_eq!(config.server.public_url.as_deref(), Some("https://a.example/hooks"));
    assert_eq!(config.server.trusted_proxies.len(), 2);
    assert_eq!(config.store.durability, Durability::Replicated);
    assert_eq!(config.workers.lease, Duration::from_secs(10));
    assert_eq!(config.log.format, LogFormat::Json);
    let source = &config.sources[0];
    assert_eq!(source.settings.secrets[1].expose(), "${b}");
    assert_eq!(source.url.as_deref(), Some("https://a.example/a?b=c"));
    assert_eq!(source.body_bytes_max, 2 << 20);
    assert_eq!(source.window, Duration::from_hours(40 * 24));
    assert_eq!(source.settings.tolerance, Some(Duration::from_mins(1)));
    assert_eq!(source.replay_guard, ReplayGuard::Hold);
    let reply = source.response.as_ref().unwrap();
    assert_eq!((reply.status, reply.headers.len()), (202, 1));
}

#[test]
fn what_is_left_out_is_as_the_limits_say() {
    let config = parse("[sources.stripe]\nsecrets = ['a']\n[handlers.a]\nlog = true").unwrap();
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.server.admin_listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.server.answer_within, limits::ANSWER_DEADLINE);
    assert_eq!(config.server.body_within, limits::BODY_DEADLINE);
    assert_eq!(config.store.retention_dead, limits::RETENTION_DEAD);
    assert_eq!(config.workers.lease, limits::LEASE);
    assert_eq!(config.sources[0].window, Duration::from_hours(31 * 24));
    assert_eq!(config.handlers[0].concurrency, limits::CONCURRENCY);
    assert_eq!(config.handlers[0].retry, Retry::default());
    assert_eq!(config.handlers[0].events, ["*"]);
}

#[test]
fn every_mistake_is_told_in_one_run_in_the_order_of_the_file() {
    let said = parse(
        r#"[server]
listen = 8080
answr_within = "1s"

[store]
url = "mysql://a"
cache = "redis://a"

[sources.stripe]
secrets = ["${MISSING}", "whsec_hidden"]
window = "7d"

[sources.SMS]
provider = "twillio"

[handlers.billing]
sources = ["strpe"]
timeout = 30

[apis.payments]
path = "/payments"
"#,
    )
    .expect_err("it is full of mistakes");
    assert_eq!(
        said.to_string(),
        "\
hookonce.toml:2:10: server.listen: is a number: write an IP address and a port, such as \"127.0.0.1:8081\"
hookonce.toml:3:1: server.answr_within: is not known here: did you mean `answer_within`?
hookonce.toml:6:7: store.url: names no store: write \"sqlite:hookonce.db\", \"redis://127.0.0.1:6379\" or \"memory:\"
hookonce.toml:7:9: store.cache: is not in this version yet: leave it out
hookonce.toml:10:12: sources.stripe.secrets: the environment variable MISSING is missing or empty: set it before hookonce starts
hookonce.toml:11:10: sources.stripe.window: is too short: Stripe may send an event again for 30d, and the least is \"31d\"
hookonce.toml:13:10: sources.SMS: is not a good name: write up to 64 of a-z, 0-9, _ and -, beginning with a letter or a digit
hookonce.toml:14:12: sources.SMS.provider: is not known: did you mean \"twilio\"?
hookonce.toml:16:11: handlers.billing: does not say what to run: write one of url = \"…\", command = [\"…\"] or log = true
hookonce.toml:17:12: handlers.billing.sources: names a source that is not configured: did you mean \"stripe\"?
hookonce.toml:18:11: handlers.billing.timeout: is a number: write a duration with its unit, such as \"30s\"
hookonce.toml:20:2: apis: is not in this version yet: take it out"
    );
}

#[test]
fn mistakes_can_be_read_by_programs() {
    let said = parse("[server]\nlisten = 1").expect_err("1 is no address");
    let said = serde_json::to_value(&said).unwrap();
    assert_eq!(
        said,
        serde_json::json!([{
            "file": "hookonce.toml", "line": 2, "column": 10, "key": "server.listen",
            "message": "is a number: write an IP address and a port, such as \"127.0.0.1:8081\"",
        }])
    );
}

#[test]
fn mistakes_in_the_server_and_the_store_are_told() {
    check(
        mistakes,
        &[
            ("server = 1", "1:10: server: is a number: write it as a section, [server]"),
            ("[servr]", "1:2: servr: is not known here: did you mean `server`?"),
            ("listen = 'x'", "1:1: listen: is not known here: it belongs in [server]"),
            (
                "[server]\nlease = '1s'",
                "2:1: server.lease: is not known here: it belongs in [workers]",
            ),
            (
                "[workers]\nxyz = 1.5",
                "2:1: workers.xyz: is not known here: take it out (known are lease)",
            ),
            (
                "[server]\nanswer_within = '3s'",
                "2:17: server.answer_within: is too long: write at most \"2500ms\"",
            ),
            (
                "[server]\nanswer_within = '1ms'",
                "2:17: server.answer_within: is too short: write at least \"200ms\"",
            ),
            (
                "[server]\nanswer_within = 'soon'",
                "2:17: server.answer_within: cannot be understood: write a duration with its unit, such as \"30s\"",
            ),
            (
                "[server]\ndata_dir = ' '",
                "2:12: server.data_dir: is empty: write the path of a folder",
            ),
            (
                "[server]\nadmin_listen = '0.0.0.0:81'",
                "1:2: server.admin_token: is missing, and `admin_listen` is not a loopback address: write a long random text, or listen on 127.0.0.1",
            ),
            (
                "[server]\nadmin_listen = '127.0.0.1:8080'",
                "2:16: server.admin_listen: is the address of `listen`: write another port",
            ),
            (
                "[server]\nadmin_token = 'changeme'",
                "2:15: server.admin_token: is a placeholder: write a long random text",
            ),
            (
                "[server]\npublic_url = 'a.example'",
                "2:14: server.public_url: cannot be understood: write an absolute URL without a fragment, such as \"https://hooks.example.com/in\"",
            ),
            (
                "[server]\npublic_url = 'http://a?b'",
                "2:14: server.public_url: has a query: take it out, paths are put behind it",
            ),
            (
                "[server]\ntrusted_proxies = ['::1', 'a']",
                "2:27: server.trusted_proxies: has something in it that is no network: write an address, or one with its prefix length, such as \"10.0.0.0/8\"",
            ),
            (
                "[store]\ndurability = 'most'",
                "2:14: store.durability: cannot be understood: write one of \"always\", \"replicated\", \"relaxed\"",
            ),
            (
                "[store]\nretention = '1s'",
                "2:13: store.retention: is too short: write at least \"1m\"",
            ),
            ("[workers]\nlease = '1ms'", "2:9: workers.lease: is too short: write at least \"1s\""),
            (
                "[log]\nformat = 'xml'",
                "2:10: log.format: cannot be understood: write one of \"pretty\", \"json\"",
            ),
            (
                "[log]\nlevel = 'inof'",
                "2:9: log.level: cannot be understood: write \"info\", or \"info,hookonce=debug\"",
            ),
        ],
    );
}

#[test]
fn mistakes_in_a_source_are_told() {
    check(
        about_source,
        &[
            (
                "secrets = 'a'",
                "2:11: sources.stripe.secrets: is a text: write a list of texts, such as [\"${NAME_OF_A_VARIABLE}\"]",
            ),
            ("secrets = []", "2:11: sources.stripe.secrets: is empty: leave it out, or say what"),
            (
                "secrets = ['a', 1]",
                "2:17: sources.stripe.secrets: has a number in it: write a list of texts, such as [\"${NAME_OF_A_VARIABLE}\"]",
            ),
            (
                "secrets = ['***']",
                "2:12: sources.stripe.secrets: has a placeholder in it: write the provider's signing secret",
            ),
            (
                "secrets = ['${EMPTY}']",
                "2:12: sources.stripe.secrets: the environment variable EMPTY is missing or empty: set it before hookonce starts",
            ),
            (
                "secrets = ['file:no-such-file']",
                "2:12: sources.stripe.secrets: has a file in it that cannot be read: entity not found (its path is relative to the configuration file)",
            ),
            (
                "secrets = ['a']\nsecret = 'a'",
                "3:1: sources.stripe.secret: is not known here: did you mean `secrets`?",
            ),
            (
                "secrets = ['a']\nverify = 'shadow'",
                "3:10: sources.stripe.verify: \"shadow\" is not in this version yet: write \"enforce\"",
            ),
            (
                "secrets = ['a']\nverify = 'no'",
                "3:10: sources.stripe.verify: cannot be understood: write \"enforce\"",
            ),
            (
                "secrets = ['a']\non_dead_duplicate = 'redrive'",
                "3:21: sources.stripe.on_dead_duplicate: \"redrive\" is not in this version yet: write \"ignore\"",
            ),
            (
                "secrets = ['a']\nwindow = '1s'",
                "3:10: sources.stripe.window: is too short: Stripe may send an event again for 30d, and the least is \"31d\"",
            ),
            (
                "secrets = ['a']\ntolerance = '25h'",
                "3:13: sources.stripe.tolerance: is too long: write at most \"1d\"",
            ),
            (
                "secrets = ['a']\nbody_bytes_max = '1GiB'",
                "3:18: sources.stripe.body_bytes_max: is too large: write at most \"64MiB\"",
            ),
            (
                "secrets = ['a']\nbody_bytes_max = -1",
                "3:18: sources.stripe.body_bytes_max: cannot be understood: write a size with its unit, such as \"1MiB\"",
            ),
            (
                "secrets = ['a']\npath = 'stripe'",
                "3:8: sources.stripe.path: cannot be understood: write a path, such as \"/webhooks/stripe\"",
            ),
            (
                "secrets = ['a']\nresponse = 'ok'",
                "3:12: sources.stripe.response: is a text: write it as a section, [sources.NAME.response]",
            ),
            (
                "secrets = ['a']\nresponse = { status = 500 }",
                "3:23: sources.stripe.response.status: cannot be understood: write a whole number from 200 to 299",
            ),
            (
                "secrets = ['a']\nresponse.headers = { Connection = 'a', A = \"b\\n\" }",
                "3:35: sources.stripe.response.headers.Connection: is a header that hookonce sets itself: take it out\n3:44: sources.stripe.response.headers.A: is not the value of a header: write a text of visible characters",
            ),
            (
                "secrets = ['a']\n[sources.b]\nprovider = 'stripe'\nsecrets = ['a']\npath = '/webhooks/stripe'",
                "6:8: sources.b.path: is the path of the source `stripe` too: write another",
            ),
            (
                "secrets = ['a']\n[sources.b]",
                "3:10: sources.b.provider: is missing, and the source is not named after one: write one of github, hmac, slack, standardwebhooks, stripe, svix, twilio",
            ),
            (
                "secrets = ['a']\n[[sources.b]]",
                "3:1: sources.b: is a list: write it as a section, [sources.NAME]",
            ),
        ],
    );
}

#[test]
fn what_a_provider_finds_wrong_is_told_at_its_key() {
    let said = about_source("");
    assert!(said.starts_with("1:10: sources.stripe.secrets: "), "{said}");
    let said = mistakes("[sources.hmac]\nsecrets = ['a']\nalgorithm = 'md5'");
    assert!(said.starts_with("3:13: sources.hmac.algorithm: "), "{said}");
}

#[test]
fn mistakes_in_a_handler_are_told() {
    check(
        about_handler,
        &[
            (
                "log = false",
                "2:7: handlers.a.log: is false, and so nothing is run: write true, or a url or a command instead",
            ),
            (
                "log = true\nurl = 'http://a'",
                "2:7: handlers.a.log: is one too many: of url and log a handler has one",
            ),
            (
                "url = 'ftp://a'",
                "2:7: handlers.a.url: cannot be understood: write an absolute URL without a fragment, such as \"https://hooks.example.com/in\"",
            ),
            (
                "command = 'ls'",
                "2:11: handlers.a.command: is a text: write a list of texts, such as [\"one\", \"two\"]",
            ),
            (
                "log = true\nevents = []",
                "3:10: handlers.a.events: is empty: leave it out, or say what",
            ),
            (
                "log = true\nsources = ['a']",
                "3:12: handlers.a.sources: names a source, but none is configured",
            ),
            (
                "log = true\nconcurrency = 0",
                "3:15: handlers.a.concurrency: cannot be understood: write a whole number from 1 to 1024",
            ),
            (
                "log = true\nretry = { atempts = 3 }",
                "3:11: handlers.a.retry.atempts: is not known here: did you mean `attempts`?",
            ),
            (
                "log = true\nretry = { first = '2h', max = '1h' }",
                "3:19: handlers.a.retry.first: is longer than `max`: write less, or raise `max`",
            ),
            (
                "log = true\nsigning_secret = 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'",
                "3:18: handlers.a.signing_secret: signs what is posted, but there is no `url`: take it out",
            ),
            (
                "url = 'http://a'\nsigning_secret = 'hidden'",
                "3:18: handlers.a.signing_secret: cannot be understood: write whsec_ and 24 to 64 bytes in base64",
            ),
        ],
    );
}

#[test]
fn what_is_no_toml_is_told_with_its_place_and_not_shown() {
    let said = mistakes("[sources.stripe]\nsecrets = [\"hidden]\nx = 1");
    assert!(said.starts_with("2:"), "{said}");
    assert!(!said.contains("hidden"), "{said}");
    assert_eq!(mistakes("a = 1\na = 2"), "2:1: this is not TOML: duplicate key");
}

#[test]
fn no_message_and_no_debug_output_shows_a_secret() {
    for text in [
        "[server]\nadmin_listen = 'hidden'\nadmin_token = 'hidden'\nlisten = 'hidden'\ndata_dir = ['hidden']",
        "[store]\nurl = 'hidden'\ndurability = 'hidden'\nretention = 'hidden'",
        "[sources.stripe]\nsecrets = ['hidden', 'file:hidden']\nprovider = 'hidden'",
        "[sources.stripe]\nsecrets = 'hidden'\nwindow = 'hidden'\npath = 'hidden'\nverify = 'hidden'",
        "[sources.svix]\nsecrets = ['whsec_hidden!']\ntolerance = 'hidden'",
        "[handlers.a]\nurl = 'hidden'\nsources = ['hidden']\nsigning_secret = 'whsec_hidden'\ncommand = 'hidden'",
        "[log]\nlevel = 'hidden'",
    ] {
        let said = mistakes(text);
        assert!(!said.contains("hidden"), "{text}\n{said}");
    }
    let config = parse(
        "[server]\nadmin_token = 'hidden'\n[store]\nurl = 'redis://:hidden@a'\n\
         [sources.stripe]\nsecrets = ['${STRIPE_WEBHOOK_SECRET}']\n\
         [handlers.a]\nurl = 'http://a:hidden@a/hidden'\nsigning_secret = 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'\n\
         [handlers.b]\ncommand = ['a', 'hidden']",
    );
    let shown = format!("{:?}", config.unwrap());
    assert!(!shown.contains("hidden") && !shown.contains("AAAA"), "{shown}");
}

#[test]
fn a_secret_can_be_read_from_a_file_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "whsec_in_a_file\n").unwrap();
    let text = "[sources.stripe]\nsecrets = ['file:secret']\n[handlers.a]\nlog = true";
    let config = parse_in(folder.path(), text).unwrap();
    assert_eq!(config.sources[0].settings.secrets[0].expose(), "whsec_in_a_file");
}

#[test]
fn what_is_odd_is_warned_of() {
    let warnings = |text| {
        let warnings = parse(text).unwrap().warnings;
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        warnings("[sources.stripe]\nsecrets = ['a']"),
        [
            "hookonce.toml:1:10: sources.stripe: is wanted by no handler: its events are stored as unrouted"
        ]
    );
    assert_eq!(
        warnings("[store]\ndurability = 'relaxed'"),
        [
            "hookonce.toml: sources: there is none: every webhook will be answered 404",
            "hookonce.toml:2:14: store.durability: is for Redis alone: take it out, or choose a Redis",
        ]
    );
}

#[test]
fn a_file_that_was_named_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    let said = Config::load(Some(&file), &environment).expect_err("there is no such file");
    let name = file.display();
    assert_eq!(
        said.to_string(),
        format!("{name}: there is no such file: name one that exists, or none to run without")
    );
    fs::write(&file, EXAMPLE).unwrap();
    assert_eq!(Config::load(Some(&file), &environment).unwrap().sources.len(), 2);
}

#[test]
fn without_a_file_every_provider_has_a_source() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::without_file(&environment, folder.path()).unwrap();
    assert_eq!(config.sources.len(), PROVIDERS.len());
    for (source, provider) in config.sources.iter().zip(PROVIDERS) {
        assert_eq!(&*source.name, provider.name());
        assert_eq!(source.path, format!("/webhooks/{}", provider.name()));
        assert_eq!(source.routes.len(), 1, "{}", provider.name());
    }
    let stripe = config.sources.iter().find(|source| &*source.name == "stripe").unwrap();
    assert_eq!(stripe.settings.secrets[0].expose(), "whsec_hidden_stripe");
    assert_eq!(config.server.data_dir, folder.path());
    let [warning] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert!(warning.message.starts_with("development secrets are in use: "), "{warning}");
    assert!(!warning.message.contains("STRIPE_WEBHOOK_SECRET"), "{warning}");
}

#[test]
fn processes_that_start_at_once_end_with_the_same_development_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = || {
        let config = Config::without_file(&|_| None, folder.path()).unwrap();
        let secret =
            |source: &hookonce::source::Source| source.settings.secrets[0].expose().to_owned();
        config.sources.iter().map(secret).collect::<Vec<_>>()
    };
    let all: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..8).map(|_| scope.spawn(secrets)).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(all[0].len(), PROVIDERS.len());
    assert!(all.iter().all(|these| *these == all[0]));
}

#[test]
fn development_secrets_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    Config::without_file(&|_| None, folder.path()).unwrap();
    let file = folder.path().join("development-secrets.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    fs::write(&file, "stripe = hidden").unwrap();
    let said = Config::without_file(&|_| None, folder.path()).expect_err("the file is no TOML");
    assert!(!said.to_string().contains("hidden"), "{said}");
}

#[test]
fn no_provider_has_a_setting_that_every_source_has() {
    for provider in PROVIDERS {
        for (setting, _) in provider.settings() {
            let taken =
                KEYS.iter().any(|key| key.section == "sources.NAME" && key.name == *setting);
            assert!(!taken, "{}: {setting}", provider.name());
        }
    }
}

#[test]
fn the_reference_is_fresh() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, config::reference()).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(written == config::reference(), "stale: run `UPDATE=1 cargo test --test config`");
}

//! The configuration file: what loads, and what is said about what does not.

use std::{fs, path::Path, time::Duration};

use hookonce::{
    api::{Principal, Save},
    config::{self, Config, EXAMPLE, HandlerKind, KEYS, LogFormat, Mistakes, Surroundings},
    event::ReplayGuard,
    limits,
    provider::PROVIDERS,
    retry::Retry,
    store::{Durability, keys::OnUnknown},
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
fn a_read_only_token_needs_one_that_is_not() {
    let lacking = mistakes("[server]\nadmin_token_readonly = 'hidden'");
    assert!(lacking.contains("without `admin_token`"), "{lacking}");
    let same = mistakes("[server]\nadmin_token = 'hidden'\nadmin_token_readonly = 'hidden'");
    assert!(same.contains("is `admin_token` again") && !same.contains("hidden"), "{same}");
}

#[test]
fn a_certificate_is_found_beside_the_file_and_needs_its_key() {
    let pair = "[server]\ntls = { cert = 'cert.pem', key = '/keys/key.pem' }";
    let tls = parse_in(Path::new("/etc/hookonce"), pair).unwrap().server.tls.unwrap();
    assert_eq!(tls.cert, Path::new("/etc/hookonce/cert.pem"));
    assert_eq!(tls.key, Path::new("/keys/key.pem"));
    let lacking = mistakes("[server]\ntls = { cert = 'cert.pem', chain = 'x' }");
    assert!(lacking.contains("server.tls.key: is missing"), "{lacking}");
    assert!(lacking.contains("server.tls.chain"), "{lacking}");
}

#[test]
fn every_setting_can_be_written() {
    let config = parse(
        r#"
        [server]
        listen = "[::]:80"
        admin_listen = "0.0.0.0:81"
        tls = { cert = "tls/cert.pem", key = "/keys/key.pem" }
        admin_tls = { cert = "a", key = "b" }
        admin_token = "a long random text"
        admin_token_readonly = "another long random text"
        public_url = "https://a.example/hooks/"
        trusted_proxies = ["10.0.0.0/8", "::1"]
        data_dir = "data"
        answer_within = "2s"
        body_within = "5s"
        shutdown_within = "0s"
        [store]
        url = "redis://user:hidden@127.0.0.1:6379"
        durability = "relaxed"
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
        [apis.payments]
        path = "/v1/payments"
        upstream = "http://127.0.0.1:9000/base"
        methods = ["POST", "PUT"]
        required = true
        header = "X-Request-Key"
        principal = "jwt:sub"
        secrets = ["hidden"]
        fingerprint_headers = ["Stripe-Account"]
        canonical_json = true
        save = "all"
        retention = "2d"
        lease_max = "2m"
        wait = "2s"
        timeout = "30s"
        body_bytes_max = "2MiB"
        answer_bytes_max = "2MiB"
        duplicate_status = 200
        on_unknown = "retry"
        [notices]
        url = "https://user:hidden@told.example/hidden"
        signing_secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        command = ["./tell-me", "--loud"]
        every = "10m"
        silence_min = "1m"
        [log]
        format = "json"
        level = "warn,hookonce::work=debug"
        "#,
    )
    .unwrap();
    assert_eq!(config.warnings, []);
    let [api] = config.apis.as_slice() else { panic!("one API") };
    assert_eq!((&*api.name, api.path.as_str()), ("payments", "/v1/payments"));
    assert_eq!((&api.required, api.header.as_str()), (&api.methods, "x-request-key"));
    assert!(matches!(&api.principal, Principal::Claim { name, .. } if name == "sub"));
    assert_eq!(api.fingerprint_headers, ["stripe-account"]);
    assert_eq!((api.save, api.on_unknown), (Save::All, OnUnknown::Retry));
    assert_eq!((api.timeout, api.lease_max), (Duration::from_secs(30), Duration::from_mins(2)));
    assert_eq!((api.duplicate_status, api.answer_bytes_max), (Some(200), 2 << 20));
    assert_eq!(config.server.public_url.as_deref(), Some("https://a.example/hooks"));
    assert_eq!(config.server.trusted_proxies.len(), 2);
    assert_eq!(config.store.durability, Durability::Relaxed);
    assert_eq!(config.workers.lease, Duration::from_secs(10));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(
        format!("{:?}", config.notices.channels),
        "[Url(https://told.example…), Command(./tell-me…)]"
    );
    assert_eq!(config.notices.every, Duration::from_mins(10));
    assert_eq!(config.notices.silence_min, Duration::from_mins(1));
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
    let config = parse("[handlers.a]\nlog = true\nretry.max = '1s'").unwrap();
    assert_eq!(config.handlers[0].retry.first, Duration::from_secs(1));
}

#[test]
fn mistakes_are_told_one_per_line_in_the_order_of_the_file() {
    let said = parse("[server]\nlistn = 1\n[log]\nformat = 2\n").expect_err("two mistakes");
    assert_eq!(
        said.to_string(),
        "\
hookonce.toml:2:1: server.listn: is not known here: did you mean `listen`?
hookonce.toml:4:10: log.format: is a number: write one of \"pretty\", \"json\""
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
fn every_kind_of_mistake_is_told() {
    let names: Vec<_> = PROVIDERS.iter().map(|provider| provider.name()).collect();
    let cases = include_str!("mistakes.txt").replace("PROVIDERS", &names.join(", "));
    let cases = cases.split("=====\n").skip(1);
    for case in cases {
        let (text, said) = case.split_once("\n-----\n").expect("a case has two parts");
        assert_eq!(mistakes(text), said.trim_end(), "\n{text}");
    }
}

#[test]
fn what_a_provider_finds_wrong_is_told_at_its_key() {
    let said = mistakes("[sources.stripe]");
    assert!(said.starts_with("1:10: sources.stripe.secrets: "), "{said}");
    let said = mistakes("[sources.hmac]\nsecrets = ['a']\nalgorithm = 'md5'");
    assert!(said.starts_with("3:13: sources.hmac.algorithm: "), "{said}");
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
        "[notices]\nurl = 'hidden'\nsigning_secret = 'hidden'\ncommand = 'hidden'\nevery = 'hidden'",
        "[log]\nlevel = 'hidden'",
        "[apis.a]\nupstream = 'hidden'\nprincipal = 'hid den'\nsave = 'hidden'\nsecrets = ['hidden']",
        "[sources.stripe]\nsecrets = [\"hidden]",
    ] {
        let said = mistakes(text);
        assert!(!said.contains("hidden"), "{text}\n{said}");
    }
    let config = parse(
        "[server]\nadmin_token = 'hidden'\n[store]\nurl = 'redis://:hidden@a'\n\
         [sources.stripe]\nsecrets = ['${STRIPE_WEBHOOK_SECRET}']\n\
         [handlers.a]\nurl = 'http://a:hidden@a/hidden'\nsigning_secret = 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'\n\
         [handlers.b]\ncommand = ['a', 'hidden']\n\
         [apis.a]\nupstream = 'http://a/hidden'\nprincipal = 'jwt:sub'\nsecrets = ['hidden']",
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
fn without_a_file_a_public_key_comes_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let key = "5986b3301407de64a9dc565bb4f0b21819aa904f5076376ccb4cdd55b0fa9719";
    let environment = |name: &str| match name {
        "DISCORD_PUBLIC_KEY" | "AWS_SNS_PUBLIC_KEY" => Some(key.to_owned()),
        "DISCORD_STANDIN_SECRET" => Some("standin_that_does_not_count".to_owned()),
        _ => None,
    };
    let config = Config::without_file(&environment, folder.path()).unwrap();
    let discord = config.sources.iter().find(|source| &*source.name == "discord").unwrap();
    assert_eq!(discord.settings.public_keys, [key]);
    assert!(discord.settings.secrets.is_empty());
    // A key alone does not make a source of SNS: what is missing is told.
    assert!(config.sources.iter().all(|source| &*source.name != "aws_sns"));
    let told = config.warnings.iter().find(|warning| warning.message.contains("`aws_sns`"));
    assert!(told.unwrap().message.contains("topic_arn: is not set"));
}

#[test]
fn keys_are_fetched_unless_the_file_says_no_where_the_provider_publishes_them() {
    let sns = "[sources.aws_sns]\ntopic_arn = \"arn:aws:sns:us-east-1:123456789012:orders\"\n";
    let source = |text: &str| parse(text).map(|config| config.sources.into_iter().next().unwrap());
    assert!(source(sns).unwrap().keyring.is_some());
    assert!(source(&format!("{sns}fetch_keys = true\n")).unwrap().keyring.is_some());
    let said = source(&format!("{sns}fetch_keys = false\n")).unwrap_err().to_string();
    assert!(said.contains("sources.aws_sns.public_keys: none is set"), "{said}");
    let said =
        source("[sources.stripe]\nsecrets = [\"s\"]\nfetch_keys = true\n").unwrap_err().to_string();
    assert!(said.contains("sources.stripe.fetch_keys: is not possible"), "{said}");
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
    assert!(written == config::reference(), "stale: run `UPDATE=1 cargo test --test it config`");
}

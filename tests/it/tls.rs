//! TLS on our own listeners: what is served, to whom, and what happens when the certificate changes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hookonce::{
    handler::{http_client, http_client_builder},
    tls::{Certificate, Looked, Pair, Unusable},
};
use reqwest::{Client, tls::TlsInfo};

use crate::support::{
    program::{Program, Setup},
    sender::{SECRET, Sender},
    until,
};

const PATIENCE: Duration = Duration::from_secs(60);

const STRIPE: &str = "[store]\nurl = \"sqlite:hookonce.db\"\n[sources.stripe]\nsecrets = [\"whsec_a_secret_that_no_output_may_show\"]\n";

/// An authority, and a certificate of it for this machine, in files.
struct Authority {
    folder: PathBuf,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        let authority = Self { folder: folder.to_owned() };
        authority.openssl(&format!(
            "req -x509 {KEY} -days 2 -subj /CN=Authority -keyout authority.key -out authority.pem"
        ));
        fs::write(folder.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1").unwrap();
        authority
    }

    /// A pair of this name, not used before.
    fn pair(&self, name: &str) -> Pair {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        self.openssl(&format!("req {KEY} -subj /CN=localhost -keyout {key} -out request"));
        self.openssl(&format!(
            "x509 -req -in request -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names -out {cert}"
        ));
        Pair { cert: self.folder.join(cert), key: self.folder.join(key) }
    }

    fn file(&self) -> String {
        self.folder.join("authority.pem").display().to_string()
    }

    /// A client that believes this authority. One that has been here before resumes its session, and is
    /// shown no certificate again.
    fn client(&self) -> Client {
        let pem = fs::read(self.file()).unwrap();
        http_client_builder()
            .tls_certs_merge([reqwest::Certificate::from_pem(&pem).unwrap()])
            .tls_info(true)
            .build()
            .unwrap()
    }

    fn openssl(&self, arguments: &str) {
        let made = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&self.folder)
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "openssl {arguments}");
    }
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

fn toml(name: &str, Pair { cert, key }: &Pair) -> String {
    format!("{name} = {{ cert = {cert:?}, key = {key:?} }}\n")
}

/// Puts `new` in the place of `old`, one file after the other, as tools do.
fn renew(old: &Pair, new: &Pair) {
    fs::copy(&new.cert, &old.cert).unwrap();
    fs::copy(&new.key, &old.key).unwrap();
}

/// Sends an event, and gives the answer's status and the certificate that was shown.
async fn send(client: &Client, port: u16, id: &str) -> (u16, Vec<u8>) {
    let request = String::from_utf8(Sender::with(SECRET).request(id)).unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut asked = client
        .post(format!("https://localhost:{port}/webhooks/stripe"))
        .body(body.to_owned())
        .timeout(PATIENCE);
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        if !matches!(name, "host" | "content-length") {
            asked = asked.header(name, value);
        }
    }
    let answer = asked.send().await.unwrap();
    let info: &TlsInfo = answer.extensions().get().unwrap();
    (answer.status().as_u16(), info.peer_certificate().unwrap().to_vec())
}

fn der(pair: &Pair) -> Vec<u8> {
    hookonce::tls::certificates(&pair.cert).unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_changes_under_load_and_no_request_fails() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::new(folder.path()));
    let (served, next) = (authority.pair("served"), authority.pair("next"));
    let (before, after) = (der(&served), der(&next));
    let setup = Setup::new(folder.path(), &format!("{}{STRIPE}", toml("tls", &served)));
    let program = setup.start().await;

    let stop = Arc::new(AtomicBool::new(false));
    let mut load = tokio::task::JoinSet::new();
    for sender in 0..4 {
        let (stop, port) = (Arc::clone(&stop), setup.port);
        let authority = Arc::clone(&authority);
        load.spawn(async move {
            let (mut sent, mut shown, mut client) = (0, Vec::new(), authority.client());
            while !stop.load(Ordering::Relaxed) {
                if sender % 2 == 0 {
                    client = authority.client(); // a stranger each time
                }
                let (status, certificate) =
                    send(&client, port, &format!("evt_{sender}_{sent}")).await;
                assert_eq!(status, 200);
                shown.push(certificate);
                sent += 1;
            }
            shown
        });
    }
    assert_eq!(send(&authority.client(), setup.port, "evt_before").await, (200, before.clone()));

    fs::copy(&next.cert, &served.cert).unwrap(); // half of a new pair is none
    let (status, said) = program.ask("POST", "/api/v1/reload", None).await.unwrap();
    assert_eq!(status, 422, "{said}");
    assert!(said.contains("the key is not that of the certificate"), "{said}");
    assert_eq!(send(&authority.client(), setup.port, "evt_between").await, (200, before.clone()));

    renew(&served, &next);
    program.hang_up();
    let is_new = || async { send(&authority.client(), setup.port, "evt_again").await.1 == after };
    until("the new certificate is served", PATIENCE, is_new).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    let shown: Vec<_> = load.join_all().await.into_iter().flatten().collect();
    assert!(shown.len() > 20, "{}", shown.len());
    let kinds: BTreeSet<_> = shown.into_iter().collect();
    assert_eq!(kinds, BTreeSet::from([before, after]), "both were served, and nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_found_without_being_told() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let (served, next) = (authority.pair("served"), authority.pair("next"));
    let after = der(&next);
    let setup = Setup::new(folder.path(), &format!("{}{STRIPE}", toml("tls", &served)));
    let program = setup.start().await;
    fs::write(&served.key, "half written").unwrap();
    let refused = "the old one goes on";
    let told = || async { program.log().contains(refused) };
    until("a bad pair is told", PATIENCE, told).await;
    renew(&served, &next);
    let is_new = || async { send(&authority.client(), setup.port, "evt_1").await.1 == after };
    until("the new certificate is served", PATIENCE, is_new).await;
    assert_eq!(program.log().matches(refused).count(), 1, "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_believe_the_certificate_of_their_configuration_or_an_authority() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let served = authority.pair("served");
    let both = format!("{}{}{STRIPE}", toml("tls", &served), toml("admin_tls", &served));
    let setup = Setup::new(folder.path(), &both);
    let program = setup.spawn();
    let well = |arguments: &[&str]| setup.command(&program, arguments).status.success();
    until("it is ready", PATIENCE, || async { well(&["health"]) }).await;
    assert!(well(&["send", "stripe", "--copies", "2"]), "{}", program.log());
    let events = setup.command(&program, &["events", "--json"]);
    assert!(String::from_utf8_lossy(&events.stdout).contains("duplicate"), "{events:?}");

    let named = format!("https://localhost:{}", setup.admin_port);
    assert!(well(&["health", "--server", &named, "--ca", &authority.file()]));
    let to = format!("https://localhost:{}", setup.port);
    assert!(well(&["send", "stripe", "--to", &to, "--ca", &authority.file()]));
    let stranger = setup.command(&program, &["stats", "--server", &named]);
    let said = String::from_utf8_lossy(&stranger.stderr);
    assert!(said.contains("is not believed") && said.contains("--ca"), "{said}");
    assert_eq!(stranger.status.code(), Some(69));
    assert!(!well(&["send", "stripe", "--to", &to]));

    // Somebody else at our own address is not taken for the server either.
    let stranger = authority.pair("stranger");
    setup.write(&both.replace("served", "stranger"));
    assert!(
        well(&["stats"]),
        "the certificate in the file is new, and the server's own word counts"
    );
    fs::remove_file(setup.data_dir().join("admin-certificate.der")).unwrap();
    assert!(well(&["health"]), "who only asks how it is needs to believe nobody");
    let checked = setup.command(&program, &["check"]);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(said.contains("is not believed") && !said.contains("in use"), "{said}");
    assert!(!well(&["stats"]), "{stranger:?}");
    let plain = http_client().get(format!("http://localhost:{}/healthz", setup.admin_port)).send();
    assert!(plain.await.is_err(), "nothing is said without TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_cannot_be_used_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let (one, other) = (authority.pair("one"), authority.pair("other"));
    let crossed = Pair { cert: one.cert.clone(), key: other.key };
    let missing = Pair { cert: folder.path().join("nowhere.pem"), key: one.key };
    for (pair, why) in [
        (&crossed, "the key is not that of the certificate"),
        (&missing, "nowhere.pem cannot be read"),
    ] {
        let setup = Setup::new(folder.path(), &format!("{}{STRIPE}", toml("tls", pair)));
        let program: Program = setup.spawn();
        let check = setup.command(&program, &["check"]);
        assert!(String::from_utf8_lossy(&check.stdout).contains(why), "{check:?}");
        assert!(!check.status.success());
        let (status, said) = program.wait();
        assert!(!status.success() && said.contains(why), "{said}");
    }
}

#[test]
fn a_pair_is_looked_at_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let (served, next) = (authority.pair("served"), authority.pair("next"));
    let certificate = Certificate::load(served.clone()).unwrap();
    assert_eq!(certificate.look(), Ok(Looked::Same));
    fs::write(&served.key, "no key").unwrap();
    let empty = Unusable::Empty { file: served.key.clone(), what: "private key" };
    assert_eq!(certificate.look(), Err(empty));
    fs::write(&served.cert, "").unwrap();
    let empty = Unusable::Empty { file: served.cert.clone(), what: "certificate" };
    assert_eq!(certificate.look(), Err(empty));
    renew(&served, &next);
    assert_eq!(certificate.look(), Ok(Looked::Renewed));
    assert_eq!(certificate.look(), Ok(Looked::Same));
    let told = format!("{certificate:?}");
    assert!(told.contains("served.key") && !told.contains("BEGIN"), "{told}");
}

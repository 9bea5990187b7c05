//! Where settings come from, and what is refused.

use super::*;

fn load(args: &HostArgs) -> anyhow::Result<Settings> {
    Settings::load(args, Path::new("here"), |_| None)
}

fn with_file(text: &str) -> (tempfile::NamedTempFile, HostArgs) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let args = HostArgs { config: Some(file.path().to_owned()), ..HostArgs::default() };
    (file, args)
}

fn error_of(text: &str) -> String {
    let (_file, args) = with_file(text);
    format!("{:#}", load(&args).expect_err(text))
}

#[test]
fn without_anything_the_defaults_hold() {
    let settings = load(&HostArgs::default()).expect("settings");
    assert_eq!(settings.data_dir, Path::new("here"));
    assert_eq!(settings.admin_listen.to_string(), "127.0.0.1:7070");
    assert_eq!(settings.public_listen.to_string(), "127.0.0.1:7071");
    assert_eq!(settings.limits, Limits::default());
    assert_eq!(settings.outbound, OutboundPolicy::default());
    assert!(settings.admin.token.is_none());
}

#[test]
fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
    let (_file, mut args) = with_file(
        r#"
        data-dir = "/data"
        [http]
        admin-listen = "127.0.0.1:1"
        admin-hosts = ["a.example"]
        connections = 7
        [runtime]
        resident-instances = 3
        activity-concurrency = 4
        queue-concurrency = { slow = 2 }
        [limits]
        payload-bytes = 1000
        [outbound]
        allow = ["b.example"]
        [outbound.limits]
        redirects = 1
        [log]
        level = "warn"
        format = "json"
        "#,
    );
    args.admin_listen = Some("127.0.0.1:2".parse().expect("an address"));
    args.resident_instances = Some(1);
    args.admin_hosts = vec!["c.example".to_owned()];
    args.allow_outbound = vec!["localhost".to_owned()];
    let settings = load(&args).expect("settings");
    assert_eq!(settings.data_dir, Path::new("/data"));
    assert_eq!(settings.admin_listen.port(), 2);
    assert_eq!((settings.runtime.resident_instances, settings.runtime.activity_concurrency), (1, 4));
    assert_eq!(settings.runtime.queue_concurrency["slow"], 2);
    assert_eq!((settings.http.connections, settings.limits.payload_bytes), (7, 1000));
    assert_eq!(settings.admin.hosts, ["a.example", "c.example"]);
    assert_eq!(settings.outbound.allow, ["b.example", "localhost"]);
    assert_eq!(settings.outbound_limits.redirects, 1);
    assert_eq!(settings.log, Log { level: "warn".to_owned(), format: LogFormat::Json });
}

#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    for (text, named) in [
        ("data_dir = '/x'", "data_dir"),
        ("[http]\nport = 1", "port"),
        ("[limits]\npayload = 1", "payload"),
        ("[outbound]\ndeny = []", "deny"),
        ("[secrets.key]\nvalue = 'x'", "value"),
        ("[logs]\nlevel = 'info'", "logs"),
    ] {
        let error = error_of(text);
        assert!(error.contains(named) && error.contains("the configuration file"), "{error}");
    }
}

#[test]
fn a_wrong_value_is_an_error_that_names_the_key() {
    assert!(error_of("[runtime]\nresident-instances = 0").contains("runtime.resident-instances"));
    assert!(error_of("[http]\nadmin-listen = 'here'").contains("admin-listen"));
    for url in ["ftp://a.example", "a.example", "https://a.example/?x=1", "https://u:p@a.example"] {
        assert!(error_of(&format!("[http]\npublic-url = '{url}'")).contains(url), "{url}");
    }
}

#[test]
fn a_public_url_loses_its_last_slash_and_keeps_its_path() {
    assert_eq!(base_url("https://a.example").expect("a URL"), "https://a.example");
    assert_eq!(base_url("https://a.example:8443/hooks/").expect("a URL"), "https://a.example:8443/hooks");
}

#[test]
fn a_listener_on_all_addresses_needs_a_public_url() {
    let settings = load(&HostArgs::default()).expect("settings");
    let error = settings.runtime("0.0.0.0:7071".parse().expect("an address")).expect_err("no URL").to_string();
    assert!(error.contains("--public-url"), "{error}");
    let config = settings.runtime("127.0.0.1:9".parse().expect("an address")).expect("a configuration");
    assert_eq!(config.public_url, "http://127.0.0.1:9");
}

#[test]
fn a_token_comes_from_a_file_before_the_environment() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    assert!(token(None, Some(file.path())).expect_err("empty").to_string().contains("is empty"));
    std::fs::write(file.path(), "from-the-file-0123\n").expect("written");
    let variable = || Some("from-the-environment".to_owned());
    assert_eq!(token(variable(), Some(file.path())).expect("a token").as_deref(), Some("from-the-file-0123"));
    assert_eq!(token(variable(), None).expect("a token").as_deref(), Some("from-the-environment"));
    assert_eq!(token(Some(String::new()), None).expect("none"), None);
}

#[test]
fn a_host_aborts_after_so_many_writes_only_if_its_environment_says_so() {
    let load = |value: Option<&str>| {
        let env = |name: &str| value.filter(|_| name == ABORT_AFTER_WRITES).map(str::to_owned);
        Settings::load(&HostArgs::default(), Path::new("here"), env)
    };
    assert_eq!(load(None).expect("settings").abort_after_writes, None);
    assert_eq!(load(Some("3")).expect("settings").abort_after_writes, NonZeroU64::new(3));
    for wrong in ["0", "-1", "many", ""] {
        assert!(load(Some(wrong)).expect_err(wrong).to_string().contains(ABORT_AFTER_WRITES), "{wrong}");
    }
}

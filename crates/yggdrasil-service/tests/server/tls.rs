//! Connections that nobody else can read.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use resp::Reply;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use yggdrasil_service::{Secret, Server, ServerConfig, StartError, TlsConfig};

use crate::peer::Peer;

/// Certificates that are made for one test.
pub(crate) struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let keys = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let (ca, ca_key) = (keys.text("ca.pem"), keys.text("ca.key"));
        let new_key = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        let root = [
            "req", "-x509", "-days", "2", "-subj", "/CN=root", "-out", &ca,
        ];
        openssl(&[&root[..], &["-keyout", &ca_key], &new_key].concat());
        for name in ["server", "client", "other"] {
            keys.issue(name, &ca, &ca_key);
        }
        keys
    }

    fn issue(&self, name: &str, ca: &str, ca_key: &str) {
        let new_key = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        let (key, request) = (self.text(&format!("{name}.key")), self.text("request"));
        let subject = format!("/CN={name}");
        let request_it = ["req", "-subj", &subject, "-keyout", &key, "-out", &request];
        openssl(&[&request_it[..], &new_key].concat());
        let extensions = self.text("extensions");
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
        std::fs::write(&extensions, names).unwrap();
        let certificate = self.text(&format!("{name}.pem"));
        let sign = [
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &request,
            "-out",
            &certificate,
        ];
        let by = [
            "-CA",
            ca,
            "-CAkey",
            ca_key,
            "-CAcreateserial",
            "-extfile",
            &extensions,
        ];
        openssl(&[&sign[..], &by].concat());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn config(&self) -> TlsConfig {
        TlsConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            certificate: self.path("server.pem"),
            key: self.path("server.key"),
            clients: None,
        }
    }
}

fn openssl(args: &[&str]) {
    let output = Command::new("openssl").args(args).output();
    let output = output.expect("install it with: apt-get install openssl");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {text}");
}

/// A server with TLS on a free port, and where it is.
pub(crate) fn start(tls: TlsConfig, config: ServerConfig) -> (Server, SocketAddr) {
    let (server, _) = crate::start(ServerConfig {
        tls: Some(tls),
        ..config
    });
    let address = server.tls_addresses()[0];
    (server, address)
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn client_config(
    keys: &Keys,
    versions: &[&'static SupportedProtocolVersion],
    certificate: Option<&str>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(keys.path("ca.pem")).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match certificate {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let pem = |kind: &str| keys.path(&format!("{name}.{kind}"));
            let chain = vec![CertificateDer::from_pem_file(pem("pem")).unwrap()];
            let key = PrivateKeyDer::from_pem_file(pem("key")).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Stream {
    let socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(
        ClientConnection::new(Arc::clone(config), name).unwrap(),
        socket,
    )
}

/// Answers of a client with TLS.
fn answers(stream: &mut Stream, count: usize) -> Vec<Reply> {
    let (mut input, mut found) = (Vec::new(), Vec::new());
    while found.len() < count {
        if let Some((reply, used)) = Reply::parse(&input, 1 << 30).unwrap() {
            input.drain(..used);
            found.push(reply);
            continue;
        }
        let mut piece = vec![0; 1 << 16];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "closed after {} answers", found.len());
        input.extend_from_slice(&piece[..read]);
    }
    found
}

fn ask(stream: &mut Stream, line: &str) -> Reply {
    stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    answers(stream, 1).remove(0)
}

fn pong() -> Reply {
    Reply::Simple("PONG".to_owned())
}

#[test]
fn both_versions_are_spoken() {
    let keys = Keys::new();
    let (server, address) = start(keys.config(), ServerConfig::default());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = client_config(&keys, &[version], None);
        let mut stream = connect(address, &config);
        assert_eq!(ask(&mut stream, "PING"), pong());
        let spoken = stream.conn.protocol_version();
        assert_eq!(spoken, Some(version.version));
        assert_eq!(
            ask(&mut stream, "INCR n"),
            Reply::Integer(if version.version == rustls::ProtocolVersion::TLSv1_3 {
                1
            } else {
                2
            })
        );
        stream.write_all(b"QUIT\r\n").unwrap();
        assert_eq!(answers(&mut stream, 1), [Reply::Simple("OK".to_owned())]);
        // It says that it ends.
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    }
    // The plain port has the same keys.
    let mut plain = Peer::connect(server.addresses()[0]);
    assert_eq!(plain.ask("GET n"), "$1 2");
}

/// Long values and long pipelines in both directions, in pieces of any length.
#[test]
fn much_goes_through() {
    let keys = Keys::new();
    let (_server, address) = start(keys.config(), ServerConfig::default());
    let config = client_config(&keys, rustls::ALL_VERSIONS, None);
    let value: String = ('a'..='z').cycle().take(1 << 20).collect();
    let mut stream = connect(address, &config);
    let mut set = Vec::new();
    resp::command(&mut set, ["SET", "k", &value]);
    stream.write_all(&set).unwrap();
    assert_eq!(answers(&mut stream, 1), [Reply::Simple("OK".to_owned())]);
    stream.write_all("GET k\r\n".repeat(40).as_bytes()).unwrap();
    for reply in answers(&mut stream, 40) {
        assert_eq!(reply, Reply::Bulk(value.clone().into_bytes()));
    }
    stream
        .write_all("INCR n\r\n".repeat(20_000).as_bytes())
        .unwrap();
    let numbers = answers(&mut stream, 20_000);
    assert_eq!(numbers.last(), Some(&Reply::Integer(20_000)));
    // What was sent before the end is still answered.
    stream.write_all(b"GET n\r\n").unwrap();
    stream.conn.send_close_notify();
    assert_eq!(answers(&mut stream, 1), [Reply::Bulk(b"20000".to_vec())]);
}

#[test]
fn many_clients_at_once() {
    let keys = Keys::new();
    let (_server, address) = start(
        keys.config(),
        ServerConfig {
            threads: 4,
            ..ServerConfig::default()
        },
    );
    let config = client_config(&keys, rustls::ALL_VERSIONS, None);
    let mut subscriber = connect(address, &config);
    subscriber.write_all(b"SUBSCRIBE c\r\n").unwrap();
    answers(&mut subscriber, 1);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut streams: Vec<Stream> = (0..25).map(|_| connect(address, &config)).collect();
                for stream in &mut streams {
                    stream.write_all(b"INCR n\r\nPUBLISH c hello\r\n").unwrap();
                }
                for stream in &mut streams {
                    assert_eq!(answers(stream, 2)[1], Reply::Integer(1));
                }
            });
        }
    });
    assert_eq!(answers(&mut subscriber, 200).len(), 200);
    let mut stream = connect(address, &config);
    assert_eq!(ask(&mut stream, "GET n"), Reply::Bulk(b"200".to_vec()));
}

#[test]
fn clients_without_a_certificate_are_refused() {
    let keys = Keys::new();
    let tls = TlsConfig {
        clients: Some(keys.path("ca.pem")),
        listen: vec!["0.0.0.0:0".parse().unwrap()],
        ..keys.config()
    };
    // A certificate is as good as a password.
    let (_server, address) = start(tls, ServerConfig::default());
    let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let with = client_config(&keys, &[version], Some("client"));
        assert_eq!(ask(&mut connect(address, &with), "PING"), pong());
        let without = client_config(&keys, &[version], None);
        let mut stream = connect(address, &without);
        let sent = stream.write_all(b"PING\r\n");
        let read = stream.read(&mut [0; 64]);
        assert!(sent.is_err() || read.is_err(), "{read:?}");
    }
}

/// Others who sign for the same name are not believed.
#[test]
fn foreign_certificates_are_refused() {
    let (keys, others) = (Keys::new(), Keys::new());
    let tls = TlsConfig {
        clients: Some(keys.path("ca.pem")),
        ..keys.config()
    };
    let (_server, address) = start(tls, ServerConfig::default());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(keys.path("ca.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_file(others.path("client.pem")).unwrap()],
            PrivateKeyDer::from_pem_file(others.path("client.key")).unwrap(),
        )
        .unwrap();
    let mut stream = connect(address, &Arc::new(config));
    let sent = stream.write_all(b"PING\r\n");
    let read = stream.read(&mut [0; 64]);
    assert!(sent.is_err() || read.is_err(), "{read:?}");
}

/// Bytes that are no TLS, handshakes that stop in the middle, and records that were changed end their
/// connection and nothing else.
#[test]
fn wrong_bytes_end_their_connection_only() {
    let keys = Keys::new();
    let (_server, address) = start(
        keys.config(),
        ServerConfig {
            threads: 1,
            ..ServerConfig::default()
        },
    );
    let config = client_config(&keys, rustls::ALL_VERSIONS, None);
    let mut neighbour = connect(address, &config);
    assert_eq!(ask(&mut neighbour, "PING"), pong());
    let hello = client_hello(&config);
    let mut inputs: Vec<Vec<u8>> = vec![
        b"PING\r\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 1000],
        vec![0xff; 100_000],
        // A record that claims more than there may be.
        [&[22, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat(),
        // An alert, and data before any handshake.
        vec![21, 3, 3, 0, 2, 2, 40],
        vec![23, 3, 3, 0, 4, 1, 2, 3, 4],
        [
            &hello[..],
            b"not TLS at all, and long enough to be looked at",
        ]
        .concat(),
    ];
    for place in (0..hello.len()).step_by(7) {
        let mut changed = hello.clone();
        changed[place] ^= 0x55;
        inputs.push(changed);
    }
    for bytes in &inputs {
        let mut socket = TcpStream::connect(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        // The server may have closed it before it has everything.
        let _ = socket.write_all(bytes);
        let _ = socket.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains("PONG"), "{bytes:?}");
        assert_eq!(ask(&mut neighbour, "PING"), pong());
    }
    // Half a greeting, then the end; and many at once that never go on.
    let open: Vec<TcpStream> = (0..100)
        .map(|length| {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.write_all(&hello[..length.min(hello.len())]).unwrap();
            socket
        })
        .collect();
    assert_eq!(ask(&mut neighbour, "PING"), pong());
    drop(open);
    let clients = |neighbour: &mut Stream| match ask(neighbour, "CLIENT LIST") {
        Reply::Bulk(text) => text.iter().filter(|byte| **byte == b'\n').count(),
        other => panic!("{other:?}"),
    };
    while clients(&mut neighbour) != 1 {
        thread::yield_now();
    }
}

/// Who comes and does not say who it is has to go, and whoever did stays.
#[test]
fn handshakes_have_an_end() {
    let keys = Keys::new();
    let (_server, address) = start(keys.config(), ServerConfig::default());
    let config = client_config(&keys, rustls::ALL_VERSIONS, None);
    let mut good = connect(address, &config);
    assert_eq!(ask(&mut good, "PING"), pong());
    let hello = client_hello(&config);
    let mut silent: Vec<TcpStream> = (0..8)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    for socket in &mut silent {
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
    }
    silent[0].write_all(&hello[..20]).unwrap();
    silent[1].write_all(&hello).unwrap();
    for socket in &mut silent {
        let mut answer = Vec::new();
        // A connection that is closed with bytes unread is reset.
        let read = socket.read_to_end(&mut answer);
        let waits = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        assert!(!read.is_err_and(waits));
    }
    assert_eq!(ask(&mut good, "PING"), pong());
}

/// The first bytes of a client.
fn client_hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Records that were changed on the way are not taken for commands.
#[test]
fn changed_records_are_not_believed() {
    let keys = Keys::new();
    let (_server, address) = start(keys.config(), ServerConfig::default());
    let config = client_config(&keys, rustls::ALL_VERSIONS, None);
    let mut stream = connect(address, &config);
    assert_eq!(
        ask(&mut stream, "SET k before"),
        Reply::Simple("OK".to_owned())
    );
    stream.conn.writer().write_all(b"SET k after\r\n").unwrap();
    let mut record = Vec::new();
    stream.conn.write_tls(&mut record).unwrap();
    let last = record.len() - 1;
    record[last] ^= 1;
    stream.sock.write_all(&record).unwrap();
    let read = stream.read(&mut [0; 64]);
    assert!(read.is_err(), "{read:?}");
    let mut other = connect(address, &config);
    assert_eq!(ask(&mut other, "GET k"), Reply::Bulk(b"before".to_vec()));
}

#[test]
fn certificates_are_read_again() {
    let (keys, newer) = (Keys::new(), Keys::new());
    let (server, address) = start(keys.config(), ServerConfig::default());
    let (old, new) = (
        client_config(&keys, rustls::ALL_VERSIONS, None),
        client_config(&newer, rustls::ALL_VERSIONS, None),
    );
    let mut before = connect(address, &old);
    assert_eq!(ask(&mut before, "PING"), pong());
    // Half of the change is none.
    std::fs::copy(newer.path("server.pem"), keys.path("server.pem")).unwrap();
    let error = server.reload_tls().unwrap_err().to_string();
    assert!(
        error.contains("server.pem") && error.contains("server.key"),
        "{error}"
    );
    assert_eq!(ask(&mut connect(address, &old), "PING"), pong());
    std::fs::copy(newer.path("server.key"), keys.path("server.key")).unwrap();
    server.reload_tls().unwrap();
    assert_eq!(ask(&mut connect(address, &new), "PING"), pong());
    assert!(connect(address, &old).write_all(b"PING\r\n").is_err());
    // Who was there stays.
    assert_eq!(ask(&mut before, "PING"), pong());
}

#[test]
fn server_does_not_start_with_wrong_files() {
    let keys = Keys::new();
    let fails = |tls: TlsConfig| -> StartError {
        Server::start(ServerConfig {
            listen: Vec::new(),
            tls: Some(tls),
            ..ServerConfig::default()
        })
        .unwrap_err()
    };
    let empty = keys.path("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (tls, words) in [
        (
            TlsConfig {
                certificate: keys.path("none.pem"),
                ..keys.config()
            },
            "none.pem",
        ),
        (
            TlsConfig {
                certificate: empty.clone(),
                ..keys.config()
            },
            "empty.pem: there is no certificate in it",
        ),
        (
            TlsConfig {
                key: keys.path("client.key"),
                ..keys.config()
            },
            "client.key",
        ),
        (
            TlsConfig {
                clients: Some(empty),
                ..keys.config()
            },
            "empty.pem: there is no certificate in it",
        ),
    ] {
        let error = fails(tls).to_string();
        assert!(
            error.starts_with("TLS: ") && error.contains(words),
            "{error}"
        );
    }
    let open = || TlsConfig {
        listen: vec!["0.0.0.0:0".parse().unwrap()],
        ..keys.config()
    };
    assert!(matches!(fails(open()), StartError::Unprotected { .. }));
    let guarded = Server::start(ServerConfig {
        listen: Vec::new(),
        tls: Some(open()),
        password: Some(Secret::new(b"secret")),
        ..ServerConfig::default()
    });
    assert!(guarded.is_ok());
}

#[test]
fn redis_cli_works() {
    let keys = Keys::new();
    let tls = TlsConfig {
        clients: Some(keys.path("ca.pem")),
        ..keys.config()
    };
    let (_server, address) = start(tls, ServerConfig::default());
    let port = address.port().to_string();
    let cli = |certificate: &str, args: &[&str]| {
        let files = [
            ("--cacert", keys.path("ca.pem")),
            ("--cert", keys.path(&format!("{certificate}.pem"))),
            ("--key", keys.path(&format!("{certificate}.key"))),
        ];
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &port, "--tls"]);
        for (name, path) in files {
            command.args([Path::new(name), &path]);
        }
        let output = command.args(args).output();
        let output = output.expect("install it with: apt-get install redis-tools");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(cli("client", &["SET", "k", "v"]), "OK\n");
    assert_eq!(cli("other", &["GET", "k"]), "v\n");
}

//! Clusters of three servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use valkyrie_store::credentials::{Environment, Secret, SecretSource};
use valkyrie_store::{Event, Flavor, RedisConfig, RedisStore, StoreAdapter, TlsConfig, Topology};

use crate::conformance::conform;
use crate::server::free_port;
use crate::watch::tells;

/// Three servers that share the keys.
struct Cluster {
    dir: tempfile::TempDir,
    nodes: Vec<Child>,
    ports: Vec<u16>,
    flavor: Flavor,
    access: Access,
}

/// Who may come in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Everyone,
    /// Users with a password, over TLS with certificates on both sides.
    Users,
}

/// A port for clients, whose neighbour 10,000 above it is free for the nodes among themselves.
fn cluster_port() -> u16 {
    loop {
        let port = free_port();
        if port < 55_000 && std::net::TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

/// What openssl makes, in `dir`.
fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .output()
        .unwrap_or_else(|error| {
            panic!("openssl: {error}; install it with: apt-get install openssl")
        });
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority, and certificates of a server and a client that it has signed.
fn certificates(dir: &Path) {
    let authority = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
        -keyout ca.key -out ca.pem -subj /CN=authority";
    openssl(dir, authority);
    fs::write(
        dir.join("names"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\n",
    )
    .unwrap();
    for name in ["server", "client"] {
        openssl(
            dir,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key \
             -out {name}.csr -subj /CN={name}"
            ),
        );
        openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile names -out {name}.pem"
            ),
        );
    }
}

impl Cluster {
    fn start(flavor: Flavor, access: Access) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if access == Access::Users {
            certificates(dir.path());
        }
        let mut cluster = Self {
            dir,
            nodes: Vec::new(),
            ports: Vec::new(),
            flavor,
            access,
        };
        for number in 0..3 {
            cluster.add(number);
        }
        cluster.join();
        cluster
    }

    fn program(&self, part: &str) -> String {
        match self.flavor {
            Flavor::Valkey => format!("valkey-{part}"),
            _ => format!("redis-{part}"),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn add(&mut self, number: usize) {
        let port = cluster_port();
        let dir = self.file(&number.to_string());
        fs::create_dir(&dir).unwrap();
        let mut settings = format!(
            "bind 127.0.0.1\nsave \"\"\nappendonly no\ncluster-enabled yes\ndir {}\n\
             cluster-node-timeout 2000\nnotify-keyspace-events KA\n",
            dir.display()
        );
        settings += &match self.access {
            Access::Everyone => format!("port {port}\n"),
            Access::Users => format!(
                "port 0\ntls-port {port}\ntls-cluster yes\ntls-cert-file {}\ntls-key-file {}\n\
                 tls-ca-cert-file {}\nuser default off\nuser app on >secret allkeys allchannels allcommands\n",
                self.file("server.pem").display(),
                self.file("server.key").display(),
                self.file("ca.pem").display()
            ),
        };
        let file = dir.join("settings");
        fs::write(&file, settings).unwrap();
        let program = self.program("server");
        let node = Command::new(&program)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(fs::File::create(dir.join("log")).unwrap())
            .spawn();
        let node = node.unwrap_or_else(|error| {
            panic!("{program}: {error}; install it with: apt-get install redis-server, scripts/install-valkey.sh")
        });
        self.nodes.push(node);
        self.ports.push(port);
    }

    /// Runs the client of the project against a node.
    fn cli(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.program("cli"));
        if self.access == Access::Users {
            command.args([
                "--tls",
                "--user",
                "app",
                "--pass",
                "secret",
                "--no-auth-warning",
            ]);
            for (option, file) in [
                ("--cacert", "ca.pem"),
                ("--cert", "client.pem"),
                ("--key", "client.key"),
            ] {
                command.arg(option).arg(self.file(file));
            }
        }
        let output = command.args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    }

    fn join(&self) {
        let start = Instant::now();
        let until = |what: &str, is_so: &dyn Fn() -> bool| {
            while !is_so() {
                assert!(start.elapsed() < Duration::from_secs(60), "{what}");
                thread::sleep(Duration::from_millis(50));
            }
        };
        let port = |port: &u16| port.to_string();
        for node in self.ports.iter().map(port) {
            until("a node answers", &|| {
                self.cli(&["-p", &node, "PING"]).starts_with("PONG")
            });
        }
        let nodes: Vec<String> = self
            .ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        let joined = self.cli(&[&["--cluster", "create"][..], &nodes, &["--cluster-yes"]].concat());
        assert!(joined.contains("All 16384 slots covered"), "{joined}");
        for node in self.ports.iter().map(port) {
            until("the cluster is whole", &|| {
                self.cli(&["-p", &node, "CLUSTER", "INFO"])
                    .contains("cluster_state:ok")
            });
        }
    }

    fn config(&self) -> RedisConfig {
        let read = |name: &str| fs::read(self.file(name)).unwrap();
        let mut config = RedisConfig {
            name: "cluster".to_owned(),
            url: format!("valkey://127.0.0.1:{}", self.ports.first().unwrap()),
            topology: Topology::Cluster,
            ..RedisConfig::default()
        };
        if self.access == Access::Users {
            config.username = Some("app".to_owned());
            config.password = Some("secret".into());
            config.tls = Some(TlsConfig {
                authorities: Some(read("ca.pem")),
                identity: Some((read("client.pem"), read("client.key"))),
            });
        }
        config
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

#[tokio::test]
async fn redis_cluster_conforms() {
    let cluster = Cluster::start(Flavor::Redis, Access::Everyone);
    let store = RedisStore::new(&cluster.config()).unwrap();
    assert_eq!(store.flavor().await.unwrap(), Flavor::Redis);
    conform(&store).await;
    tells(&store).await;
}

#[tokio::test]
async fn another_master_is_watched_when_it_has_keys() {
    let mut cluster = Cluster::start(Flavor::Redis, Access::Everyone);
    let store = RedisStore::new(&cluster.config()).unwrap();
    let mut watch = store.watch(b"k").await.unwrap();
    cluster.add(3);
    let port = |number: usize| cluster.ports[number].to_string();
    let (first, new) = (port(0), port(3));
    let begun = Instant::now();
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
            thread::sleep(Duration::from_millis(50));
        }
    };
    until("the new node answers", &|| {
        cluster.cli(&["-p", &new, "PING"]).starts_with("PONG")
    });
    cluster.cli(&["-p", &first, "CLUSTER", "MEET", "127.0.0.1", &new]);
    let id = cluster.cli(&["-p", &new, "CLUSTER", "MYID"]);
    let slot = cluster.cli(&["-p", &new, "CLUSTER", "KEYSLOT", "k"]);
    let (id, slot) = (id.trim(), slot.trim());
    for number in 0..3 {
        until("all know it", &|| {
            let nodes = cluster.cli(&["-p", &port(number), "CLUSTER", "NODES"]);
            nodes.contains(id)
        });
    }
    until("it knows all", &|| {
        let info = cluster.cli(&["-p", &new, "CLUSTER", "INFO"]);
        info.contains("cluster_state:ok")
    });
    for number in [3, 0, 1, 2] {
        let place = port(number);
        let set = ["-p", &place, "CLUSTER", "SETSLOT", slot, "NODE", id];
        assert!(cluster.cli(&set).starts_with("OK"));
    }
    let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    assert_eq!(event.unwrap(), Some(Event::Lost));
    while !watch.is_live() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.set("k", "v", None).await.unwrap();
    let told = async {
        loop {
            match watch.next().await {
                Some(Event::Lost) => {}
                other => break other,
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(20), told).await;
    assert!(matches!(told, Ok(Some(Event::Changed { .. }))), "{told:?}");
}

#[tokio::test]
async fn valkey_cluster_with_tls_and_users_conforms() {
    let cluster = Cluster::start(Flavor::Valkey, Access::Users);
    let store = RedisStore::new(&cluster.config()).unwrap();
    assert_eq!(store.flavor().await.unwrap(), Flavor::Valkey);
    conform(&store).await;
    tells(&store).await;
    ensure_login_changes(&cluster, &store).await;
    // Every part of who one is counts.
    let good = cluster.config();
    let without_tls = RedisConfig {
        tls: None,
        ..good.clone()
    };
    let without_certificate = RedisConfig {
        tls: good.tls.clone().map(|tls| TlsConfig {
            identity: None,
            ..tls
        }),
        ..good.clone()
    };
    let of_another_authority = RedisConfig {
        tls: good.tls.clone().map(|tls| TlsConfig {
            authorities: None,
            ..tls
        }),
        ..good.clone()
    };
    let wrong_password = RedisConfig {
        password: Some("wrong".into()),
        ..good
    };
    for config in [
        without_tls,
        without_certificate,
        of_another_authority,
        wrong_password,
    ] {
        let store = RedisStore::new(&RedisConfig {
            connect_timeout: Duration::from_millis(500),
            ..config
        });
        let error = store.unwrap().get("k").await.unwrap_err();
        assert!(error.is_not_applied(), "{error:?}");
        assert!(!format!("{error:?}").contains("wrong\""), "{error:?}");
    }
}

#[tokio::test]
async fn yggdrasil_cluster_conforms() {
    let ports = [free_port(), free_port(), free_port()];
    let mut members = "epoch 1\n".to_owned();
    for (name, port) in ["a", "b", "c"].iter().zip(ports) {
        members += &format!("node {name} 127.0.0.1:{port} 1\n");
    }
    let start = |(name, port): (&str, u16)| {
        let members = members.parse().unwrap();
        yggdrasil_service::Server::start(yggdrasil_service::ServerConfig {
            listen: vec![([127, 0, 0, 1], port).into()],
            buckets: 10_000,
            threads: 1,
            cluster: Some(yggdrasil_service::ClusterConfig::new(name, members)),
            ..yggdrasil_service::ServerConfig::default()
        })
    };
    let servers: Vec<_> = ["a", "b", "c"].into_iter().zip(ports).map(start).collect();
    assert!(servers.iter().all(Result::is_ok), "{servers:?}");
    let store = RedisStore::new(&RedisConfig {
        name: "yggdrasil".to_owned(),
        url: format!("yggdrasil://127.0.0.1:{}", ports[0]),
        topology: Topology::Cluster,
        timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        ..RedisConfig::default()
    })
    .unwrap();
    // They need a moment to find each other.
    let began = Instant::now();
    while let Err(error) = store.get("k").await {
        assert!(began.elapsed() < Duration::from_secs(20), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.flavor().await.unwrap(), Flavor::Yggdrasil);
    conform(&store).await;
    tells(&store).await;
}

/// Passwords change at every node, and are read again when a cluster refuses them.
async fn ensure_login_changes(cluster: &Cluster, store: &RedisStore) {
    for port in &cluster.ports {
        let user = "ACL SETUSER other on >second allkeys allchannels allcommands";
        let port = port.to_string();
        let words: Vec<&str> = ["-p", &port].into_iter().chain(user.split(' ')).collect();
        assert!(cluster.cli(&words).starts_with("OK"));
    }
    let wrong = store.set_credentials(Some("other"), "third".into()).await;
    assert!(wrong.unwrap_err().is_not_applied());
    store.set("before", "v", None).await.unwrap();
    store
        .set_credentials(Some("other"), "second".into())
        .await
        .unwrap();
    for number in 0..20 {
        store
            .set(format!("after {number}"), "v", None)
            .await
            .unwrap();
    }
    store.change_password("fourth".into()).await.unwrap();
    for number in 0..20 {
        store
            .set(format!("then {number}"), "v", None)
            .await
            .unwrap();
    }
    let fourth = RedisConfig {
        username: Some("other".to_owned()),
        password: Some("fourth".into()),
        ..cluster.config()
    };
    RedisStore::new(&fourth).unwrap().ping().await.unwrap();
    let second = RedisConfig {
        password: Some("second".into()),
        ..fourth
    };
    assert!(RedisStore::new(&second).unwrap().ping().await.is_err());
    let path = cluster.file("password");
    let source = SecretSource::File(path.clone());
    let write = |password: &str| {
        fs::write(&path, password).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("wrong");
    let of_file = RedisStore::new(&RedisConfig {
        password: None,
        password_from: Some(Secret::new(source, Environment::process())),
        ..cluster.config()
    });
    let of_file = of_file.unwrap();
    assert!(of_file.get("before").await.unwrap_err().is_not_applied());
    write("secret");
    assert!(of_file.get("before").await.unwrap().is_some());
}

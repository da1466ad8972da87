//! `rustci store credentials`, and servers that read passwords again.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::world::World;

const CANARY: &str = "canary-horse-staple";

/// A server that wants a password and ends with the test.
struct Valkey {
    child: Child,
    port: u16,
}

impl Valkey {
    fn start(password: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let number = port.to_string();
        let arguments = ["--port", &number, "--save", "", "--requirepass", password];
        let child = Command::new("valkey-server")
            .args(arguments)
            .stdout(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("valkey-server: {error}; install it with: scripts/install-valkey.sh")
        });
        until("the server listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { child, port }
    }

    /// Has the server do something as its administrator.
    fn does(&self, password: &str, words: &[&str]) -> String {
        let port = self.port.to_string();
        let said = Command::new("valkey-cli")
            .args(["-p", &port, "-a", password, "--no-auth-warning"])
            .args(words)
            .output();
        String::from_utf8(said.unwrap().stdout).unwrap()
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn write_private(world: &World, name: &str, text: &str) -> String {
    let path = world.path(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// A new identity in a file, and its recipient.
fn keygen(world: &World) -> (String, String) {
    let identity = world.path("identity").display().to_string();
    let args = ["store", "credentials", "keygen", "-o", &identity];
    let recipient = world.rustci(&args).ended_with(0).out.trim().to_owned();
    assert!(recipient.starts_with("age1"), "{recipient}");
    let mode = fs::metadata(&identity).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // One that is there is never written over.
    let kept = fs::read(&identity).unwrap();
    world.rustci(&args).ended_with(5).complains("cannot make");
    assert_eq!(fs::read(&identity).unwrap(), kept);
    (identity, recipient)
}

#[test]
fn password_is_encrypted_found_and_rotated() {
    let world = World::new();
    let server = Valkey::start(CANARY);
    let (identity, recipient) = keygen(&world);
    let credentials = |args: &[&str]| {
        let mut command = world.command(&[&["store", "credentials"], args].concat());
        command.env("VALKYRIE_AGE_IDENTITY_FILE", &identity);
        command.env("NEW_PASSWORD", "canary-new");
        command
    };

    let args = [
        "store",
        "credentials",
        "encrypt",
        "--store",
        "valkey",
        "--recipient",
        &recipient,
    ];
    let said = world
        .rustci_reading(&args, &format!("{CANARY}\n"))
        .ended_with(0);
    said.says("    password_encrypted: |\n      -----BEGIN AGE ENCRYPTED FILE-----\n");
    assert!(!said.out.contains(CANARY));
    let url = format!("    url: valkey://127.0.0.1:{}\n", server.port);
    let yaml = said.out.replace("store:\n", "store:\n  mode: valkey\n");
    world.write(
        "valkyrie.yaml",
        &yaml.replace("  valkey:\n", &format!("  valkey:\n{url}")),
    );

    let run = |args: &[&str]| super::world::Said::from(credentials(args).output().unwrap());
    let said = run(&["check"]).ended_with(0);
    said.says("valkey  default  text encrypted with age  found");
    let said = run(&[
        "rotate",
        "--store",
        "valkey",
        "--new-from",
        "env:NEW_PASSWORD",
    ]);
    let said = said.ended_with(0);
    said.says("valkey has the new password, and a new connection used it");
    said.says("store.valkey.password_encrypted in valkyrie.yaml");
    assert!(!format!("{said:?}").contains("canary"));
    assert_eq!(server.does("canary-new", &["PING"]).trim(), "PONG");
    // The one in the file is the old one now.
    let said = run(&[
        "rotate",
        "--store",
        "valkey",
        "--new-from",
        "env:NEW_PASSWORD",
    ]);
    let said = said.ended_with(5);
    said.complains("refuses the connection");
    assert!(!format!("{said:?}").contains("canary"));

    // Without the identity nothing is found, and nothing is shown.
    let said = world
        .rustci(&["store", "credentials", "check", "--json"])
        .ended_with(2);
    assert_eq!(
        said.json()[0]["stores"][0]["field"],
        "store.valkey.password_encrypted"
    );
    said.complains("VALKYRIE_AGE_IDENTITY_FILE");
}

#[test]
fn mistakes_do_not_show_secrets() {
    let world = World::new();
    let encrypt = |recipient: &str, password: &str| {
        let args = [
            "store",
            "credentials",
            "encrypt",
            "--store",
            "redis",
            "--recipient",
            recipient,
        ];
        world.rustci_reading(&args, password)
    };
    let said = world
        .rustci(&["store", "credentials", "keygen"])
        .ended_with(0);
    let identity = said.out.lines().last().unwrap();
    let recipient = said.out.lines().next().unwrap().rsplit(' ').next().unwrap();
    let values = ["store", "credentials", "keygen", "--for", "values"];
    let key = world.rustci(&values).ended_with(0);
    assert_eq!(key.out.trim().len(), 64);
    let wrong = encrypt(identity, "x").ended_with(2);
    wrong.complains("hint: `rustci store credentials keygen`");
    assert!(!wrong.err.contains("AGE-SECRET"), "{}", wrong.err);
    encrypt(recipient, "\n")
        .ended_with(2)
        .complains("no password");
    let args = [
        "store",
        "credentials",
        "rotate",
        "--store",
        "redis",
        "--new-from",
    ];
    let said = world.rustci(&[&args[..], &["env:ABSENT_PASSWORD"]].concat());
    said.ended_with(2).complains("valkyrie.yaml");
}

#[test]
fn hangup_has_a_server_read_the_password_of_its_stores_again() {
    let world = World::new();
    let valkey = Valkey::start("first");
    let file = write_private(&world, "password", "first\n");
    let url = format!("valkey://127.0.0.1:{}", valkey.port);
    let args = [
        "serve",
        "--json",
        "--http",
        "127.0.0.1:0",
        "--valkyrie",
        "valkyrie+tcp://127.0.0.1:0",
        "--store",
        &url,
        "--store-password-file",
        &file,
    ];
    let mut server = world.start(&args);
    server.wait_for("http");
    let is_connected = |password: &str| {
        let clients = valkey.does(password, &["CLIENT", "LIST"]);
        clients.lines().count() == 2
    };
    valkey.does("first", &["CONFIG", "SET", "requirepass", "second"]);
    write_private(&world, "password", "second\n");
    server.signal("HUP");
    until("the server comes with the new password", || {
        is_connected("second")
    });
    server.signal("TERM");
    assert_eq!(server.finish().0, Some(0));
}

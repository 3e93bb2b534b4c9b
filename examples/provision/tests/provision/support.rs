//! Processes of the service, and a client that is as plain as can be.
#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A directory for the files of one test, and the store of its services.
pub(crate) struct Files {
    directory: TempDir,
    store: String,
}

impl Files {
    /// With a store in a file of the directory.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}", directory.path().join("store.db").display());
        Self { directory, store }
    }

    /// With a store that is somewhere else.
    pub(crate) fn with_store(store: String) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    /// Starts a process on the store and the ledger of this directory.
    pub(crate) fn serve(&self, further: &[&str]) -> Process {
        let ledger = self.path("ledger.db");
        let mut arguments = vec!["--store".into(), self.store.clone()];
        if !further.contains(&"--transactional") {
            arguments.extend(["--ledger".into(), ledger.display().to_string()]);
        }
        arguments.extend(further.iter().map(ToString::to_string));
        Process::start(&arguments)
    }

    /// Keeps handlers from writing to the ledger, so that they stay where they are until the lock is dropped.
    pub(crate) fn hold_handlers(&self) -> Held {
        let connection = Connection::open(self.path("ledger.db")).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Held(connection)
    }

    /// Until a request has reserved its key.
    pub(crate) fn until_reserved(&self, records: i64) {
        let connection = Connection::open(self.path("store.db")).unwrap();
        let count = || {
            connection.query_row("SELECT count(*) FROM idem_record", (), |row| row.get::<_, i64>(0)).unwrap()
        };
        while count() < records {
            thread::yield_now();
        }
    }
}

/// The ledger's lock.
pub(crate) struct Held(Connection);

impl Held {
    pub(crate) fn let_go(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

/// A service. Killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(arguments: &[String]) -> Self {
        let mut command = provision();
        command.arg("serve").args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, address }
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Returns once it is gone; dropping it does the rest.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        ask(&self.address, &format!("GET {path} HTTP/1.1\r\n"), "")
    }

    /// `POST /db` of team `red`.
    pub(crate) fn create(&self, key: Option<&str>, body: &str) -> Answer {
        self.post("/db", Some("red"), key, body)
    }

    pub(crate) fn post(&self, path: &str, team: Option<&str>, key: Option<&str>, body: &str) -> Answer {
        ask(&self.address, &head(path, team, key), body)
    }

    /// The same in the background.
    pub(crate) fn creating(&self, key: &str, body: &str) -> JoinHandle<Answer> {
        let (address, head, body) =
            (self.address.clone(), head("/db", Some("red"), Some(key)), body.to_owned());
        thread::spawn(move || ask(&address, &head, &body))
    }

    /// The same, once it has reserved its key: it is sent twice, and one of the two is refused for the other. On a slow
    /// machine that one may have its answer already.
    pub(crate) fn create_until_in_flight(&self, key: &str, body: &str) -> JoinHandle<Answer> {
        let mut both = [self.creating(key, body), self.creating(key, body)];
        while !both[0].is_finished() {
            both.reverse();
            thread::yield_now();
        }
        let [ended, other] = both;
        let answer = ended.join().unwrap();
        if answer.status == 409 { other } else { thread::spawn(|| answer) }
    }

    /// All of the request but the end of its body.
    pub(crate) fn create_unfinished(&self, key: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = request(&head("/db", Some("red"), Some(key)), body);
        stream.write_all(&request.as_bytes()[..request.len() - 1]).unwrap();
        stream
    }

    /// Sends the request in the background until it is answered with 201, as a client would, and gives the body.
    pub(crate) fn asking_until_answered(&self, key: &str, body: &str) -> JoinHandle<String> {
        let (address, head, body) =
            (self.address.clone(), head("/db", Some("red"), Some(key)), body.to_owned());
        thread::spawn(move || {
            loop {
                let answer = ask(&address, &head, &body);
                match answer.status {
                    201 => return answer.body,
                    // Refused while another attempt is running, or its lease is.
                    409 | 503 => thread::sleep(std::time::Duration::from_millis(10)),
                    other => panic!("answered with {other}: {answer:?}"),
                }
            }
        })
    }

    pub(crate) fn ledger(&self) -> Vec<Value> {
        serde_json::from_str(&self.get("/ledger").body).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn provision() -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_provision")));
    command.stderr(Stdio::piped());
    command
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0 if the connection ended without an answer.
    pub(crate) status: u16,
    pub(crate) is_replay: bool,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn head(path: &str, team: Option<&str>, key: Option<&str>) -> String {
    let team = team.map(|team| format!("authorization: Bearer {team}\r\n")).unwrap_or_default();
    let key = key.map(|key| format!("idempotency-key: \"{key}\"\r\n")).unwrap_or_default();
    format!("POST {path} HTTP/1.1\r\n{team}{key}")
}

fn request(head: &str, body: &str) -> String {
    let length = body.len();
    format!("{head}host: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn ask(address: &str, head: &str, body: &str) -> Answer {
    let Ok(mut stream) = TcpStream::connect(address) else {
        // It was killed before.
        return Answer { status: 0, is_replay: false, body: String::new() };
    };
    // A process that is killed may end the connection at any time.
    let _ = stream.write_all(request(head, body).as_bytes());
    let mut answer = String::new();
    // A process that was aborted resets the connection.
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Answer {
        status: head.get(9..12).map_or(0, |status| status.parse().unwrap()),
        is_replay: head.contains("idempotent-replayed: true"),
        body: body.to_owned(),
    }
}

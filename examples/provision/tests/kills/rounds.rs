//! The rounds: each starts a process, kills it in the window that was drawn, and sees what its clients get from others.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, RandomState};
use std::thread::{self, JoinHandle};

use crate::database::{Database, Onlooker};
use crate::support::{Answer, Files, Process};
use crate::window::Window;

/// How the service has its effect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// In the transaction that completes the request.
    Transactional,
    /// By itself, before the completion.
    Plain,
}

/// Wide enough to be met, and the same in every retry, since another body would be another request.
const BODY: &str = r#"{"name": "orders", "simulate": {"delay_ms": 40, "hold_ms": 40}}"#;

/// Requests that nobody aims at, so that the kill meets them wherever they are.
const BYSTANDERS: u32 = 3;
const BYSTANDERS_BODY: &str = r#"{"name": "bystander"}"#;

/// Kills until every window has been hit often enough, and checks every key of every round.
pub(crate) fn run(database: &dyn Database, mode: Mode) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let per_window = number("IDEM_KILLS_PER_WINDOW").unwrap_or(6);
    let seed = number("IDEM_KILLS_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("IDEM_KILLS_SEED={seed} IDEM_KILLS_PER_WINDOW={per_window}");

    let windows = match mode {
        Mode::Transactional => Window::TRANSACTIONAL,
        Mode::Plain => Window::PLAIN,
    };
    let settings: &[&str] = match mode {
        Mode::Transactional => &["--simulate", "--lease", "1s", "--transactional"],
        Mode::Plain => &["--simulate", "--lease", "1s"],
    };
    let files = database.files();
    let others = [files.serve(settings), files.serve(settings)];
    let mut rounds = Rounds {
        files,
        settings,
        others,
        onlooker: database.onlooker(mode == Mode::Transactional),
        mode,
        answers: HashMap::new(),
    };

    let (mut hits, mut kills) = (vec![0; windows.len()], 0);
    while let Some(window) = draw(seed, kills, windows, &hits, per_window) {
        // Where the victim is faster than the onlooker, the window that was hit is another one, and is counted as that.
        let hit = rounds.kill_in(window, kills);
        if let Some(index) = windows.iter().position(|window| *window == hit) {
            hits[index] += 1;
        }
        kills += 1;
        assert!(kills < 20 * per_window * windows.len() as u64, "it is never hit: {window}");
    }
    let doubles = rounds.check_every_key();

    println!("{kills} kills, {} keys, {doubles} effects that happened again", rounds.answers.len());
    for (window, hits) in windows.iter().zip(hits) {
        println!("{hits:>6} {window}");
        // A kill in this window leaves an effect without its completion, so that these rounds do see doubles.
        assert!(*window != Window::BetweenEffectAndCompletion || doubles >= hits, "{doubles} of {hits}");
    }
}

/// One of the windows that have not been hit often enough.
fn draw(seed: u64, round: u64, windows: &[Window], hits: &[u64], per_window: u64) -> Option<Window> {
    let mut open = windows.iter().zip(hits).filter(|(_, hits)| **hits < per_window);
    let random = BuildHasherDefault::<DefaultHasher>::default().hash_one((seed, round));
    let drawn = random % open.clone().count().max(1) as u64;
    open.nth(usize::try_from(drawn).unwrap()).map(|(window, _)| *window)
}

struct Rounds<'a> {
    files: &'a Files,
    settings: &'a [&'a str],
    others: [Process; 2],
    onlooker: Box<dyn Onlooker>,
    mode: Mode,
    /// What the clients of each key were answered.
    answers: HashMap<String, String>,
}

impl Rounds<'_> {
    /// Kills a process that is to be in this window, and tells in which one it was, by what has survived.
    fn kill_in(&mut self, aim: Window, round: u64) -> Window {
        let victim = self.files.serve(self.settings);
        let key = format!("round-{round}");
        let bystanders: Vec<_> = (0..BYSTANDERS).map(|number| format!("{key}-bystander-{number}")).collect();
        let asking: Vec<_> = bystanders.iter().map(|key| victim.creating(key, BYSTANDERS_BODY)).collect();

        let client = self.aim(aim, &victim, &key);
        // What it has done cannot change any more; only then is it looked at.
        victim.pause();
        let was_in_transaction = self.mode == Mode::Transactional && self.onlooker.sees_open_transaction();
        victim.kill();
        let heard = client.join().unwrap();
        let survived = self.onlooker.attempts(&key);

        let attempt = self.answer_of(&key, BODY, heard.as_ref());
        for (key, asking) in bystanders.iter().zip(asking) {
            let heard = asking.join().unwrap();
            self.answer_of(key, BYSTANDERS_BODY, Some(&heard));
        }

        match (heard.is_some_and(|answer| answer.status == 201), survived.is_empty(), attempt) {
            (true, ..) => Window::AfterAnswer,
            (false, false, 1) => Window::BetweenCommitAndAnswer,
            (false, false, _) => Window::BetweenEffectAndCompletion,
            (false, true, 1) => Window::BeforeReservation,
            (false, true, _) if was_in_transaction => Window::InTransaction,
            (false, true, _) => Window::AfterReservation,
        }
    }

    /// Brings the victim to the window. Gives what its client is going to hear.
    fn aim(&mut self, aim: Window, victim: &Process, key: &str) -> JoinHandle<Option<Answer>> {
        match aim {
            Window::BeforeReservation => {
                let unfinished = victim.create_unfinished(key, BODY);
                thread::spawn(move || {
                    drop(unfinished);
                    None
                })
            }
            Window::AfterReservation => heard(victim.create_until_in_flight(key, BODY)),
            Window::InTransaction => {
                let client = victim.create_until_in_flight(key, BODY);
                while !self.onlooker.sees_open_transaction() && !client.is_finished() {}
                heard(client)
            }
            Window::BetweenEffectAndCompletion | Window::BetweenCommitAndAnswer => {
                let client = victim.creating(key, BODY);
                while self.onlooker.attempts(key).is_empty() && !client.is_finished() {}
                heard(client)
            }
            Window::AfterAnswer => {
                let client = victim.creating(key, BODY);
                while !client.is_finished() {
                    thread::yield_now();
                }
                heard(client)
            }
        }
    }

    /// Sends the request to both others until they have an answer, and gives the number of the attempt that is in it.
    /// All answers to one key are the same.
    fn answer_of(&mut self, key: &str, body: &str, heard: Option<&Answer>) -> u32 {
        let asking = self.others.each_ref().map(|other| other.asking_until_answered(key, body));
        let [one, other] = asking.map(|asking| asking.join().unwrap());
        assert_eq!(one, other, "{key}: two clients got different answers");
        if let Some(heard) = heard.filter(|heard| heard.status != 0) {
            assert_eq!(heard.body, one, "{key}: the first client got another answer");
        }
        let answer: serde_json::Value = serde_json::from_str(&one).unwrap();
        self.answers.insert(key.to_owned(), one);
        u32::try_from(answer["attempt"].as_u64().unwrap()).unwrap()
    }

    /// Whether each key has the rows that the mode promises. Gives how many rows there are beyond the first of each key.
    fn check_every_key(&mut self) -> u64 {
        let mut doubles = 0;
        for (key, answer) in &self.answers {
            let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
            let attempts = self.onlooker.attempts(key);
            match self.mode {
                Mode::Transactional => assert_eq!(attempts.len(), 1, "{key}: {attempts:?}"),
                // A second run is never silent: it has a higher attempt number.
                Mode::Plain => assert!(attempts.is_sorted_by(|one, next| one < next), "{key}: {attempts:?}"),
            }
            // The answer has the number of the last attempt, and there is a row for it.
            assert_eq!(attempts.last().copied().map(Into::into), answer["attempt"].as_u64(), "{key}");
            doubles += attempts.len() as u64 - 1;
        }
        doubles
    }
}

fn heard(client: JoinHandle<Answer>) -> JoinHandle<Option<Answer>> {
    thread::spawn(move || client.join().ok())
}

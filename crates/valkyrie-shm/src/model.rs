//! The protocol of positions and sleep under a model checker, which tries every interleaving with
//! a few preemptions, and every value that a load may see, on a ring of two bytes.
//!
//! The bytes are cells whose races the checker finds, and a sleeper whose bell never rings is a
//! deadlock that it finds.

use std::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use crate::consumer::Consumer;
use crate::producer::Producer;
use crate::words::{Bell, Rest, Word, Words};

const CAPACITY: usize = 2;

struct Shared {
    words: [AtomicU64; 4],
    bytes: [UnsafeCell<u8>; CAPACITY],
    to_reader: Doorbell,
    to_writer: Doorbell,
}

/// The socket: a ring that comes before the sleep is not forgotten.
struct Doorbell {
    rung: Mutex<bool>,
    wakes: Condvar,
}

impl Doorbell {
    fn new() -> Self {
        Self {
            rung: Mutex::new(false),
            wakes: Condvar::new(),
        }
    }

    fn notify(&self) {
        *self.rung.lock().unwrap() = true;
        self.wakes.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !std::mem::take(&mut *rung) {
            rung = self.wakes.wait(rung).unwrap();
        }
    }
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            bytes: std::array::from_fn(|_| UnsafeCell::new(0)),
            to_reader: Doorbell::new(),
            to_writer: Doorbell::new(),
        })
    }
}

impl Words for Arc<Shared> {
    fn load(&self, word: Word) -> u64 {
        self.words[word as usize].load(Ordering::Acquire)
    }

    fn store(&self, word: Word, value: u64) {
        self.words[word as usize].store(value, Ordering::Release);
    }

    fn take(&self, word: Word) -> bool {
        let (order, otherwise) = (Ordering::AcqRel, Ordering::Relaxed);
        self.words[word as usize]
            .compare_exchange(1, 0, order, otherwise)
            .is_ok()
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// Writes 1, 2, ... up to `last`, sleeping when the ring is full, and finishes.
fn write(shared: &Arc<Shared>, last: u8) {
    let mut producer = Producer::new(shared.clone(), CAPACITY as u64);
    let mut next = 1;
    while next <= last {
        if producer.room(1).unwrap() == 0 {
            if producer.rest().unwrap() == Rest::Asleep {
                shared.to_writer.wait();
            }
            continue;
        }
        // The cell is the writer's: the reader has given it back.
        shared.bytes[producer.offset() as usize].with_mut(|byte| store(byte, next));
        next += 1;
        if producer.commit(1) == Bell::Ring {
            shared.to_reader.notify();
        }
    }
    if producer.finish() == Bell::Ring {
        shared.to_reader.notify();
    }
}

/// Reads to the end, sleeping when the ring is empty, up to `at_once` bytes each time.
fn read(shared: &Arc<Shared>, at_once: u64) -> Vec<u8> {
    let mut consumer = Consumer::new(shared.clone(), CAPACITY as u64);
    let mut got = Vec::new();
    loop {
        let count = consumer.available(at_once).unwrap();
        if count == 0 {
            if consumer.is_at_end() {
                return got;
            }
            if consumer.rest().unwrap() == Rest::Asleep {
                shared.to_reader.wait();
            }
            continue;
        }
        for step in 0..count {
            let at = (consumer.offset() + step) % CAPACITY as u64;
            got.push(shared.bytes[at as usize].with(load));
        }
        if consumer.release(count) == Bell::Ring {
            shared.to_writer.notify();
        }
    }
}

#[expect(unsafe_code, reason = "the checker's cells give raw pointers")]
fn store(byte: *mut u8, value: u8) {
    // SAFETY: the checker has just made sure that nobody else uses the cell.
    unsafe { byte.write(value) }
}

#[expect(unsafe_code, reason = "the checker's cells give raw pointers")]
fn load(byte: *const u8) -> u8 {
    // SAFETY: the checker has just made sure that nobody writes the cell.
    unsafe { byte.read() }
}

fn check(last: u8, at_once: u64, preemptions: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let shared = Shared::new();
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || write(&shared, last))
        };
        let got = read(&shared, at_once);
        writer.join().unwrap();
        assert_eq!(got, (1..=last).collect::<Vec<_>>());
    });
}

#[test]
fn no_wake_up_is_lost_and_no_byte_is_touched_by_both_in_any_interleaving() {
    check(1, 2, 3);
    check(2, 1, 2);
}

#[test]
fn a_writer_that_sleeps_at_a_full_ring_is_woken_in_every_interleaving() {
    check(3, 2, 2);
    check(3, 1, 2);
}

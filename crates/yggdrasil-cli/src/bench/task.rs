//! What is asked, and what has to be answered.

use resp::{Reply, command};

use crate::args::{BenchArgs, TaskArg};
use crate::client::Client;
use crate::failure::Failure;

/// What all of its keys begin with.
const PREFIX: &str = "yggdrasil-bench:";
/// Keys that are written or removed with one command.
const BATCH: u64 = 500;

/// How a server is asked for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// `YGG.CONSUME`
    Yggdrasil,
    /// `CL.THROTTLE`, which others have with a module.
    RedisCell,
}

/// One kind of request, over and over.
pub(super) struct Task {
    which: TaskArg,
    words: Words,
    keys: u64,
    value: Vec<u8>,
    /// Nanoseconds between two tokens, tokens of a full bucket.
    emission_ns: u64,
    burst: u32,
}

impl Task {
    pub(super) fn new(which: TaskArg, args: &BenchArgs, words: Words) -> Self {
        Self {
            which,
            words,
            keys: args.keys,
            value: vec![b'v'; args.value_bytes],
            emission_ns: args.limit.emission_ns(),
            burst: args.limit.burst(),
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        match self.which {
            TaskArg::Consume => "consume",
            TaskArg::Set => "set",
            TaskArg::Get => "get",
            TaskArg::Incr => "incr",
        }
    }

    fn key(&self, number: u64) -> String {
        format!("{PREFIX}{}:{number}", self.name())
    }

    /// Numbers of all keys, some at a time.
    fn batches(&self) -> impl Iterator<Item = std::ops::Range<u64>> {
        let keys = self.keys;
        let batches = (0..keys).step_by(BATCH as usize);
        batches.map(move |from| from..(from + BATCH).min(keys))
    }

    /// Makes what is read.
    pub(super) fn prepare(&self, client: &mut Client) -> Result<(), Failure> {
        if self.which != TaskArg::Get {
            return Ok(());
        }
        for numbers in self.batches() {
            let keys: Vec<String> = numbers.map(|number| self.key(number)).collect();
            let pairs = keys.iter().flat_map(|key| [key.as_bytes(), &self.value]);
            let args: Vec<&[u8]> = std::iter::once(&b"MSET"[..]).chain(pairs).collect();
            client.ask(&args)?;
        }
        Ok(())
    }

    /// Removes everything that it made. Buckets are forgotten when they are full.
    pub(super) fn clear(&self, client: &mut Client) -> Result<(), Failure> {
        if self.which == TaskArg::Consume {
            return Ok(());
        }
        for numbers in self.batches() {
            let keys: Vec<String> = numbers.map(|number| self.key(number)).collect();
            let keys = keys.iter().map(String::as_bytes);
            let args: Vec<&[u8]> = std::iter::once(&b"DEL"[..]).chain(keys).collect();
            client.ask(&args)?;
        }
        Ok(())
    }

    /// Writes the next request.
    pub(super) fn ask(&self, out: &mut Vec<u8>, random: &mut Random) {
        let key = self.key(random.next() % self.keys);
        let key = key.as_bytes();
        match self.which {
            TaskArg::Set => command(out, [b"SET", key, &self.value]),
            TaskArg::Get => command(out, [b"GET", key]),
            TaskArg::Incr => command(out, [b"INCR", key]),
            TaskArg::Consume if self.words == Words::Yggdrasil => {
                let (emission, burst) = (self.emission_ns.to_string(), self.burst.to_string());
                let numbers = [emission.as_bytes(), burst.as_bytes(), b"1"];
                command(
                    out,
                    [b"YGG.CONSUME", key, numbers[0], numbers[1], numbers[2]],
                );
            }
            TaskArg::Consume => {
                let burst = self.burst.saturating_sub(1).to_string();
                let (count, period) = per_period(self.emission_ns);
                let (count, period) = (count.to_string(), period.to_string());
                let rate = [burst.as_bytes(), count.as_bytes(), period.as_bytes()];
                command(out, [b"CL.THROTTLE", key, rate[0], rate[1], rate[2]]);
            }
        }
    }

    /// What is wrong with an answer, if anything is.
    pub(super) fn wrong(&self, reply: &Reply) -> Option<String> {
        let is_right = match (self.which, reply) {
            (_, Reply::Error(text)) => return Some(text.clone()),
            (TaskArg::Set, Reply::Simple(text)) => text == "OK",
            (TaskArg::Get, Reply::Bulk(value)) => *value == self.value,
            (TaskArg::Incr, Reply::Integer(value)) => *value > 0,
            (TaskArg::Consume, Reply::Array(fields)) => {
                fields.len()
                    == match self.words {
                        Words::Yggdrasil => 4,
                        Words::RedisCell => 5,
                    }
            }
            _ => false,
        };
        (!is_right).then(|| format!("an answer is {reply:?}"))
    }
}

/// Tokens in a whole number of seconds.
const fn per_period(emission_ns: u64) -> (u64, u64) {
    const SECOND: u64 = 1_000_000_000;
    match emission_ns {
        0..=SECOND => (SECOND / if emission_ns == 0 { 1 } else { emission_ns }, 1),
        longer => (1, longer.div_ceil(SECOND)),
    }
}

/// Any 64 bits, good enough to choose by (Steele and others, Fast Splittable Pseudorandom Number
/// Generators, 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_whole_numbers() {
        assert_eq!(per_period(10_000_000), (100, 1));
        assert_eq!(per_period(1_000_000_000), (1, 1));
        assert_eq!(per_period(3_600_000_000_000), (1, 3600));
        assert_eq!(per_period(1), (1_000_000_000, 1));
    }
}

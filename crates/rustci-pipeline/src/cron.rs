//! Schedules: five fields in the clock of a time zone.

use std::ops::Range;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

use crate::limits::CRON_TEXT_BYTES_MAX;
use crate::nearest::nearest;

/// A time at which a pipeline runs, again and again.
///
/// A schedule has five fields as in crontab(5): minute, hour, day of the month, month, day of the
/// week. When both days are restricted one that fits is enough.
///
/// Where the clock of the zone is changed: a schedule with a fixed minute and hour runs once a day.
/// A time that the clock leaves out comes when it is put forward, and one that it shows twice comes
/// the first time only. A schedule whose minute or hour begins with `*` follows the clock: it comes
/// at every time that the clock shows.
#[derive(Clone, Debug)]
pub struct Cron {
    name: String,
    schedule: String,
    zone_name: String,
    zone: TimeZone,
    fields: Fields,
}

/// What is wrong with a schedule or a zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CronError {
    /// Bytes of the text that is wrong.
    pub at: Range<usize>,
    /// What is wrong, for people.
    pub message: String,
    /// The name that was probably meant.
    pub nearest: Option<String>,
}

/// What times fit: one bit for each value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether either of the two days may fit, as both are restricted.
    either_day: bool,
    rhythm: Rhythm,
}

/// What a change of the clock does to a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rhythm {
    /// Once a day, or less often.
    #[default]
    Fixed,
    /// At every time that fits.
    Clock,
}

/// The time zone of a schedule that names none.
pub(crate) const ZONE_DEFAULT: &str = "UTC";

// February 29 can be eight years away, as 2100 has none.
const YEARS_AHEAD: i16 = 9;
// Clocks are changed by less than this.
const SHIFT_HOURS: i64 = 3;

impl Cron {
    /// Reads a schedule. `name` tells it from others of the pipeline.
    ///
    /// # Errors
    /// [`CronError`] for a field that is not readable, and for a schedule that never comes, such as
    /// February 30.
    pub fn parse(name: &str, schedule: &str, zone: Zone) -> Result<Self, CronError> {
        let cron = Self {
            name: name.to_owned(),
            schedule: schedule.to_owned(),
            zone_name: zone.name,
            zone: zone.zone,
            fields: fields(schedule)?,
        };
        if cron.next_after(0).is_none() {
            let message = format!("`{schedule}` never comes: no month has such a day");
            return Err(wrong(0..schedule.len(), message));
        }
        Ok(cron)
    }

    /// The name; unique in its pipeline.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The five fields as they are written.
    #[must_use]
    pub fn schedule(&self) -> &str {
        &self.schedule
    }

    /// The name of the time zone: `Europe/Berlin`.
    #[must_use]
    pub fn timezone(&self) -> &str {
        &self.zone_name
    }

    /// The first time later than `unix_ms`, in Unix milliseconds; always a whole minute.
    ///
    /// None when it does not come within nine years, or beyond the year 9999.
    #[must_use]
    pub fn next_after(&self, unix_ms: u64) -> Option<u64> {
        let after = Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?;
        let begin = after.to_zoned(self.zone.clone()).datetime();
        let begin = begin.checked_sub(SHIFT_HOURS.hours()).ok()?;
        let mut best: Option<(Timestamp, DateTime)> = None;
        for local in Times::new(&self.fields, begin) {
            // No clock is put back far enough for a later one to come earlier.
            let limit = best.and_then(|(_, local)| local.checked_add(SHIFT_HOURS.hours()).ok());
            if limit.is_some_and(|limit| local > limit) {
                break;
            }
            let times = self.instants(local).into_iter().flatten();
            for time in times.filter(|time| *time > after) {
                if best.is_none_or(|(known, _)| time < known) {
                    best = Some((time, local));
                }
            }
        }
        u64::try_from(best?.0.as_millisecond()).ok()
    }

    /// When the clock shows a time that fits.
    fn instants(&self, local: DateTime) -> [Option<Timestamp>; 2] {
        let at = |offset: Offset| offset.to_timestamp(local).ok();
        let rhythm = self.fields.rhythm;
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => [at(offset), None],
            AmbiguousOffset::Fold { before, .. } if rhythm == Rhythm::Fixed => [at(before), None],
            AmbiguousOffset::Fold { before, after } => [at(before), at(after)],
            AmbiguousOffset::Gap { .. } if rhythm == Rhythm::Clock => [None, None],
            AmbiguousOffset::Gap { before, .. } => {
                let inside = at(before).and_then(|time| time.checked_add(1.second()).ok());
                let change = inside.and_then(|time| self.zone.preceding(time).next());
                [change.map(|change| change.timestamp()), None]
            }
        }
    }
}

/// A time zone of the IANA database that is built in.
#[derive(Clone, Debug)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// Finds a zone by its name, such as `Europe/Berlin`.
    ///
    /// # Errors
    /// [`CronError`] when there is none of that name.
    pub fn find(name: &str) -> Result<Self, CronError> {
        let zones = TimeZoneDatabase::bundled();
        if let Ok(zone) = zones.get(name) {
            let name = zone.iana_name().unwrap_or(name).to_owned();
            return Ok(Self { name, zone });
        }
        let names: Vec<String> = zones.available().map(|name| name.to_string()).collect();
        let first = name.chars().next().map(|c| c.to_ascii_lowercase());
        let similar = names.iter().map(String::as_str).filter(|other| {
            other.len().abs_diff(name.len()) <= 3
                && other.chars().next().map(|c| c.to_ascii_lowercase()) == first
        });
        Err(CronError {
            nearest: nearest(name, similar).map(str::to_owned),
            ..wrong(0..name.len(), format!("there is no time zone `{name}`"))
        })
    }
}

/// Local times that fit, from one on.
struct Times<'f> {
    fields: &'f Fields,
    date: Date,
    minute: u32,
    days_left: u32,
}

impl<'f> Times<'f> {
    fn new(fields: &'f Fields, begin: DateTime) -> Self {
        let minute = u32::try_from(begin.hour()).unwrap_or(0) * 60
            + u32::try_from(begin.minute()).unwrap_or(0);
        Self {
            fields,
            date: begin.date(),
            minute,
            days_left: u32::try_from(YEARS_AHEAD).unwrap_or(0) * 366,
        }
    }
}

impl Iterator for Times<'_> {
    type Item = DateTime;

    fn next(&mut self) -> Option<DateTime> {
        while self.days_left > 0 {
            if self.fields.fits_day(self.date) {
                while self.minute < 24 * 60 {
                    let (hour, minute) = (self.minute / 60, self.minute % 60);
                    if !has(self.fields.hours, hour) {
                        self.minute = (hour + 1) * 60;
                        continue;
                    }
                    self.minute += 1;
                    if has(self.fields.minutes, minute) {
                        let (hour, minute) = (i8::try_from(hour), i8::try_from(minute));
                        return Some(self.date.at(hour.ok()?, minute.ok()?, 0, 0));
                    }
                }
            }
            self.minute = 0;
            self.days_left -= 1;
            self.date = self.date.tomorrow().ok()?;
        }
        None
    }
}

impl Fields {
    fn fits_day(&self, date: Date) -> bool {
        let bit = |value: i8| u32::try_from(value).unwrap_or(0);
        let day = has(self.days, bit(date.day()));
        let weekday = bit(date.weekday().to_sunday_zero_offset());
        let weekday = has(self.weekdays, weekday);
        let fits = if self.either_day {
            day || weekday
        } else {
            day && weekday
        };
        fits && has(self.months, bit(date.month()))
    }
}

fn has(bits: u64, value: u32) -> bool {
    bits.checked_shr(value).is_some_and(|bits| bits & 1 == 1)
}

/// One of the five.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// Names of the values, from the smallest on.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        min: 0,
        max: 59,
        names: &[],
    },
    Field {
        name: "hour",
        min: 0,
        max: 23,
        names: &[],
    },
    Field {
        name: "day of the month",
        min: 1,
        max: 31,
        names: &[],
    },
    Field {
        name: "month",
        min: 1,
        max: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field {
        name: "day of the week",
        min: 0,
        // Sunday may be written as 7, which ranges such as `fri-sun` need.
        max: 7,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

/// Reads the five fields.
fn fields(schedule: &str) -> Result<Fields, CronError> {
    let whole = 0..schedule.len();
    if schedule.len() > CRON_TEXT_BYTES_MAX {
        let message = format!("a schedule has at most {CRON_TEXT_BYTES_MAX} bytes");
        return Err(wrong(whole, message));
    }
    if schedule.trim_start().starts_with('@') {
        let message = "a schedule has five fields: minute, hour, day of the month, month, day of \
                       the week; `@daily` is `0 0 * * *`";
        return Err(wrong(whole, message.to_owned()));
    }
    let words = words(schedule);
    let [minute, hour, day, month, weekday] = words.as_slice() else {
        let message = format!(
            "a schedule has five fields (minute, hour, day of the month, month, day of the week), \
             this one has {}",
            words.len()
        );
        return Err(wrong(whole, message));
    };
    let [of_minute, of_hour, of_day, of_month, of_weekday] = &FIELDS;
    let mut weekdays = field(of_weekday, weekday)?;
    if has(weekdays, 7) {
        weekdays |= 1;
    }
    let open = |(_, text): &(usize, &str)| text.starts_with('*');
    Ok(Fields {
        minutes: field(of_minute, minute)?,
        hours: field(of_hour, hour)?,
        days: field(of_day, day)?,
        months: field(of_month, month)?,
        weekdays,
        either_day: !open(day) && !open(weekday),
        rhythm: if open(minute) || open(hour) {
            Rhythm::Clock
        } else {
            Rhythm::Fixed
        },
    })
}

/// The words of a text with their places.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start = None;
    for (index, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (c.is_ascii_whitespace(), start) {
            (true, Some(begin)) => {
                words.push((begin, text.get(begin..index).unwrap_or_default()));
                start = None;
            }
            (false, None) => start = Some(index),
            _ => {}
        }
    }
    words
}

/// The values of one field: a list of `*`, values and ranges, with or without a step.
fn field(field: &Field, (start, text): &(usize, &str)) -> Result<u64, CronError> {
    let mut bits = 0;
    let mut at = *start;
    for part in text.split(',') {
        bits |= part_bits(field, part, at)?;
        at += part.len() + 1;
    }
    Ok(bits)
}

/// The values of one part of a field.
fn part_bits(field: &Field, part: &str, at: usize) -> Result<u64, CronError> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    let (first, last) = match range.split_once('-') {
        _ if range == "*" => (
            field.min,
            field.max.min(if field.max == 7 { 6 } else { 59 }),
        ),
        Some((first, last)) => {
            let second = at + first.len() + 1;
            let low = value(field, first, at)?;
            let high = match value(field, last, second)? {
                // A week may end with Sunday.
                0 if field.max == 7 && low > 0 => 7,
                high => high,
            };
            if low > high {
                let message = format!("`{range}` runs backwards; write two ranges");
                return Err(wrong(at..at + range.len(), message));
            }
            (low, high)
        }
        None => {
            let value = value(field, range, at)?;
            (value, if step.is_some() { field.max } else { value })
        }
    };
    let step = match step {
        None => 1,
        Some(text) => {
            let begin = at + range.len() + 1;
            step_of(field, text, begin)?
        }
    };
    let values = (first..=last).step_by(step);
    Ok(values.fold(0, |bits, value| bits | 1 << value))
}

/// A step, which is a number greater than 0.
fn step_of(field: &Field, text: &str, at: usize) -> Result<usize, CronError> {
    let max = usize::try_from(field.max).unwrap_or(usize::MAX).max(1);
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<usize>() {
        Ok(step) if digits && (1..=max).contains(&step) => Ok(step),
        _ => {
            let message = format!(
                "a step of the {} is a number from 1 to {max}, not `{text}`",
                field.name
            );
            Err(wrong(at..at + text.len().max(1), message))
        }
    }
}

/// One value, as a number or by its name.
fn value(field: &Field, text: &str, at: usize) -> Result<u32, CronError> {
    let named = field
        .names
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text));
    if let Some(index) = named {
        return Ok(field.min + u32::try_from(index).unwrap_or(0));
    }
    let digits =
        !text.is_empty() && text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u32>().ok().filter(|_| digits);
    match number.filter(|number| (field.min..=field.max).contains(number)) {
        Some(number) => Ok(number),
        None => {
            let (name, min, max) = (field.name, field.min, field.max);
            let names = match (field.names.first(), field.names.last()) {
                (Some(first), Some(last)) => format!(", or {first} to {last}"),
                _ => String::new(),
            };
            let message = format!("the {name} is {min} to {max}{names}, not `{text}`");
            Err(CronError {
                nearest: nearest(text, field.names.iter().copied()).map(str::to_owned),
                ..wrong(at..at + text.len().max(1), message)
            })
        }
    }
}

fn wrong(at: Range<usize>, message: String) -> CronError {
    CronError {
        at,
        message,
        nearest: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(schedule: &str, zone: &str) -> Cron {
        Cron::parse("x", schedule, Zone::find(zone).unwrap()).unwrap()
    }

    /// The next times after `after`, as UTC.
    fn next(schedule: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let cron = cron(schedule, zone);
        let after: Timestamp = after.parse().unwrap();
        let mut ms = u64::try_from(after.as_millisecond()).unwrap();
        let mut times = Vec::new();
        for _ in 0..count {
            ms = cron.next_after(ms).unwrap();
            let time = Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap();
            times.push(time.strftime("%m-%d %H:%M").to_string());
        }
        times
    }

    #[test]
    fn times_are_those_of_crontab() {
        let from = "2026-11-21T00:00:00Z";
        let cases: &[(&str, &[&str])] = &[
            ("17 3 * * *", &["11-21 03:17", "11-22 03:17"]),
            (
                "*/20 * * * *",
                &["11-21 00:20", "11-21 00:40", "11-21 01:00"],
            ),
            (
                "5/20 0 * * *",
                &["11-21 00:05", "11-21 00:25", "11-21 00:45", "11-22 00:05"],
            ),
            ("0 0 1 jan,JUL *", &["01-01 00:00", "07-01 00:00"]),
            (
                "0 9-17/4 * * mon-fri",
                &["11-23 09:00", "11-23 13:00", "11-23 17:00", "11-24 09:00"],
            ),
            (
                "0 0 * * fri-sun",
                &["11-22 00:00", "11-27 00:00", "11-28 00:00"],
            ),
            ("0 0 * * 7", &["11-22 00:00", "11-29 00:00"]),
            ("0 0 * * 0", &["11-22 00:00", "11-29 00:00"]),
            // Both days restricted: either fits. One with `*`: both have to.
            (
                "0 0 13 * fri",
                &["11-27 00:00", "12-04 00:00", "12-11 00:00", "12-13 00:00"],
            ),
            ("0 0 */2 * fri", &["11-27 00:00", "12-11 00:00"]),
            ("0 0 29 2 *", &["02-29 00:00"]),
            ("59 23 31 12 *", &["12-31 23:59"]),
        ];
        for (schedule, expected) in cases {
            assert_eq!(
                next(schedule, "UTC", from, expected.len()),
                *expected,
                "{schedule}"
            );
        }
        assert_eq!(
            next("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1),
            ["02-29 00:00"]
        );
        // Strictly later, whatever seconds there are.
        assert_eq!(
            next("0 0 * * *", "UTC", "2026-11-20T23:59:59.999Z", 1),
            ["11-21 00:00"]
        );
    }

    #[test]
    fn changes_of_the_clock_neither_lose_nor_double_a_fixed_time() {
        let berlin = "Europe/Berlin";
        // 2027-03-28 02:00 becomes 03:00; 2026-10-25 03:00 becomes 02:00.
        let spring = next("30 2 * * *", berlin, "2027-03-26T12:00:00Z", 3);
        assert_eq!(spring, ["03-27 01:30", "03-28 01:00", "03-29 00:30"]);
        let autumn = next("30 2 * * *", berlin, "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["10-25 00:30", "10-26 01:30"]);
        let hourly = next("0 * * * *", berlin, "2026-10-24T23:30:00Z", 3);
        assert_eq!(hourly, ["10-25 00:00", "10-25 01:00", "10-25 02:00"]);
        let hourly = next("30 * * * *", berlin, "2027-03-28T00:00:00Z", 3);
        assert_eq!(hourly, ["03-28 00:30", "03-28 01:30", "03-28 02:30"]);
        let half = next("*/30 2 * * *", berlin, "2026-10-24T23:30:00Z", 4);
        assert_eq!(
            half,
            ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30"]
        );
        // A day begins at 01:00 where the clock is put forward at midnight.
        let midnight = next("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", 2);
        assert_eq!(midnight, ["04-23 22:00", "04-24 21:00"]);
        // A clock that is put back by half an hour.
        let lord_howe = next(
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2027-04-03T00:00:00Z",
            2,
        );
        assert_eq!(lord_howe, ["04-03 14:45", "04-04 15:15"]);
    }

    #[test]
    fn mistakes_have_their_place() {
        let cases = [
            ("", 0..0, "this one has 0"),
            ("* * * *", 0..7, "this one has 4"),
            ("0 0 * * * *", 0..11, "this one has 6"),
            ("60 * * * *", 0..2, "the minute is 0 to 59, not `60`"),
            ("0 24 * * *", 2..4, "the hour is 0 to 23, not `24`"),
            (
                "0 0 0 * *",
                4..5,
                "the day of the month is 1 to 31, not `0`",
            ),
            ("0 0 1,32 * *", 6..8, "not `32`"),
            ("0 0 * sept *", 6..10, "or jan to dec, not `sept`"),
            ("0 0 * * sun-fry", 12..15, "or sun to sat, not `fry`"),
            ("0 0 * * sat-mon", 8..15, "runs backwards"),
            ("*/0 * * * *", 2..3, "a number from 1 to 59, not `0`"),
            ("*/ * * * *", 2..3, "not ``"),
            ("1,, * * * *", 2..3, "not ``"),
            ("+1 * * * *", 0..2, "not `+1`"),
            ("0 0 L * *", 4..5, "not `L`"),
            ("0 0 ? * *", 4..5, "not `?`"),
            ("@daily", 0..6, "`0 0 * * *`"),
            ("0 0 31 feb,apr *", 0..16, "never comes"),
        ];
        for (schedule, at, words) in cases {
            let error = Cron::parse("x", schedule, Zone::find("UTC").unwrap()).unwrap_err();
            assert_eq!(error.at, at, "{schedule}: {error}");
            assert!(error.message.contains(words), "{schedule}: {error}");
        }
        let error = Zone::find("Europe/Berln").unwrap_err();
        assert_eq!(error.nearest.as_deref(), Some("Europe/Berlin"));
        assert_eq!(Zone::find("europe/berlin").unwrap().name, "Europe/Berlin");
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let cron = cron("* * * * *", "Pacific/Apia");
        assert_eq!(cron.next_after(u64::MAX), None);
        assert_eq!(cron.next_after(253_402_300_799_000), None);
        assert_eq!(cron.next_after(0), Some(60_000));
    }
}

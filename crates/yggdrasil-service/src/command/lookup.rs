//! Commands by name.

use super::Command;
use super::table::COMMANDS;

/// Finds commands by their names, in any case.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// Numbers of commands, each at the place of its name or behind it.
    places: Box<[(u128, u16); PLACES]>,
}

const PLACES: usize = 512;
/// No command has such a name: it is longer than any.
const NOTHING: (u128, u16) = (u128::MAX, u16::MAX);

const _: () = assert!(COMMANDS.len() * 3 < PLACES);

impl Default for Lookup {
    fn default() -> Self {
        let mut places = Box::new([NOTHING; PLACES]);
        for (command, number) in COMMANDS.iter().zip(0..) {
            let packed = pack(command.name.as_bytes()).expect("names are short");
            let free = probe(packed).find(|place| places.get(*place) == Some(&NOTHING));
            let place = free.and_then(|place| places.get_mut(place));
            *place.expect("there are more places than commands") = (packed, number);
        }
        Self { places }
    }
}

impl Lookup {
    /// A command and its number.
    #[inline]
    pub(crate) fn find(&self, name: &[u8]) -> Option<(u16, &'static Command)> {
        let packed = pack(name)?;
        for place in probe(packed) {
            match self.places.get(place) {
                Some((found, number)) if *found == packed => {
                    let command = COMMANDS.get(usize::from(*number))?;
                    return Some((*number, command));
                }
                Some(&NOTHING) | None => return None,
                Some(_) => {}
            }
        }
        None
    }
}

/// A name of up to 16 bytes in capitals, as a number.
#[inline]
fn pack(name: &[u8]) -> Option<u128> {
    let mut bytes = [0; 16];
    bytes.get_mut(..name.len())?.copy_from_slice(name);
    bytes.make_ascii_uppercase();
    match u128::from_le_bytes(bytes) {
        0 | u128::MAX => None,
        packed => Some(packed),
    }
}

/// Places to look at, one after the other.
#[inline]
fn probe(packed: u128) -> impl Iterator<Item = usize> {
    let mixed = (packed as u64 ^ (packed >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let start = (mixed >> 55) as usize;
    (0..PLACES).map(move |step| (start + step) % PLACES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case() {
        let lookup = Lookup::default();
        for command in COMMANDS {
            let name = command.name;
            for name in [name.to_owned(), name.to_lowercase()] {
                assert_eq!(lookup.find(name.as_bytes()).unwrap().1.name, command.name);
            }
        }
        for wrong in ["", "GE", "GETT", "xyz", "A_NAME_LONGER_THAN_ALL"] {
            assert!(lookup.find(wrong.as_bytes()).is_none());
        }
    }
}

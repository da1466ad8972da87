//! `tally < file` prints the ten most frequent words.

use std::io::Read;

fn main() -> std::io::Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    for (word, count) in tally::top(&tally::count(&text), 10) {
        println!("{count:>6} {word}");
    }
    Ok(())
}

//! A file that goes on where it was left: the connection is cut in the middle, and the next one
//! sends only the rest. Uses the session's own messages for files, which come with their offsets,
//! under a handler of its own.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use valkyrie::frame::FileStart;
use valkyrie::{
    Correlation, End, Endpoint, ErrorCode, Event, Handler, Link, LinkConfig, MessageType,
    StreamClass, StreamId, connect, listen, serve, v2,
};

const CHUNK_BYTES: usize = 64 * 1024;

/// Receives one file; what came of it before stays on the disk.
struct Receiver {
    part: PathBuf,
    done: PathBuf,
    file: Option<fs::File>,
    /// Cuts the connection after so many bytes, once.
    cut_after: Option<u64>,
}

impl Receiver {
    fn start(&mut self, link: &Link, stream: StreamId) -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.part)?;
        let have = file.seek(SeekFrom::End(0))?;
        println!("receiver: goes on at {have}");
        self.file = Some(file);
        link.session().file_verified(stream, have);
        Ok(())
    }

    fn chunk(&mut self, link: &Link, stream: StreamId, bytes: &[u8]) -> std::io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(bytes)?;
        let have = file.stream_position()?;
        link.session().file_verified(stream, have);
        if self.cut_after.is_some_and(|bytes| have >= bytes) {
            println!("receiver: cuts the connection at {have}");
            link.abort();
        }
        Ok(())
    }

    /// Checks the whole file, gives it its name, and says so.
    fn complete(
        &self,
        link: &Link,
        stream: StreamId,
        digest: [u8; 32],
    ) -> Result<(), Box<dyn Error>> {
        if *blake3::hash(&fs::read(&self.part)?).as_bytes() != digest {
            fs::remove_file(&self.part)?;
            link.session().reset(stream, ErrorCode::MALFORMED);
            return Ok(());
        }
        fs::File::open(&self.part)?.sync_all()?;
        fs::rename(&self.part, &self.done)?;
        let kind = MessageType::FILE_TRANSFER_COMPLETE;
        link.session()
            .ack(stream, kind, Correlation::NONE, End::Yes)?;
        Ok(())
    }
}

impl Handler for Receiver {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        let handled = match event {
            Event::Opened { stream, .. } => {
                link.session().accept(stream, 0);
                Ok(())
            }
            Event::FileStart { stream, .. } => self.start(link, stream).map_err(Into::into),
            Event::FileChunk { stream, bytes, .. } => {
                self.chunk(link, stream, bytes).map_err(Into::into)
            }
            Event::FileComplete { stream, digest } => self.complete(link, stream, digest),
            _ => Ok(()),
        };
        if let Err(error) = handled {
            println!("receiver: {error}");
            link.abort();
        }
    }
}

/// What the sender's connection says.
enum News {
    Accepted,
    From(u64),
    Writable,
    Stored,
    Closed,
}

struct Sender(mpsc::UnboundedSender<News>);

impl Handler for Sender {
    fn event(&mut self, _link: &Link, event: Event<'_>) {
        let news = match event {
            Event::Accepted { .. } => News::Accepted,
            Event::FileVerified { offset, .. } => News::From(offset),
            Event::Writable { .. } => News::Writable,
            Event::FileAcked { .. } => News::Stored,
            _ => return,
        };
        drop(self.0.send(news));
    }

    fn closed(&mut self, _link: &Link, _reason: &valkyrie::CloseReason) {
        drop(self.0.send(News::Closed));
    }
}

/// Sends the file over one connection; whether it has arrived.
async fn send(at: &Endpoint, path: &Path) -> Result<bool, Box<dyn Error>> {
    let bytes = fs::read(path)?;
    let digest = *blake3::hash(&bytes).as_bytes();
    let (sender, mut news) = mpsc::unbounded_channel();
    let link = connect(at, LinkConfig::default(), Sender(sender)).await?;
    let open = v2::StreamOpen {
        method: "demo.Files/Put".to_owned(),
        ..Default::default()
    };
    let stream = link.session().open(StreamClass::Data, &open)?;
    let (mut file, mut sent, mut begun) = (fs::File::open(path)?, 0u64, false);
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Some(news) = news.recv().await {
        match news {
            News::Accepted => {
                let size = bytes.len() as u64;
                let name = "letter.txt";
                let id = [7; 16];
                let start = FileStart {
                    id,
                    size,
                    digest,
                    name,
                };
                link.session().file_start(stream, &start)?;
                continue;
            }
            News::From(offset) if !begun => {
                println!("sender: begins at {offset} of {}", bytes.len());
                (sent, begun) = (offset, true);
            }
            News::From(_) | News::Writable => {}
            News::Stored => {
                link.close(ErrorCode::NONE, Duration::from_secs(1));
                link.closed().await;
                return Ok(true);
            }
            News::Closed => return Ok(false),
        }
        while begun && sent < bytes.len() as u64 && !link.is_closed() {
            file.seek(SeekFrom::Start(sent))?;
            let count = file.read(&mut buffer)?;
            let chunk = buffer.get(..count).unwrap_or_default();
            let taken = link.session().file_chunk(stream, sent, chunk)?;
            sent += taken as u64;
            if sent == bytes.len() as u64 {
                link.session().file_complete(stream, digest, End::Yes)?;
            } else if taken < count {
                break;
            }
        }
    }
    Ok(false)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let (source, part) = (dir.path().join("source"), dir.path().join("part"));
    let done = Rc::new(dir.path().join("done"));
    fs::write(&source, "a long letter. ".repeat(200_000))?;
    let endpoint: Endpoint =
        format!("valkyrie+unix://{}/files.sock", dir.path().display()).parse()?;
    let listener = listen(&endpoint).await?;
    let (mut cut_after, stored) = (Some(1_000_000), Rc::clone(&done));
    tokio::task::spawn_local(serve(listener, LinkConfig::default(), move |_| Receiver {
        part: part.clone(),
        done: stored.as_ref().clone(),
        file: None,
        cut_after: cut_after.take(),
    }));
    let mut tries = 1;
    while !send(&endpoint, &source).await? {
        println!("sender: the connection is gone; connects again");
        tries += 1;
    }
    let same = fs::read(&source)? == fs::read(done.as_ref())?;
    println!("stored after {tries} connections, the same: {same}");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    valkyrie::block_on(run())?
}

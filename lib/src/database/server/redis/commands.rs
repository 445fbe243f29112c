//! The commands that load an RDB file into a server that runs, as its protocol writes them: one stream.

use std::io::{self, Read};

use super::items::{Item, Items};

/// Reads as commands what is read as an RDB file. Of the file no more than one key is in memory at a time.
pub(super) struct Commands<R> {
    items: Items<R>,
    ready: Vec<u8>,
    at: usize,
}

impl<R: Read> Commands<R> {
    /// `login`: the words of an AUTH. They stand in the stream, which nobody else sees, and in no argument.
    ///
    /// # Errors
    /// That it is no RDB file.
    pub(super) fn new(rdb: R, login: Option<&[&str]>) -> io::Result<Self> {
        let mut ready = Vec::new();
        if let Some(words) = login {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            write(&mut ready, &words);
        }
        Ok(Self { items: Items::new(rdb)?, ready, at: 0 })
    }
}

impl<R: Read> Read for Commands<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.ready.len() {
            (self.at, self.ready) = (0, Vec::new());
            match self.items.next()? {
                Some(item) => command(&mut self.ready, &item),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.ready.len() - self.at);
        buffer[..count].copy_from_slice(&self.ready[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn command(out: &mut Vec<u8>, item: &Item) {
    match item {
        Item::Select(database) => write(out, &[b"SELECT", database.to_string().as_bytes()]),
        Item::Function(code) => write(out, &[b"FUNCTION", b"LOAD", code]),
        Item::Key(key) => {
            let (expires, idle) = (key.expires.to_string(), key.idle.map(|seconds| seconds.to_string()));
            let frequency = key.frequency.map(|frequency| frequency.to_string());
            let mut words: Vec<&[u8]> = vec![b"RESTORE", &key.name, expires.as_bytes(), &key.value, b"ABSTTL"];
            if let Some(idle) = &idle {
                words.extend([&b"IDLETIME"[..], idle.as_bytes()]);
            } else if let Some(frequency) = &frequency {
                words.extend([&b"FREQ"[..], frequency.as_bytes()]);
            }
            write(out, &words);
        }
    }
}

fn write(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        out.extend(format!("${}\r\n", word.len()).bytes());
        out.extend_from_slice(word);
        out.extend(b"\r\n");
    }
}

//! A tar, watched while it passes: its members, and whether its end is its own.

use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// What is done with the members of a tar.
pub(super) trait Members {
    fn begin(&mut self, name: &str, size: u64);
    fn data(&mut self, bytes: &[u8]);
    fn end(&mut self);
}

/// Nobody looks at the members.
#[derive(Debug, Default)]
pub(super) struct Unseen;

impl Members for Unseen {
    fn begin(&mut self, _: &str, _: u64) {}
    fn data(&mut self, _: &[u8]) {}
    fn end(&mut self) {}
}

#[derive(Debug)]
enum State {
    /// In a block that is a header, or zeros.
    Header {
        zeros: usize,
    },
    /// In a member's data: what is left, and of the padding behind it.
    Data {
        left: u64,
        padding: usize,
        is_file: bool,
    },
    Broken(&'static str),
}

/// Takes a tar in pieces of any size.
#[derive(Debug)]
pub(super) struct TarScan<M> {
    members: M,
    block: Vec<u8>,
    state: State,
}

impl<M: Members> TarScan<M> {
    pub(super) fn new(members: M) -> Self {
        Self { members, block: Vec::with_capacity(BLOCK), state: State::Header { zeros: 0 } }
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Broken(_) => return,
                State::Header { .. } => {
                    let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
                    self.block.extend_from_slice(now);
                    bytes = rest;
                    if self.block.len() == BLOCK {
                        self.header();
                        self.block.clear();
                    }
                }
                State::Data { left, padding, is_file } => {
                    let own = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let (now, rest) = bytes.split_at(own);
                    *left -= now.len() as u64;
                    if *is_file {
                        self.members.data(now);
                    }
                    let skipped = if *left == 0 { rest.len().min(*padding) } else { 0 };
                    *padding -= skipped;
                    bytes = &rest[skipped..];
                    self.go_on();
                }
            }
        }
    }

    fn header(&mut self) {
        let State::Header { zeros } = &mut self.state else { return };
        if self.block.iter().all(|byte| *byte == 0) {
            *zeros += 1;
            return;
        }
        // Beyond its end a tar has nothing but zeros.
        let header = Header::from_byte_slice(&self.block);
        let sum = self.block.iter().enumerate().fold(0_u32, |sum, (at, byte)| {
            // The sum itself counts as spaces.
            sum + u32::from(if (148..156).contains(&at) { b' ' } else { *byte })
        });
        let size = match (*zeros, header.cksum(), header.entry_size()) {
            (0, Ok(told), Ok(size)) if told == sum => size,
            (0, ..) => return self.state = State::Broken("a header in it is damaged"),
            _ => return self.state = State::Broken("it goes on behind its end"),
        };
        let is_file = matches!(header.entry_type(), EntryType::Regular | EntryType::Continuous);
        if is_file {
            let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
            self.members.begin(name.strip_prefix("./").unwrap_or(&name), size);
        }
        let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
        self.state = State::Data { left: size, padding: (BLOCK - over) % BLOCK, is_file };
        self.go_on();
    }

    /// A member that has ended is followed by a header.
    fn go_on(&mut self) {
        if let State::Data { left: 0, padding: 0, is_file } = self.state {
            if is_file {
                self.members.end();
            }
            self.state = State::Header { zeros: 0 };
        }
    }

    /// What the members were, where the tar is whole: it ends with two blocks of zeros at least.
    pub(super) fn finish(self) -> Result<M, &'static str> {
        match self.state {
            State::Header { zeros: 2.. } if self.block.is_empty() => Ok(self.members),
            State::Broken(why) => Err(why),
            _ => Err("it has no end"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Collected(Vec<(String, u64, Vec<u8>, bool)>);

    impl Members for Collected {
        fn begin(&mut self, name: &str, size: u64) {
            self.0.push((name.to_owned(), size, Vec::new(), false));
        }
        fn data(&mut self, bytes: &[u8]) {
            self.0.last_mut().unwrap().2.extend_from_slice(bytes);
        }
        fn end(&mut self) {
            self.0.last_mut().unwrap().3 = true;
        }
    }

    pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            header.set_cksum();
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn through(bytes: &[u8], step: usize) -> Result<Collected, &'static str> {
        let mut scan = TarScan::new(Collected::default());
        bytes.chunks(step).for_each(|chunk| scan.feed(chunk));
        scan.finish()
    }

    #[test]
    fn members_are_told_whatever_the_pieces() {
        let long = "d/".repeat(80) + "long";
        let files: [(&str, &[u8]); 4] = [("a", b"one"), ("empty", b""), ("b", &[7; 1024]), (&long, b"x")];
        let bytes = tar(&files);
        for step in [1, 7, 511, 512, 513, 4096, bytes.len()] {
            let Collected(found) = through(&bytes, step).unwrap();
            let found: Vec<(u64, &[u8], bool)> =
                found.iter().map(|(_, size, data, end)| (*size, &data[..], *end)).collect();
            let there: Vec<(u64, &[u8], bool)> =
                files.iter().map(|(_, data)| (data.len() as u64, *data, true)).collect();
            assert_eq!(found, there, "{step}");
        }
        assert_eq!(through(&bytes, 3).unwrap().0[0].0, "a");
    }

    #[test]
    fn a_tar_that_ends_early_is_none() {
        let bytes = tar(&[("a", b"one"), ("b", &[7; 700])]);
        let whole = bytes.len();
        for end in 0..whole {
            assert!(through(&bytes[..end], 100).is_err(), "{end} of {whole}");
        }
        let mut damaged = bytes.clone();
        damaged[1] ^= 1;
        assert!(through(&damaged, 100).is_err());
        assert!(through(&[&bytes[..], &bytes[..]].concat(), 100).is_err(), "something is behind its end");
        assert!(through(&[&bytes[..], &[0; 9 * BLOCK]].concat(), 100).is_ok(), "it may be filled up");
    }
}

//! What an RDB file has, item by item: the database, the libraries of functions, and each key with its value as RESTORE
//! takes it, which is the value's bytes in the file between its type and a checksum.
//!
//! Source of the format: rdb.h and rdb.c of Redis 7.2, and DUMP (`createDumpPayload` in cluster.c). A value is not
//! understood, only measured: the server that takes it checks it.

use std::io::{self, BufRead, BufReader, Read};

use super::rdb;

/// A server takes no longer one (`proto-max-bulk-len`).
pub(super) const VALUE_MAX: usize = 512 << 20;
const BLOCK: usize = 64 << 10;

const FUNCTION: u8 = 245;
const SLOT: u8 = 244;
const MODULE_DATA: u8 = 247;
const IDLE: u8 = 248;
const FREQUENCY: u8 = 249;
const AUXILIARY: u8 = 250;
const SIZES: u8 = 251;
const EXPIRES_MS: u8 = 252;
const EXPIRES: u8 = 253;
const SELECT: u8 = 254;
const END: u8 = 255;

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The keys that follow are of this database.
    Select(u64),
    /// The code of a library.
    Function(Vec<u8>),
    Key(Key),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: Vec<u8>,
    /// When it expires, in ms since 1970; 0: never.
    pub(super) expires: u64,
    /// How long nobody has used it, in seconds, where the server evicts by that.
    pub(super) idle: Option<u64>,
    /// How often it is used, where the server evicts by that.
    pub(super) frequency: Option<u8>,
    /// As DUMP gives it.
    pub(super) value: Vec<u8>,
}

/// Reads a file from its beginning.
pub(super) struct Items<R> {
    from: BufReader<R>,
    version: u16,
    /// What is read goes here as well, while a value is read.
    recorded: Option<Vec<u8>>,
    over: bool,
}

/// A length, or how the string is encoded that stands there.
enum Length {
    Of(u64),
    /// An integer of so many bytes.
    Integer(usize),
    Compressed,
}

impl<R: Read> Items<R> {
    /// # Errors
    /// That it is no RDB file.
    pub(super) fn new(from: R) -> io::Result<Self> {
        let mut from = BufReader::with_capacity(BLOCK, from);
        let mut header = [0; 9];
        from.read_exact(&mut header)?;
        let version = header.strip_prefix(b"REDIS").and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let version = version.ok_or_else(|| invalid("it does not begin as an RDB file"))?;
        Ok(Self { from, version, recorded: None, over: false })
    }

    /// The next one; `None` at the end of the file.
    ///
    /// # Errors
    /// That it can't be read, ends early, or has what is not known here.
    pub(super) fn next(&mut self) -> io::Result<Option<Item>> {
        if self.over {
            return Ok(None);
        }
        let mut key = Key::default();
        loop {
            match self.byte()? {
                AUXILIARY => {
                    self.skip_string()?;
                    self.skip_string()?;
                }
                SIZES => self.skip_lengths(2)?,
                SLOT => self.skip_lengths(3)?,
                SELECT => return Ok(Some(Item::Select(self.length()?))),
                FUNCTION => return Ok(Some(Item::Function(self.string()?))),
                EXPIRES => key.expires = u64::from(u32::from_le_bytes(self.bytes()?)).saturating_mul(1000).max(1),
                EXPIRES_MS => key.expires = u64::from_le_bytes(self.bytes()?).max(1),
                IDLE => key.idle = Some(self.length()?),
                FREQUENCY => key.frequency = Some(self.byte()?),
                END => {
                    self.over = true;
                    // The checksum is the business of whoever verified the backup.
                    return Ok(None);
                }
                MODULE_DATA => return Err(invalid("it has data of a module beside its keys, which no command takes")),
                kind => {
                    key.name = self.string()?;
                    self.recorded = Some(vec![kind]);
                    self.skip_value(kind)?;
                    key.value = self.recorded.take().unwrap_or_default();
                    key.value.extend(self.version.to_le_bytes());
                    let sum = rdb::crc(0, &key.value);
                    key.value.extend(sum.to_le_bytes());
                    return Ok(Some(Item::Key(key)));
                }
            }
        }
    }

    fn skip_value(&mut self, kind: u8) -> io::Result<()> {
        match kind {
            // A string, and what is packed into one: a map, a list, integers, pairs.
            0 | 9..=13 | 16 | 17 | 20 => self.skip_string(),
            // Lists and sets, and lists of packed ones.
            1 | 2 | 14 => self.repeat(Self::skip_string),
            // Sorted sets with numbers as text, and as doubles.
            3 => self.repeat(|this| {
                this.skip_string()?;
                match this.byte()? {
                    253..=255 => Ok(()),
                    length => this.skip(u64::from(length)),
                }
            }),
            5 => self.repeat(|this| {
                this.skip_string()?;
                this.skip(8)
            }),
            4 => self.repeat(|this| {
                this.skip_string()?;
                this.skip_string()
            }),
            18 => self.repeat(|this| {
                this.skip_lengths(1)?;
                this.skip_string()
            }),
            7 => self.skip_module(),
            15 | 19 | 21 => self.skip_stream(kind),
            // Hashes whose fields expire (Redis 7.4).
            24 => {
                self.skip(8)?;
                self.repeat(|this| {
                    this.skip_lengths(1)?;
                    this.skip_string()?;
                    this.skip_string()
                })
            }
            25 => {
                self.skip(8)?;
                self.skip_string()
            }
            other => Err(invalid(&format!("it has a value of type {other}, which is not known here"))),
        }
    }

    /// Its packed entries, where it ends, its groups with what each of their consumers has not acknowledged.
    fn skip_stream(&mut self, kind: u8) -> io::Result<()> {
        self.repeat(|this| {
            this.skip_string()?;
            this.skip_string()
        })?;
        self.skip_lengths(if kind == 15 { 3 } else { 8 })?;
        self.repeat(|this| {
            this.skip_string()?;
            this.skip_lengths(if kind == 15 { 2 } else { 3 })?;
            this.repeat(|this| {
                this.skip(16 + 8)?;
                this.skip_lengths(1)
            })?;
            this.repeat(|this| {
                this.skip_string()?;
                this.skip(if kind == 21 { 16 } else { 8 })?;
                this.repeat(|this| this.skip(16))
            })
        })
    }

    /// A module says of each of its fields what it is.
    fn skip_module(&mut self) -> io::Result<()> {
        self.skip_lengths(1)?;
        loop {
            match self.length()? {
                0 => return Ok(()),
                1 | 2 => self.skip_lengths(1)?,
                3 => self.skip(4)?,
                4 => self.skip(8)?,
                5 => self.skip_string()?,
                other => return Err(invalid(&format!("a module's value has a field of type {other}"))),
            }
        }
    }

    fn repeat(&mut self, mut each: impl FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        let count = self.length()?;
        (0..count).try_for_each(|_| each(self))
    }

    fn skip_lengths(&mut self, count: usize) -> io::Result<()> {
        (0..count).try_for_each(|_| self.length().map(drop))
    }

    fn skip_string(&mut self) -> io::Result<()> {
        match self.length_or_encoding()? {
            Length::Of(bytes) => self.skip(bytes),
            Length::Integer(bytes) => self.skip(bytes as u64),
            Length::Compressed => {
                let (packed, _) = (self.length()?, self.length()?);
                self.skip(packed)
            }
        }
    }

    /// A string as it was before it was encoded.
    fn string(&mut self) -> io::Result<Vec<u8>> {
        match self.length_or_encoding()? {
            Length::Of(bytes) => self.take(bytes),
            Length::Integer(bytes) => {
                let bytes = self.take(bytes as u64)?;
                let number = match bytes[..] {
                    [one] => i32::from(one.cast_signed()),
                    [one, two] => i32::from(i16::from_le_bytes([one, two])),
                    [one, two, three, four] => i32::from_le_bytes([one, two, three, four]),
                    _ => return Err(ended()),
                };
                Ok(number.to_string().into_bytes())
            }
            Length::Compressed => {
                let (packed, length) = (self.length()?, self.length()?);
                let packed = self.take(packed)?;
                let unpacked = usize::try_from(length).ok().filter(|length| *length <= VALUE_MAX);
                unpacked
                    .and_then(|length| unpack(&packed, length))
                    .ok_or_else(|| invalid("a compressed string can't be read"))
            }
        }
    }

    fn length(&mut self) -> io::Result<u64> {
        match self.length_or_encoding()? {
            Length::Of(length) => Ok(length),
            Length::Integer(_) | Length::Compressed => Err(invalid("a string stands where a length is expected")),
        }
    }

    fn length_or_encoding(&mut self) -> io::Result<Length> {
        let first = self.byte()?;
        let low = u64::from(first & 0x3f);
        Ok(match (first >> 6, first & 0x3f) {
            (0, _) => Length::Of(low),
            (1, _) => Length::Of(low << 8 | u64::from(self.byte()?)),
            (2, 0) => Length::Of(u64::from(u32::from_be_bytes(self.bytes()?))),
            (2, 1) => Length::Of(u64::from_be_bytes(self.bytes()?)),
            (3, 0) => Length::Integer(1),
            (3, 1) => Length::Integer(2),
            (3, 2) => Length::Integer(4),
            (3, 3) => Length::Compressed,
            _ => return Err(invalid(&format!("no length begins with {first:#04x}"))),
        })
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.bytes().map(|[byte]| byte)
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).map_err(end_is_early)?;
        if let Some(recorded) = &mut self.recorded {
            recorded.extend(bytes);
        }
        Ok(bytes)
    }

    fn take(&mut self, bytes: u64) -> io::Result<Vec<u8>> {
        let mut taken = Vec::new();
        self.pass(bytes, |some| {
            taken.extend_from_slice(some);
            taken.len()
        })?;
        Ok(taken)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let Some(mut recorded) = self.recorded.take() else { return self.pass(bytes, |_| 0) };
        let passed = self.pass(bytes, |some| {
            recorded.extend_from_slice(some);
            recorded.len()
        });
        self.recorded = Some(recorded);
        passed
    }

    /// Gives bytes to `each`, which says how many it keeps. A length is believed as far as there are bytes, no further.
    fn pass(&mut self, mut bytes: u64, mut each: impl FnMut(&[u8]) -> usize) -> io::Result<()> {
        while bytes > 0 {
            let ready = self.from.fill_buf()?;
            if ready.is_empty() {
                return Err(ended());
            }
            let count = usize::try_from(bytes).map_or(ready.len(), |bytes| bytes.min(ready.len()));
            if each(&ready[..count]) > VALUE_MAX {
                return Err(invalid("a value is larger than the 512 MiB that a server takes in one command"));
            }
            self.from.consume(count);
            bytes -= count as u64;
        }
        Ok(())
    }
}

/// LZF (`lzf_d.c`): bytes as they are, or so many of those before, which may overlap with what they make.
fn unpack(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::new();
    let mut packed = packed.iter().copied();
    while let Some(control) = packed.next() {
        let control = usize::from(control);
        if control < 32 {
            for _ in 0..=control {
                out.push(packed.next()?);
            }
        } else {
            let mut count = control >> 5;
            if count == 7 {
                count += usize::from(packed.next()?);
            }
            let back = ((control & 0x1f) << 8 | usize::from(packed.next()?)) + 1;
            let start = out.len().checked_sub(back)?;
            for at in start..start + count + 2 {
                out.push(*out.get(at)?);
            }
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ends early")
}

fn end_is_early(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof { ended() } else { error }
}

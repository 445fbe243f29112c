//! The last bytes of a stream: where a script says that it is whole.

/// So much shows the last lines.
const BYTES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&bytes[bytes.len().saturating_sub(BYTES_MAX)..]);
        self.0.drain(..self.0.len().saturating_sub(BYTES_MAX));
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

#[test]
fn the_end_is_kept_however_it_comes() {
    let all: Vec<u8> = (b'a'..=b'z').cycle().take(3 * BYTES_MAX + 5).collect();
    for step in [1, 7, BYTES_MAX - 1, BYTES_MAX, BYTES_MAX + 1, all.len()] {
        let mut tail = Tail::default();
        all.chunks(step).for_each(|chunk| tail.feed(chunk));
        assert_eq!(tail.text().as_bytes(), &all[all.len() - BYTES_MAX..], "{step}");
    }
}

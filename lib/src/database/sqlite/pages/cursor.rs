//! Steps over the words of a statement.

use super::sql::Token;

#[derive(Debug)]
pub(super) struct Cursor<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(tokens: &'a [Token]) -> Self {
        Self { tokens, at: 0 }
    }

    /// All that is still to come.
    pub(super) fn rest(&self) -> &'a [Token] {
        self.tokens.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn next(&mut self) -> Option<&'a Token> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    pub(super) fn sees(&self, keyword: &str) -> bool {
        self.peek().is_some_and(|token| token.is(keyword))
    }

    /// Takes these keywords if all of them come now.
    pub(super) fn take(&mut self, keywords: &[&str]) -> bool {
        let ahead = self.rest();
        let fits = ahead.len() >= keywords.len() && ahead.iter().zip(keywords).all(|(token, word)| token.is(word));
        if fits {
            self.at += keywords.len();
        }
        fits
    }

    pub(super) fn take_sign(&mut self, sign: char) -> bool {
        let fits = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(fits);
        fits
    }

    pub(super) fn name(&mut self) -> Option<&'a str> {
        self.next()?.name()
    }

    /// What is between this parenthesis and its other one, which is taken too.
    pub(super) fn group(&mut self) -> Option<Cursor<'a>> {
        if !self.take_sign('(') {
            return None;
        }
        let (start, mut depth) = (self.at, 1_usize);
        while let Some(token) = self.next() {
            match token {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(Self::new(&self.tokens[start..self.at - 1]));
            }
        }
        None
    }

    /// The parts between commas that are in no parenthesis.
    pub(super) fn by_comma(&self) -> Vec<Cursor<'a>> {
        let rest = self.rest();
        let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
        for (at, token) in rest.iter().enumerate() {
            match token {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth = depth.saturating_sub(1),
                Token::Sign(',') if depth == 0 => {
                    parts.push(Self::new(&rest[start..at]));
                    start = at + 1;
                }
                _ => {}
            }
        }
        parts.push(Self::new(&rest[start..]));
        parts
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.peek().is_none()
    }
}

//! Lines of a log, however long they are and however the file is rotated.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The longest line that is read. No record is that long.
const MAX_LINE: usize = 64 << 10;

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Whole(&'a [u8]),
    TooLong,
}

/// Where in the buffer a line is.
enum Found {
    Whole(Range<usize>),
    TooLong,
}

/// Reads lines, in memory for one at a time.
pub(super) struct Lines<R> {
    log: R,
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins.
    begin: usize,
    /// How far the buffer has been looked through.
    searched: usize,
    /// Whether the line at hand is too long, so that its rest is skipped.
    skips: bool,
    read: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(log: R) -> Self {
        Self { log, buffer: Vec::new(), begin: 0, searched: 0, skips: false, read: 0 }
    }

    /// The next line, also where it has no end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        match self.find_next()? {
            Some(found) => Ok(Some(self.line(found))),
            None => Ok(self.rest()),
        }
    }

    fn line(&self, found: Found) -> Line<'_> {
        match found {
            Found::Whole(range) => Line::Whole(&self.buffer[range]),
            Found::TooLong => Line::TooLong,
        }
    }

    /// What is left that has no end.
    fn rest(&mut self) -> Option<Line<'_>> {
        let rest = self.begin..self.buffer.len();
        (self.begin, self.searched) = (rest.end, rest.end);
        match (std::mem::take(&mut self.skips), rest.is_empty()) {
            (true, _) => Some(Line::TooLong),
            (false, true) => None,
            (false, false) => Some(Line::Whole(&self.buffer[rest])),
        }
    }

    /// The next line that has an end.
    fn find_next(&mut self) -> io::Result<Option<Found>> {
        loop {
            if let Some(found) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.begin..self.searched + found;
                (self.begin, self.searched) = (line.end + 1, line.end + 1);
                let is_too_long = std::mem::take(&mut self.skips) || line.len() > MAX_LINE;
                return Ok(Some(if is_too_long { Found::TooLong } else { Found::Whole(line) }));
            }
            if self.buffer.len() - self.begin > MAX_LINE {
                self.skips = true;
                self.begin = self.buffer.len();
            }
            self.buffer.drain(..self.begin);
            (self.begin, self.searched) = (0, self.buffer.len());
            let before = self.buffer.len();
            self.buffer.resize(before + MAX_LINE, 0);
            let read = loop {
                match self.log.read(&mut self.buffer[before..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            self.buffer.truncate(before + read.as_ref().map_or(0, |read| *read));
            let read = read?;
            self.read += read as u64;
            if read == 0 {
                return Ok(None);
            }
        }
    }
}

/// A file that grows, is truncated, and is replaced by another.
pub(super) struct FollowedFile {
    path: PathBuf,
    lines: Lines<File>,
}

impl FollowedFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), lines: Lines::new(File::open(path)?) })
    }

    /// The next line that has an end, if it is there.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let found = self.lines.find_next()?;
        Ok(found.map(|found| self.lines.line(found)))
    }

    /// Goes on with the file that has the path by now, if that is another or was truncated. Call it when there is nothing
    /// [next](Self::next).
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        let open = self.lines.log.metadata()?;
        let Ok(there) = self.path.metadata() else { return Ok(false) };
        if is_same(&open, &there) {
            let is_truncated = open.len() < self.lines.read;
            if is_truncated {
                self.lines.log.seek(SeekFrom::Start(0))?;
                let log = self.lines.log.try_clone()?;
                self.lines = Lines::new(log);
            }
            return Ok(is_truncated);
        }
        // Written between the last look and the rotation.
        if open.len() > self.lines.read {
            return Ok(true);
        }
        let Ok(log) = File::open(&self.path) else { return Ok(false) };
        self.lines = Lines::new(log);
        Ok(true)
    }
}

#[cfg(unix)]
fn is_same(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    one.created().ok() == other.created().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn all(log: impl Read) -> Vec<Option<String>> {
        let mut lines = Lines::new(log);
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push(match line {
                Line::Whole(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
                Line::TooLong => None,
            });
        }
        all
    }

    /// Reads a few bytes at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(7);
            self.0.read(&mut buffer[..most])
        }
    }

    #[test]
    fn lines_are_found_however_they_arrive_and_one_that_is_too_long_is_no_line() {
        let long = "x".repeat(3 * MAX_LINE);
        let text = format!("one\n\ntwo\n{long}\nthree\nrest");
        let expected = [Some("one"), Some(""), Some("two"), None, Some("three"), Some("rest")];
        let expected = expected.map(|line| line.map(str::to_owned));
        assert_eq!(all(text.as_bytes()), expected);
        assert_eq!(all(Slow(text.as_bytes())), expected);
        assert_eq!(all(long.as_bytes()), [None]);
        assert!(all(&b""[..]).is_empty());
    }

    #[test]
    fn a_file_is_followed_when_it_grows_is_truncated_and_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        fs::write(&path, "one\nhal").unwrap();
        let mut followed = FollowedFile::open(&path).unwrap();
        let mut next = || {
            loop {
                if let Some(Line::Whole(line)) = followed.next().unwrap() {
                    return Some(String::from_utf8(line.to_vec()).unwrap());
                }
                if !followed.advance().unwrap() {
                    return None;
                }
            }
        };
        assert_eq!((next().as_deref(), next()), (Some("one"), None));
        let append = |text: &str| {
            fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        };
        append("f\n");
        assert_eq!((next().as_deref(), next()), (Some("half"), None));
        fs::write(&path, "new\n").unwrap();
        assert_eq!((next().as_deref(), next()), (Some("new"), None));
        append("last\n");
        fs::rename(&path, &moved).unwrap();
        fs::write(&path, "rotated\n").unwrap();
        assert_eq!((next().as_deref(), next().as_deref(), next()), (Some("last"), Some("rotated"), None));
    }
}

//! What is said on the socket of a session once that stands, without I/O.

use std::collections::VecDeque;

use crate::i2p::destination::Destination;
use crate::i2p::error::SamError;
use crate::i2p::exchange::{check, pong};
use crate::i2p::line::{self, Line};
use crate::i2p::message::Message;
use crate::i2p::name::I2pName;

/// Answers a bridge that asks whether anybody is there, and asks it for names, one after the other: bridges do not
/// read a request before the last one is answered.
///
/// What the bridge says and nobody asked for is ignored. While it is asked for a name, what cannot be read or is about
/// another name is the end: it may have been the answer, and there would be no other.
#[derive(Default)]
pub(super) struct Control {
    line: Line,
    output: Vec<u8>,
    /// The name that is being looked up.
    asked: Option<I2pName>,
    found: VecDeque<Result<Destination, SamError>>,
}

impl Control {
    /// Whether a name may be asked for.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_none()
    }

    /// Asks for `name`.
    pub(super) fn look_up(&mut self, name: I2pName) {
        self.output.extend(format!("NAMING LOOKUP NAME={name}\n").into_bytes());
        self.asked = Some(name);
    }

    /// What is to be sent now.
    pub(super) fn output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// What became of the name that was asked for.
    pub(super) fn found(&mut self) -> Option<Result<Destination, SamError>> {
        self.found.pop_front()
    }

    /// Takes all of `input`.
    ///
    /// # Errors
    ///
    /// If the session is over: the bridge says so, or does not keep to the protocol.
    pub(super) fn receive(&mut self, mut input: &[u8]) -> Result<(), SamError> {
        while !input.is_empty() {
            let taken = self.line.take(input);
            let (len, line) = taken.map_err(|line::TooLong| SamError::LineTooLong { max: line::MAX_LEN })?;
            input = &input[len..];
            if let Some(line) = line {
                self.hear(&line)?;
            }
        }
        Ok(())
    }

    fn hear(&mut self, line: &[u8]) -> Result<(), SamError> {
        if let Some(pong) = pong(line) {
            self.output.extend(pong);
            return Ok(());
        }
        let message = match Message::parse(line) {
            Ok(message) => message,
            Err(_) if self.is_idle() => return Ok(()),
            Err(error) => return Err(SamError::from(error)),
        };
        match message.topic().as_str() {
            "SESSION STATUS" => check(&message, "SESSION STATUS"),
            "NAMING REPLY" => {
                let Some(asked) = &self.asked else { return Ok(()) };
                if message.get("NAME")?.is_some_and(|name| name != asked.as_str()) {
                    return Err(SamError::Malformed("it is about another name"));
                }
                self.asked = None;
                self.found.push_back(destination(&message));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What a `NAMING REPLY` says.
fn destination(reply: &Message<'_>) -> Result<Destination, SamError> {
    check(reply, "NAMING REPLY")?;
    let value = reply.get("VALUE")?.ok_or(SamError::Malformed("there is no destination in it"))?;
    Ok(value.parse()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::i2p::refusal::SamRefusal;

    fn name(text: &str) -> I2pName {
        I2pName::new(&text.parse().unwrap()).unwrap()
    }

    fn value() -> String {
        // 387 bytes of zero.
        "A".repeat(516)
    }

    #[test]
    fn it_answers_whether_anybody_is_there() {
        let mut control = Control::default();
        control.receive(b"PING\nPING are you  there\nPINGU\n").unwrap();
        assert_eq!(control.output(), b"PONG\nPONG are you  there\n");
        assert!(control.output().is_empty() && control.found().is_none());
    }

    #[test]
    fn it_looks_names_up_and_does_not_mix_them_up() {
        let mut control = Control::default();
        control.receive(format!("NAMING REPLY RESULT=OK NAME=a.i2p VALUE={}\n", value()).as_bytes()).unwrap();
        assert!(control.found().is_none(), "nobody asked");
        control.look_up(name("a.i2p"));
        assert_eq!(control.output(), b"NAMING LOOKUP NAME=a.i2p\n");
        control.receive(b"NAMING REPLY RESULT=KEY_NOT_FOUND NAME=a.i2p\n").unwrap();
        assert!(control.is_idle());
        let error = control.found().unwrap().unwrap_err();
        assert!(error.is_refusal(&SamRefusal::KeyNotFound));
        control.look_up(name("a.i2p"));
        control.receive(format!("NAMING REPLY RESULT=OK NAME=a.i2p VALUE={}\n", value()).as_bytes()).unwrap();
        assert_eq!(control.found().unwrap().unwrap().to_string(), value());
        control.look_up(name("a.i2p"));
        control.receive(b"NAMING REPLY RESULT=OK NAME=a.i2p VALUE=abc\n").unwrap();
        assert!(matches!(control.found().unwrap(), Err(SamError::Destination(_))));
    }

    #[test]
    fn what_may_have_been_the_answer_and_is_none_is_the_end() {
        let of_another = format!("NAMING REPLY RESULT=OK NAME=b.i2p VALUE={}\n", value());
        let unclosed = "NAMING REPLY RESULT=KEY_NOT_FOUND NAME=a.i2p MESSAGE=\"oh\n";
        let of_both = "NAMING REPLY RESULT=KEY_NOT_FOUND NAME=a.i2p NAME=b.i2p\n";
        for line in [of_another.as_bytes(), unclosed.as_bytes(), of_both.as_bytes(), b"\xff\n"] {
            let mut control = Control::default();
            control.receive(line).unwrap();
            assert!(control.found().is_none(), "nobody asked");
            control.look_up(name("a.i2p"));
            control.receive(b"WHAT EVER\nPING\n").unwrap();
            let error = control.receive(line).unwrap_err();
            assert!(matches!(error, SamError::Malformed(_)), "{error:?}");
            assert!(control.found().is_none());
        }
    }

    #[test]
    fn a_session_that_the_bridge_ends_is_over() {
        let mut control = Control::default();
        control.receive(b"SESSION STATUS RESULT=OK\nWHAT EVER\n\xff\n\n").unwrap();
        let error = control.receive(b"SESSION STATUS RESULT=I2P_ERROR MESSAGE=\"going down\"\n").unwrap_err();
        assert!(error.to_string().ends_with("; it says: going down"), "{error}");
        let endless = vec![b'x'; line::MAX_LEN + 1];
        assert!(matches!(Control::default().receive(&endless), Err(SamError::LineTooLong { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(input in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "(NAMING REPLY|SESSION STATUS|PING)( (RESULT|NAME|VALUE|A)=?(OK|a.i2p|\"|\\\\|A)?){0,5}\n?"
                .prop_map(String::into_bytes),
        ]) {
            let mut control = Control::default();
            control.look_up(name("a.i2p"));
            let _ = control.receive(&input);
        }
    }
}

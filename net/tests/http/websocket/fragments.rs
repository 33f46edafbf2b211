//! However a server cuts its messages, and whatever the network does to the segments, the same messages arrive.

use frame_net::http::websocket::{CloseFrame, Message};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::{BINARY, CONTINUATION, FIN, PING, TEXT, close, connect, drain, frame, server, world};
use crate::support::soon;

/// A message, where it is cut, and whether a ping is in between.
#[derive(Debug, Clone)]
struct Cut {
    message: Message,
    cuts: Vec<(prop::sample::Index, bool)>,
}

impl Cut {
    fn frames(&self) -> Vec<u8> {
        let (opcode, bytes) = match &self.message {
            Message::Text(text) => (TEXT, text.as_bytes()),
            Message::Binary(bytes) => (BINARY, &bytes[..]),
        };
        let mut cuts: Vec<_> =
            self.cuts.iter().map(|(cut, ping)| (cut.index(bytes.len() + 1), *ping)).collect();
        cuts.sort_unstable();
        let (mut frames, mut opcode, mut from) = (Vec::new(), opcode, 0);
        for (to, ping) in cuts {
            frames.extend(frame(opcode, &bytes[from..to]));
            if ping {
                frames.extend(frame(FIN | PING, &bytes[from..to.min(from + 125)]));
            }
            (opcode, from) = (CONTINUATION, to);
        }
        frames.extend(frame(FIN | opcode, &bytes[from..]));
        frames
    }
}

fn cut() -> impl Strategy<Value = Cut> {
    let text = prop_oneof!["\\PC{0,40}", "[aäßあ🦀]{0,300}"].prop_map(Message::Text);
    let bytes = prop::collection::vec(any::<u8>(), 0..2000).prop_map(Message::from);
    let cuts = prop::collection::vec(any::<(prop::sample::Index, bool)>(), 0..8);
    (prop_oneof![text, bytes], cuts).prop_map(|(message, cuts)| Cut { message, cuts })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn messages_arrive_as_they_were(
        cuts in prop::collection::vec(cut(), 0..12),
        segments in prop::collection::vec(1..700_usize, 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bytes: Vec<u8> = cuts.iter().flat_map(Cut::frames).collect();
            bytes.extend(close(1000, "bye"));
            let server = server(move |mut stream| async move {
                let mut segments = segments.iter().cycle();
                while !bytes.is_empty() {
                    let rest = bytes.split_off((*segments.next().unwrap()).min(bytes.len()));
                    stream.write_all(&bytes).await.unwrap();
                    tokio::task::yield_now().await;
                    bytes = rest;
                }
                drain(stream).await
            })
            .await;
            let mut socket = connect(&world(), server.request()).await.unwrap();
            for cut in cuts {
                assert_eq!(soon(socket.receive()).await.unwrap(), Some(cut.message));
            }
            assert_eq!(soon(socket.receive()).await.unwrap(), None);
            assert_eq!(socket.close_frame(), Some(&CloseFrame::new(1000, "bye").unwrap()));
        });
    }

    /// Whatever a server sends, there is an end.
    #[test]
    fn noise_is_an_error_or_an_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = server(move |mut stream| async move {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            })
            .await;
            let mut socket = connect(&world(), server.request()).await.unwrap();
            while let Ok(Some(_)) = soon(socket.receive()).await {}
        });
    }
}

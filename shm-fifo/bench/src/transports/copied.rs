//! A peer whose receiver takes each message into memory of its own before it looks at it,
//! as that of a byte stream does, and whoever keeps a message or does not trust its sender.

use crate::shared::Messages;
use crate::transport::{End, Message, Opening, Pair, Place, Transport};
use anyhow::Result;
use std::marker::PhantomData;

#[derive(Debug)]
pub struct Copied<T>(PhantomData<T>);

#[derive(Debug)]
pub struct CopiedEnd<E, const N: usize> {
    end: E,
    own: Messages<N>,
}

impl<T: Transport<N>, const N: usize> Transport<N> for Copied<T>
where
    T::End: 'static,
{
    type End = CopiedEnd<T::End, N>;
    const PLACE: Place = T::PLACE;

    fn connect(capacity: usize) -> Result<Pair<Self::End>> {
        let (near, far) = T::connect(capacity)?;
        let copied = |open: Opening<T::End>| -> Opening<Self::End> {
            Box::new(|| Ok(CopiedEnd { end: open()?, own: Messages::burst()? }))
        };
        Ok((copied(near), copied(far)))
    }
}

impl<E: End<N>, const N: usize> End<N> for CopiedEnd<E, N> {
    fn send(&mut self, burst: &[Message<N>]) -> Result<()> {
        self.end.send(burst)
    }

    fn receive(&mut self, mut take: impl FnMut(&Message<N>)) -> Result<()> {
        let mut next = 0;
        self.end.receive(|message| {
            let own = &mut self.own[next];
            own.copy_from_slice(message);
            take(own);
            next = (next + 1) % self.own.len();
        })
    }
}

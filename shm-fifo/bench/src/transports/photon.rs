//! photon-ring, bounded: its subscriber loses nothing.

use crate::transport::{End, Message, Pair, Place, Transport};
use anyhow::{Result, bail};
use photon_ring::{Publisher, Subscriber, TryRecvError, channel_bounded};

#[derive(Debug)]
pub struct PhotonRing;

pub struct PhotonEnd<const N: usize> {
    publisher: Publisher<Message<N>>,
    subscriber: Subscriber<Message<N>>,
}

impl<const N: usize> Transport<N> for PhotonRing {
    type End = PhotonEnd<N>;
    const PLACE: Place = Place::Threads;

    fn connect(capacity: usize) -> Result<Pair<Self::End>> {
        let (near_publisher, there) = channel_bounded(capacity, 0);
        let (far_publisher, back) = channel_bounded(capacity, 0);
        let (far_subscriber, near_subscriber) = (there.subscribe(), back.subscribe());
        Ok((
            Box::new(|| Ok(PhotonEnd { publisher: near_publisher, subscriber: near_subscriber })),
            Box::new(|| Ok(PhotonEnd { publisher: far_publisher, subscriber: far_subscriber })),
        ))
    }
}

impl<const N: usize> End<N> for PhotonEnd<N> {
    fn send(&mut self, burst: &[Message<N>]) -> Result<()> {
        self.publisher.publish_batch(burst);
        Ok(())
    }

    fn receive(&mut self, mut take: impl FnMut(&Message<N>)) -> Result<()> {
        match self.subscriber.try_recv() {
            Ok(message) => take(&message),
            Err(TryRecvError::Empty) => {}
            Err(lagged) => bail!("photon-ring lost messages: {lagged:?}"),
        }
        Ok(())
    }
}

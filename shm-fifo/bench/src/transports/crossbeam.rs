//! Queues for any number of threads of one process: crossbeam's.

use crate::transport::{End, Message, Pair, Place, Transport, spin_until};
use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;

#[derive(Debug)]
pub struct CrossbeamChannel;

#[derive(Debug)]
pub struct ChannelEnd<const N: usize> {
    sender: Sender<Message<N>>,
    receiver: Receiver<Message<N>>,
}

impl<const N: usize> Transport<N> for CrossbeamChannel {
    type End = ChannelEnd<N>;
    const PLACE: Place = Place::Threads;

    fn connect(capacity: usize) -> Result<Pair<Self::End>> {
        let (near_sender, far_receiver) = bounded(capacity);
        let (far_sender, near_receiver) = bounded(capacity);
        Ok((
            Box::new(|| Ok(ChannelEnd { sender: near_sender, receiver: near_receiver })),
            Box::new(|| Ok(ChannelEnd { sender: far_sender, receiver: far_receiver })),
        ))
    }
}

impl<const N: usize> End<N> for ChannelEnd<N> {
    fn send(&mut self, burst: &[Message<N>]) -> Result<()> {
        for message in burst {
            spin_until(|| match self.sender.try_send(*message) {
                Ok(()) => Ok(true),
                Err(TrySendError::Full(_)) => Ok(false),
                Err(error) => Err(error.into()),
            })?;
        }
        Ok(())
    }

    fn receive(&mut self, mut take: impl FnMut(&Message<N>)) -> Result<()> {
        match self.receiver.try_recv() {
            Ok(message) => take(&message),
            Err(TryRecvError::Empty) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

#[derive(Debug)]
pub struct CrossbeamArrayQueue;

#[derive(Debug)]
pub struct ArrayQueueEnd<const N: usize> {
    outgoing: Arc<ArrayQueue<Message<N>>>,
    incoming: Arc<ArrayQueue<Message<N>>>,
}

impl<const N: usize> Transport<N> for CrossbeamArrayQueue {
    type End = ArrayQueueEnd<N>;
    const PLACE: Place = Place::Threads;

    fn connect(capacity: usize) -> Result<Pair<Self::End>> {
        let there = Arc::new(ArrayQueue::new(capacity));
        let back = Arc::new(ArrayQueue::new(capacity));
        let far = ArrayQueueEnd { outgoing: back.clone(), incoming: there.clone() };
        Ok((
            Box::new(|| Ok(ArrayQueueEnd { outgoing: there, incoming: back })),
            Box::new(|| Ok(far)),
        ))
    }
}

impl<const N: usize> End<N> for ArrayQueueEnd<N> {
    fn send(&mut self, burst: &[Message<N>]) -> Result<()> {
        for message in burst {
            spin_until(|| Ok(self.outgoing.push(*message).is_ok()))?;
        }
        Ok(())
    }

    fn receive(&mut self, mut take: impl FnMut(&Message<N>)) -> Result<()> {
        if let Some(message) = self.incoming.pop() {
            take(&message);
        }
        Ok(())
    }
}

//! iceoryx2, publish-subscribe between two processes, losing nothing.

use crate::transport::{End, Message, Opening, Pair, Place, Transport};
use anyhow::Result;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{
    BackpressureStrategy, LogLevel, NodeBuilder, ServiceName, ipc, set_log_level,
};
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug)]
pub struct Iceoryx2;

pub struct IceoryxEnd<const N: usize> {
    publisher: Publisher<ipc::Service, Message<N>, ()>,
    subscriber: Subscriber<ipc::Service, Message<N>, ()>,
}

impl<const N: usize> Transport<N> for Iceoryx2 {
    type End = IceoryxEnd<N>;
    const PLACE: Place = Place::Processes;

    fn connect(capacity: usize) -> Result<Pair<Self::End>> {
        static CONNECTIONS: AtomicU32 = AtomicU32::new(0);
        set_log_level(LogLevel::Error);
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let name =
            |direction| format!("shm-fifo-bench/{}/{connection}/{direction}", std::process::id());
        Ok((
            opening(name("there"), name("back"), capacity),
            opening(name("back"), name("there"), capacity),
        ))
    }
}

/// Each process is a node of its own.
fn opening<const N: usize>(
    outgoing: String,
    incoming: String,
    capacity: usize,
) -> Opening<IceoryxEnd<N>> {
    Box::new(move || {
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let service = |name: &str| -> Result<_> {
            Ok(node
                .service_builder(&ServiceName::new(name)?)
                .publish_subscribe::<Message<N>>()
                .max_publishers(1)
                .max_subscribers(1)
                .subscriber_max_buffer_size(capacity)
                .enable_safe_overflow(false)
                .open_or_create()?)
        };
        let publisher = service(&outgoing)?
            .publisher_builder()
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let subscriber = service(&incoming)?.subscriber_builder().create()?;
        Ok(IceoryxEnd { publisher, subscriber })
    })
}

impl<const N: usize> End<N> for IceoryxEnd<N> {
    fn send(&mut self, burst: &[Message<N>]) -> Result<()> {
        for message in burst {
            let mut sample = self.publisher.loan_uninit()?;
            sample.payload_mut().write(*message);
            // SAFETY: written above.
            unsafe { sample.assume_init() }.send()?;
        }
        Ok(())
    }

    fn receive(&mut self, mut take: impl FnMut(&Message<N>)) -> Result<()> {
        if let Some(sample) = self.subscriber.receive()? {
            take(sample.payload());
        }
        Ok(())
    }
}

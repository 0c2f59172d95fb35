//! A producer as a [`Sink`] of records: ready when there is room, flushed when everything is acknowledged.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_sink::Sink;
use futures_util::future::BoxFuture;
use kafka_client::serde::Serialize;

use crate::completion::{BatchCompletion, Delivery};
use crate::error::{Error, ErrorKind, Result};
use crate::producer::Producer;
use crate::record::ProducerRecord;

/// Accepts records as there is room; from [`Producer::sink`].
///
/// Flushing and closing wait until every record that went through this sink is acknowledged, and fail with the first
/// error among them. Closing it leaves the producer open.
///
/// # Cancel safety
/// Dropped, it forgets a record that it took and found no room for; those that were accepted are sent.
pub struct ProducerSink<K, V> {
    producer: Producer,
    /// A record for which there was no room yet.
    accepting: Option<BoxFuture<'static, Result<Delivery>>>,
    flushing: Option<BoxFuture<'static, ()>>,
    /// The batches that hold this sink's records and were not seen to be done.
    open: Vec<Arc<BatchCompletion>>,
    /// The first error, until it is told.
    error: Option<Error>,
    records: std::marker::PhantomData<fn(K, V)>,
}

/// How many batches are remembered before those that are done are looked for.
const CROWDED: usize = 64;

impl<K, V> ProducerSink<K, V> {
    pub(crate) fn new(producer: Producer) -> Self {
        Self {
            producer,
            accepting: None,
            flushing: None,
            open: Vec::new(),
            error: None,
            records: std::marker::PhantomData,
        }
    }

    fn accepted(&mut self, delivery: Result<Delivery>) {
        match delivery {
            Ok(delivery) => {
                let Some(batch) = delivery.batch() else { return };
                if self.open.last().is_none_or(|last| !Arc::ptr_eq(last, batch)) {
                    if self.open.len() >= CROWDED && self.open.len().is_power_of_two() {
                        self.settle();
                    }
                    self.open.push(batch.clone());
                }
            }
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
    }

    /// Lets go of the batches that are done.
    fn settle(&mut self) {
        let error = &mut self.error;
        self.open.retain(|batch| {
            let done = batch.is_done();
            if done && error.is_none() {
                *error = batch.error();
            }
            !done
        });
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(accepting) = &mut self.accepting {
            let Poll::Ready(delivery) = accepting.as_mut().poll(cx) else { return Poll::Pending };
            self.accepting = None;
            self.accepted(delivery);
        }
        Poll::Ready(())
    }

    fn poll_result(&mut self) -> Poll<Result<()>> {
        Poll::Ready(self.error.take().map_or(Ok(()), Err))
    }
}

impl<K, V> Sink<ProducerRecord<'static, K, V>> for ProducerSink<K, V>
where
    K: Serialize + Send + 'static,
    V: Serialize + Send + 'static,
{
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.poll_accept(cx).is_pending() {
            return Poll::Pending;
        }
        self.poll_result()
    }

    fn start_send(mut self: Pin<&mut Self>, record: ProducerRecord<'static, K, V>) -> Result<()> {
        if self.accepting.is_some() {
            // Only without `poll_ready`, which `Sink` asks for: the record that waits is not lost for it.
            let capacity = self.producer.config().buffer_memory;
            return Err(Error::not_sent(ErrorKind::BufferFull { capacity }));
        }
        match self.producer.try_enqueue(&record) {
            Err(error) if error.is_retriable() => {
                let producer = self.producer.clone();
                self.accepting = Some(Box::pin(async move { producer.enqueue(record).await }));
                Ok(())
            }
            Err(error) => Err(error),
            accepted => {
                self.accepted(accepted);
                Ok(())
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.poll_accept(cx).is_pending() {
            return Poll::Pending;
        }
        self.settle();
        while !self.open.is_empty() {
            let producer = self.producer.clone();
            let flushing =
                self.flushing.get_or_insert_with(|| Box::pin(async move { producer.flush().await }));
            if flushing.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.flushing = None;
            self.settle();
        }
        self.poll_result()
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(cx)
    }
}

impl<K, V> fmt::Debug for ProducerSink<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerSink").field("producer", &self.producer).finish_non_exhaustive()
    }
}

//! One Produce request for each tick over a plain socket, written and read by hand: nothing can be much sooner. Ticks that are
//! overdue share a request, and none waits for the answer to the one before.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, BytesMut};
use driver::{Error, Latencies, Options, Reading, Report, Result, Table, Ticks, due};
use futures_util::future::{Either, select};
use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::header::RequestHeader;
use kafka_wire::produce::{PartitionRecords, Request, ResponseView, TopicRef};
use kafka_wire::record_batch::{BatchWriter, batch_buffer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The last version that names topics, so that no metadata is needed.
const VERSION: i16 = 12;
/// The distance of the requests.
const INTERVAL: Duration = Duration::from_millis(1);

pub(crate) fn run(options: &Options) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = TcpStream::connect(&options.bootstrap).await?;
        stream.set_nodelay(true)?;
        let (reading, writing) = stream.into_split();
        let mut requests = Requests::new(writing, options);
        let mut answers = Answers { stream: reading, buffer: BytesMut::new() };
        let warmup = phase(&mut requests, &mut answers, options.rate, options.warmup).await?;
        let start = Reading::now()?;
        let window = phase(&mut requests, &mut answers, options.rate, options.seconds).await?;
        window.report(options, crate::version(), start, &warmup)
    })
}

async fn phase(
    requests: &mut Requests,
    answers: &mut Answers,
    rate: u64,
    time: Duration,
) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let mut ticks = Ticks::start(INTERVAL)?;
    let end = u64::try_from(time.as_nanos() / INTERVAL.as_nanos())?;
    let mut passed = 0;
    // By request: when its records were due, and how many at a time.
    let mut unanswered: VecDeque<Vec<(u64, u64)>> = VecDeque::new();
    while passed < end || !unanswered.is_empty() {
        let late = match select(pin!(ticks.passed()), pin!(answers.next())).await {
            Either::Left((late, _)) => late?,
            Either::Right((answered, _)) => {
                answered?;
                for (due_ns, records) in unanswered.pop_front().into_iter().flatten() {
                    (0..records).for_each(|_| latencies.settled(due_ns, Ok(())));
                }
                continue;
            }
        };
        passed = late.end;
        let due: Vec<_> = (late.start..late.end.min(end))
            .map(|tick| (ticks.due_ns(tick), due(rate, INTERVAL, tick)))
            .filter(|(_, records)| *records > 0)
            .collect();
        if !due.is_empty() {
            requests.send(due.iter().map(|(_, records)| records).sum()).await?;
            unanswered.push_back(due);
        }
    }
    Ok(latencies)
}

/// The way to the one broker there is.
struct Requests {
    stream: OwnedWriteHalf,
    topic: String,
    partition: i32,
    partitions: i32,
    table: Table,
    scratch: BytesMut,
}

impl Requests {
    fn new(stream: OwnedWriteHalf, options: &Options) -> Self {
        Self {
            stream,
            topic: options.topic.clone(),
            partition: 0,
            partitions: options.partitions,
            table: Table::new(options.size, options.key),
            scratch: BytesMut::new(),
        }
    }

    /// Writes a batch of so many records to the next partition.
    async fn send(&mut self, records: u64) -> Result<()> {
        let mut batch = BatchWriter::new(batch_buffer(16 << 10));
        let timestamp = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        for record in self.table.records().iter().cycle().take(usize::try_from(records)?) {
            batch.append(timestamp, Some(&record.key), Some(&record.value), &[])?;
        }
        let records = batch.finish()?.freeze();
        let partitions = [PartitionRecords {
            topic: TopicRef { name: &self.topic, id: [0; 16] },
            index: self.partition,
            records,
        }];
        self.partition = (self.partition + 1) % self.partitions;
        let request =
            Request { transactional_id: None, acks: -1, timeout_ms: 30_000, partitions: &partitions };
        let body = request.encode(VERSION, &mut self.scratch)?;
        let header =
            RequestHeader { api: Api::Produce, version: VERSION, correlation_id: 0, client_id: Some("raw") };
        let mut frame = BytesMut::new();
        header.encode_into(body.iter().map(|part| part.len()).sum(), &mut frame)?;
        body.iter().for_each(|part| frame.put_slice(part));
        self.stream.write_all(&frame).await?;
        Ok(())
    }
}

/// The way back.
struct Answers {
    stream: OwnedReadHalf,
    buffer: BytesMut,
}

impl Answers {
    /// Waits for the next answer. Dropped meanwhile, it loses nothing.
    async fn next(&mut self) -> Result<()> {
        loop {
            if let Some(length) = self.buffer.get(..4) {
                let length = usize::try_from(i32::from_be_bytes(length.try_into()?))?;
                if self.buffer.len() >= 4 + length {
                    self.buffer.advance(4);
                    return check(&self.buffer.split_to(length));
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Error::failed("the broker has closed the connection"));
            }
        }
    }
}

fn check(answer: &[u8]) -> Result<()> {
    // The correlation id and no tagged fields.
    let body = answer.get(5..).ok_or_else(|| Error::failed("a short answer"))?;
    let answer = ResponseView::decode(VERSION, body)?;
    match answer.partitions().find(|partition| partition.outcome.error_code != 0) {
        Some(refused) => Err(Error::failed(ErrorCode(refused.outcome.error_code))),
        None => Ok(()),
    }
}

//! One Produce request for each tick over a plain socket, written and read by hand: nothing can be much sooner.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use driver::{Error, Latencies, Mode, Options, Reading, Report, Result, Table, Ticks, due, since_epoch_us};
use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::header::RequestHeader;
use kafka_wire::produce::{PartitionRecords, Request, ResponseView, TopicRef};
use kafka_wire::record_batch::{BatchWriter, batch_buffer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The last version that names topics, so that no metadata is needed.
const VERSION: i16 = 12;
/// The distance of the requests.
const INTERVAL: Duration = Duration::from_millis(1);

pub(crate) fn run(options: &Options) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let reading = Reading::now()?;
        let mut socket = Socket::connect(options).await?;
        if options.mode == Mode::Start {
            socket.produce(1).await?;
            let first_ack_us = since_epoch_us(options)?;
            let mut report = Report::new(options, crate::version(), reading.used()?)?;
            report.first_ack_us = Some(first_ack_us);
            (report.records, report.acked_total, report.bytes) = (1, 1, socket.table.bytes(1));
            return Ok(report);
        }
        let warmup = phase(&mut socket, options.rate, options.warmup).await?;
        let reading = Reading::now()?;
        let window = phase(&mut socket, options.rate, options.seconds).await?;
        window.report(options, crate::version(), reading, &warmup)
    })
}

async fn phase(socket: &mut Socket, rate: u64, time: Duration) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let mut ticks = Ticks::start(INTERVAL)?;
    let end = u64::try_from(time.as_nanos() / INTERVAL.as_nanos())?;
    let mut passed = 0;
    while passed < end {
        let late = ticks.passed().await?;
        passed = late.end;
        for tick in late.start..late.end.min(end) {
            let records = due(rate, INTERVAL, tick);
            if records > 0 {
                socket.produce(records).await?;
            }
            (0..records).for_each(|_| latencies.settled(ticks.due_ns(tick), Ok(())));
        }
    }
    Ok(latencies)
}

/// A connection to the one broker there is.
struct Socket {
    stream: TcpStream,
    topic: String,
    partition: i32,
    partitions: i32,
    table: Table,
    scratch: BytesMut,
    answer: Vec<u8>,
}

impl Socket {
    async fn connect(options: &Options) -> Result<Self> {
        let stream = TcpStream::connect(&options.bootstrap).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            topic: options.topic.clone(),
            partition: 0,
            partitions: options.partitions,
            table: Table::new(options.size, options.key),
            scratch: BytesMut::new(),
            answer: Vec::new(),
        })
    }

    /// Writes a batch of so many records to the next partition and waits for the answer.
    async fn produce(&mut self, records: u64) -> Result<()> {
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
        let length = usize::try_from(self.stream.read_i32().await?)?;
        self.answer.resize(length, 0);
        self.stream.read_exact(&mut self.answer).await?;
        // The correlation id and no tagged fields.
        let body = self.answer.get(5..).ok_or_else(|| Error::failed("a short answer"))?;
        let answer = ResponseView::decode(VERSION, body)?;
        match answer.partitions().find(|partition| partition.outcome.error_code != 0) {
            Some(refused) => Err(Error::failed(ErrorCode(refused.outcome.error_code))),
            None => Ok(()),
        }
    }
}

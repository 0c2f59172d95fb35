//! What the process that started the broker can ask it on stdin while it runs.

use std::io::{self, BufRead, IsTerminal, Write};

use kafka_broker::Cluster;
use tokio::sync::mpsc;

/// A line that means something.
pub(crate) enum Command {
    /// How many requests of each API have come?
    Requests,
}

/// Reads lines until stdin ends. A terminal is not read: a shell stops background jobs that read from it.
pub(crate) fn read() -> mpsc::Receiver<Command> {
    let (sender, receiver) = mpsc::channel(1);
    if !io::stdin().is_terminal() {
        // No task: one that reads cannot be stopped, and the runtime would wait for it.
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                let command = match line.trim() {
                    "requests" => Command::Requests,
                    "" => continue,
                    unknown => {
                        tracing::warn!("no such command: {unknown:?}; there is only: requests");
                        continue;
                    }
                };
                if sender.blocking_send(command).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// Writes a line like `{"Produce":12,"Metadata":1}` to stdout.
pub(crate) fn tell_requests(cluster: &Cluster) -> io::Result<()> {
    let totals = cluster.request_totals();
    let totals: serde_json::Map<_, _> =
        totals.into_iter().map(|(api, count)| (api.name().to_owned(), count.into())).collect();
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", serde_json::Value::Object(totals))?;
    stdout.flush()
}

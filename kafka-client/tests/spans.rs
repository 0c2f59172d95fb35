//! What the client tells through `tracing`. Alone in its process, because a subscriber is the whole process's.
#![allow(clippy::unwrap_used, reason = "helpers of tests may do what tests do")]

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use kafka_broker::{Cluster, on};
use kafka_client::raw::Route;
use kafka_client::raw::wire::messages::{FindCoordinatorRequest, StrBytes};
use kafka_client::{Api, Client};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Notes the fields of every span for requests, and the text of everything.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    spans: Vec<BTreeMap<&'static str, String>>,
    text: String,
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>, &'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = writeln!(self.1, "{}={value:?}", field.name());
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("kafka_client")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let Noted { spans, text } = &mut *self.0.lock().unwrap();
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields, text));
        spans.push(fields);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let Noted { spans, text } = &mut *self.0.lock().unwrap();
        values.record(&mut Fields(&mut spans[id.into_u64() as usize - 1], text));
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Fields(&mut BTreeMap::new(), &mut self.0.lock().unwrap().text));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn every_request_has_one_span_with_its_facts_and_without_its_contents() {
    let notes = Notes::default();
    tracing::subscriber::set_global_default(notes.clone()).unwrap();
    let cluster = Cluster::builder().transport_memory().start().await.unwrap();
    let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap();
    let lost = cluster.fault(on(Api::FindCoordinator).nth(1)).after_effect().close();
    let key = StrBytes::from_static_str("a-secret-in-a-body");
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![key]);
    client.call(Route::Any, request).await.unwrap();
    lost.assert_fired();

    let noted = notes.0.lock().unwrap();
    let answered: usize = client.metrics().requests.iter().map(|api| api.answered as usize).sum();
    assert_eq!(noted.spans.len(), answered + 1, "one for each request, and one was lost");
    let asked: Vec<_> = noted.spans.iter().filter(|span| span["api"] == "\"FindCoordinator\"").collect();
    let [lost, found] = asked[..] else { panic!("{:?}", noted.spans) };
    for span in [lost, found] {
        for field in ["version", "node", "bytes", "correlation", "latency_us"] {
            assert!(span[field].parse::<i64>().is_ok(), "{field} in {span:?}");
        }
        assert_eq!(span["lane"], "\"general\"");
    }
    assert!(
        lost["error"].contains("the broker closed the connection") && !lost.contains_key("response_bytes")
    );
    assert!(!found.contains_key("error") && found.contains_key("response_bytes"));
    assert!(!noted.text.contains("secret"), "{}", noted.text);
}

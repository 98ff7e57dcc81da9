//! Spans as a collector reads them: OTLP 1.x, `ExportTraceServiceRequest` in its JSON mapping.

use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use tonic::Code;

use super::timeline::{End, Finished, Part};

/// The path behind a collector's prefix.
pub const PATH: &str = "v1/traces";

/// The media type.
pub const CONTENT_TYPE: &str = "application/json";

/// `SpanKind`.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;

/// `Status.StatusCode` for an error.
const ERROR: u8 = 2;

/// The request for some calls.
#[must_use]
pub fn request(finished: &[Finished]) -> String {
    let spans: Vec<Value> = finished.iter().flat_map(spans).collect();
    json!({
        "resourceSpans": [{
            "resource": {
                "attributes": [
                    text("service.name", "tokenkeepd"),
                    text("service.version", env!("CARGO_PKG_VERSION")),
                ],
            },
            "scopeSpans": [{
                "scope": { "name": "tokenkeep" },
                "spans": spans,
            }],
        }],
    })
    .to_string()
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// 64-bit numbers are strings in JSON.
fn number(key: &str, value: i64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn spans(call: &Finished) -> Vec<Value> {
    let at = |us: u64| {
        let ns = call.began_unix_ns.saturating_add(us.saturating_mul(1_000));
        ns.to_string()
    };
    let trace_id = hex::encode(call.trace_id);
    let span_id = hex::encode(call.span_id);
    let mut attributes = vec![
        text("rpc.service", call.called.service),
        text("rpc.method", call.called.method),
    ];
    let is_error = match call.end {
        End::Grpc(code) => {
            attributes.push(text("rpc.system", "grpc"));
            attributes.push(number("rpc.grpc.status_code", i64::from(i32::from(code))));
            is_our_error(code)
        }
        End::Http(status) => {
            attributes.push(number("http.response.status_code", i64::from(status)));
            status >= 500
        }
        End::HungUp => {
            let code = i64::from(i32::from(Code::Cancelled));
            attributes.push(number("rpc.grpc.status_code", code));
            false
        }
    };
    if let Some(reason) = call.reason {
        attributes.push(text("tokenkeep.reason", reason));
    }
    let mut own = json!({
        "traceId": trace_id,
        "spanId": span_id,
        "name": format!("{}/{}", call.called.service, call.called.method),
        "kind": SERVER,
        "startTimeUnixNano": at(0),
        "endTimeUnixNano": at(call.took_us),
        "attributes": attributes,
        "status": if is_error { json!({ "code": ERROR }) } else { json!({}) },
    });
    if let (Some(parent), Some(own)) = (call.parent_span_id, own.as_object_mut()) {
        own.insert("parentSpanId".to_owned(), hex::encode(parent).into());
    }
    let mut all = vec![own];
    let rng = SystemRandom::new();
    for Part {
        name,
        begins_us,
        ends_us,
    } in &call.parts
    {
        let mut id = [0; 8];
        if rng.fill(&mut id).is_err() {
            break;
        }
        all.push(json!({
            "traceId": trace_id,
            "spanId": hex::encode(id),
            "parentSpanId": span_id,
            "name": name,
            "kind": INTERNAL,
            "startTimeUnixNano": at(*begins_us),
            "endTimeUnixNano": at(*ends_us),
        }));
    }
    all
}

/// The codes that are a server's error rather than the caller's [OpenTelemetry semantic conventions for gRPC].
fn is_our_error(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::timeline::finished_for_tests;

    #[test]
    fn a_call_is_a_span_and_each_part_one_below_it() {
        let sent: Value = serde_json::from_str(&request(&[finished_for_tests()])).unwrap();
        let spans = &sent["resourceSpans"][0]["scopeSpans"][0]["spans"];
        let part_id = spans[1]["spanId"].as_str().unwrap();
        assert_eq!(part_id.len(), 16);
        let expected = json!([
            {
                "traceId": "0a".repeat(16),
                "spanId": "0b".repeat(8),
                "parentSpanId": "0c".repeat(8),
                "name": "tokenkeep.v1.TokenService/IssueToken",
                "kind": 2,
                "startTimeUnixNano": "1793491200000000000",
                "endTimeUnixNano": "1793491200001500000",
                "attributes": [
                    { "key": "rpc.service", "value": { "stringValue": "tokenkeep.v1.TokenService" } },
                    { "key": "rpc.method", "value": { "stringValue": "IssueToken" } },
                    { "key": "rpc.system", "value": { "stringValue": "grpc" } },
                    { "key": "rpc.grpc.status_code", "value": { "intValue": "16" } },
                    { "key": "tokenkeep.reason", "value": { "stringValue": "USE_DPOP_NONCE" } },
                ],
                "status": {},
            },
            {
                "traceId": "0a".repeat(16),
                "spanId": part_id,
                "parentSpanId": "0b".repeat(8),
                "name": "proof",
                "kind": 1,
                "startTimeUnixNano": "1793491200000100000",
                "endTimeUnixNano": "1793491200000250000",
            },
        ]);
        assert_eq!(*spans, expected);
    }

    #[test]
    fn errors_of_the_service_are_marked() {
        let status = |end| {
            let call = Finished {
                end,
                parent_span_id: None,
                ..finished_for_tests()
            };
            let span = &spans(&call)[0];
            assert!(span.get("parentSpanId").is_none());
            span["status"].clone()
        };
        let error = json!({ "code": 2 });
        assert_eq!(status(End::Grpc(Code::Internal)), error);
        assert_eq!(status(End::HungUp), json!({}));
        assert_eq!(status(End::Grpc(Code::Ok)), json!({}));
        assert_eq!(status(End::Http(502)), error);
        assert_eq!(status(End::Http(404)), json!({}));
    }
}

//! gRPC calls by method: how many, how they ended, how long they took until the answer's head.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

use super::counter::{Counters, Inside, Level};
use super::histogram::{Durations, durations};
use super::reasons::Reasons;
use super::{Watch, is_on};

/// The names of gRPC's codes, by their numbers.
pub const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Services that are not of the contract's own package.
const FOREIGN: [(&str, &str, bool); 2] = [
    ("grpc.health.v1.Health", "Check", false),
    ("grpc.health.v1.Health", "Watch", true),
];

/// What is counted for whatever is no method: paths are the peer's to choose.
const OTHER: &str = "other";

/// Calls that were not let in, by reason.
pub static SHED: Reasons = Reasons::new();

/// Calls that are under way.
pub static UNDER_WAY: Level = Level::new();

static METHODS: LazyLock<Methods> = LazyLock::new(Methods::of_contract);

/// A method of the contract, and its numbers.
#[derive(Debug)]
pub struct Method {
    /// The service's full name.
    pub service: String,
    /// The method's.
    pub name: String,
    /// Whether its answer is a stream.
    pub streams: bool,
    /// Calls that ended, by code.
    pub ended: Counters<{ CODES.len() }>,
    /// How long they took.
    pub took: Durations,
}

impl Method {
    fn new(service: &str, name: &str, streams: bool) -> Self {
        Self {
            service: service.to_owned(),
            name: name.to_owned(),
            streams,
            ended: Counters::new(),
            took: durations(),
        }
    }
}

struct Methods {
    by_path: HashMap<String, Method>,
    other: Method,
}

impl Methods {
    fn of_contract() -> Self {
        // It is part of this program.
        let files = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap_or_default();
        let mut by_path = HashMap::new();
        let mut put = |service: &str, name: &str, streams| {
            let method = Method::new(service, name, streams);
            by_path.insert(format!("/{service}/{name}"), method);
        };
        for file in &files.file {
            for service in &file.service {
                let full = format!("{}.{}", file.package(), service.name());
                for method in &service.method {
                    put(&full, method.name(), method.server_streaming());
                }
            }
        }
        for (service, name, streams) in FOREIGN {
            put(service, name, streams);
        }
        Self {
            by_path,
            other: Method::new(OTHER, OTHER, false),
        }
    }
}

/// Each method with its numbers, in the order of their names, and what is none.
#[must_use]
pub fn methods() -> Vec<&'static Method> {
    let Methods { by_path, other } = &*METHODS;
    let mut all: Vec<_> = by_path.values().collect();
    all.sort_by(|a, b| (&a.service, &a.name).cmp(&(&b.service, &b.name)));
    all.push(other);
    all
}

/// A call that is under way. One that is dropped was cancelled.
#[derive(Debug)]
#[must_use = "say how it ended"]
pub struct Call {
    method: &'static Method,
    watch: Watch,
    code: Code,
    _under_way: Inside,
}

/// The method of a path, or what stands for whatever is none.
#[must_use]
pub fn method(path: &str) -> &'static Method {
    let methods = &*METHODS;
    methods.by_path.get(path).unwrap_or(&methods.other)
}

/// Begins to measure a call, if anything is measured.
pub fn begin(method: &'static Method) -> Option<Call> {
    is_on().then(|| Call {
        method,
        watch: Watch::start(),
        code: Code::Cancelled,
        _under_way: UNDER_WAY.enter(),
    })
}

impl Call {
    /// It was answered with this code.
    pub fn ended(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let at = usize::try_from(i32::from(self.code)).unwrap_or_default();
        self.method.ended.one(at);
        self.watch.stop(&self.method.took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(method: &Method, code: Code) -> u64 {
        method
            .ended
            .value(usize::try_from(i32::from(code)).unwrap())
    }

    #[test]
    fn each_method_of_the_contract_is_there() {
        let all = methods();
        let names: Vec<String> = all
            .iter()
            .map(|method| format!("{}/{}", method.service, method.name))
            .collect();
        for name in [
            "tokenkeep.v1.TokenService/IssueToken",
            "tokenkeep.v1.AttestationService/GetEvidence",
            "grpc.health.v1.Health/Check",
            "other/other",
        ] {
            assert!(names.iter().any(|found| found == name), "{names:?}");
        }
    }

    #[test]
    fn codes_have_their_numbers() {
        for (number, name) in CODES.iter().enumerate() {
            let code = Code::from_i32(i32::try_from(number).unwrap());
            assert_eq!(format!("{code:?}").to_uppercase(), name.replace('_', ""));
        }
    }

    #[test]
    fn a_call_is_counted_by_its_method_and_its_end_and_any_other_path_as_one() {
        crate::metrics::switch_on();
        let method = method("/tokenkeep.v1.RegistryService/ListVendors");
        assert_eq!(method.name, "ListVendors");
        drop(begin(method));
        let (cancelled, took) = (count(method, Code::Cancelled), method.took.read().count);
        assert_eq!((cancelled, took), (1, 1));
        begin(method).unwrap().ended(Code::PermissionDenied);
        assert_eq!(count(method, Code::PermissionDenied), 1);
        let kinds = methods().len();
        for number in 0..10_000 {
            let path = format!("/tokenkeep.v1.TokenService/Secret{number}");
            let method = super::method(&path);
            assert_eq!(method.name, OTHER);
            begin(method).unwrap().ended(Code::Unimplemented);
        }
        assert_eq!(methods().len(), kinds);
        let other = methods().pop().unwrap();
        assert_eq!(count(other, Code::Unimplemented), 10_000);
    }
}
